//! How long to wait before the database is tried again.

use std::time::Duration;

/// The first wait: a server that restarts fast is back soon.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait: short enough that leads are not late for it when the database is back.
const LONGEST: Duration = Duration::from_secs(5);

/// Doubling waits between tries.
#[derive(Debug, Default)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait, up to a quarter longer by chance, so that several daemons do not come back in step.
    pub fn next_wait(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        let mut byte = [0_u8];
        // Without randomness the wait is merely not spread.
        let _ = getrandom::fill(&mut byte);
        wait + wait / 4 * u32::from(byte[0]) / 255
    }

    /// Whether this is the first failure since the last success: the one that is worth a log line.
    pub fn is_first(&self) -> bool {
        self.tries == 0
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}
