//! Where a command's words go: data to stdout, messages to stderr.

use std::io::{self, Write};

/// A line of data.
pub(super) fn data(line: &str) {
    // A reader that closes early (`| head`) wants no more; that is no error of ours.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// A line for the person at the terminal.
pub(super) fn message(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// An error; several problems stand one a line.
pub(super) fn error(text: &str) {
    message(&format!("lead-webhook: {text}"));
}
