//! The line that tells how far a long command is.

use std::io::{self, IsTerminal as _, Write as _};

/// A line on stderr that is written over and over; nothing where that is no terminal.
pub(super) struct Progress {
    is_shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_shown: io::stderr().is_terminal() }
    }

    /// Replaces the line.
    pub(super) fn show(&self, text: &str) {
        self.write(&format!("\r\x1b[K{text}"));
    }

    /// Takes the line away.
    pub(super) fn end(self) {
        self.write("\r\x1b[K");
    }

    fn write(&self, text: &str) {
        if self.is_shown {
            let mut stderr = io::stderr().lock();
            // Nobody depends on it.
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        }
    }
}
