//! What is said to a terminal only: colours, a progress line, and nothing that would steer it.

use std::io::{self, IsTerminal as _, Write as _};

use super::output;

/// Ids and names come from the application's rows. A control character among them could rewrite what stands on the
/// operator's terminal, so each becomes U+FFFD; line breaks and tabs become blanks.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        // The last ones turn the direction of what follows.
        c if c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}') => {
            char::REPLACEMENT_CHARACTER
        }
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The colours that we use, as SGR numbers (ECMA-48, 8.3.117).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Green = 32,
    Yellow = 33,
    Red = 31,
}

/// `text` in a colour on a terminal, as it is elsewhere.
pub(super) fn coloured(text: &str, colour: Colour) -> String {
    if output::is_terminal() { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
}

/// A line that is written over and over while something long goes on; nothing where stderr is no terminal.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_row_can_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\nd\u{202e}e ü"), "a\u{FFFD}[2Jb\u{FFFD}c d\u{FFFD}e ü");
    }
}
