//! Points at which the program can be made to end as by `kill -9`, so that tests can show what becomes of what was under
//! way. They exist only in a build with the feature `failpoints`, which is for tests alone.
//!
//! `FAILPOINTS` in the environment says what happens where, in the words of the crate `fail`:
//! `claim::committed=panic` ends it at the first time, `sending::answered=1%panic` at one time in a hundred.

/// The program has come to the point of this name.
#[cfg(feature = "failpoints")]
pub fn reached(name: &str) {
    fail::fail_point!(name);
}

/// The program has come to the point of this name; nothing happens.
#[cfg(not(feature = "failpoints"))]
pub fn reached(_: &str) {}

/// Reads the environment. From here on a panic ends the program at once: nothing is unwound or signed off.
#[cfg(feature = "failpoints")]
pub fn arm() {
    std::panic::set_hook(Box::new(|_| {
        // It does not return.
        let _ = signal_hook::low_level::raise(signal_hook::consts::SIGKILL);
    }));
    // Dropped, it would take them away again.
    std::mem::forget(fail::FailScenario::setup());
}
