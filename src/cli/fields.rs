//! How single things are shown: aligned `key  value` lines, and words that can be pasted into a shell.

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, Width, presets};

/// Lines of `key  value`, the values below each other. An empty key continues the line above. On a terminal a value that
/// is too long goes on below its begin, elsewhere it stays on its line.
pub(super) fn aligned(fields: &[(&str, String)]) -> String {
    within(Table::new().width(), fields)
}

/// As [`aligned`], for a terminal of this width, or for no terminal.
fn within(width: Option<u16>, fields: &[(&str, String)]) -> String {
    two_columns(width, fields.iter().map(|(key, value)| [Cell::new(key), Cell::new(printable(value))]))
}

/// Rows of two cells without lines between them: the first column is as wide as its content, the second one takes what
/// is left of `width`.
pub(super) fn two_columns(width: Option<u16>, rows: impl IntoIterator<Item = [Cell; 2]>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).add_rows(rows);
    let first = table.column_max_content_widths().first().copied().unwrap_or_default();
    for column in table.column_iter_mut() {
        let is_first = column.index == 0;
        column.set_padding((0, if is_first { 2 } else { 0 }));
        if is_first {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(first.saturating_add(2))));
        }
    }
    if let Some(width) = width {
        table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.trim_fmt()
}

/// `text` on one line, without what a terminal would obey: ids and names come from the application's rows, or were
/// written by hand, in SQL. Line breaks and tabs become blanks, other control characters U+FFFD.
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

/// `word` as an argument of a command that a person may copy.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@+=,%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", printable(word).replace('\'', r"'\''"))
    }
}

/// Yes or no.
pub(super) fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_each_other() {
        let fields = [("tenant", "acme".to_owned()), ("url", "x".to_owned()), ("", "y\u{1b}[2J".to_owned())];
        assert_eq!(within(None, &fields), "tenant  acme\nurl     x\n        y\u{fffd}[2J");
    }

    #[test]
    fn a_long_value_goes_on_below_its_begin() {
        let fields = [("error", "the receiver said nothing".to_owned()), ("http", "503".to_owned())];
        assert_eq!(within(Some(21), &fields), "error  the receiver\n       said nothing\nhttp   503");
    }

    #[test]
    fn nothing_from_a_row_can_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\u{9b}c\nd\u{202e}e ü"), "a\u{FFFD}[2Jb\u{FFFD}c d\u{FFFD}e ü");
    }

    #[test]
    fn a_word_can_be_pasted_into_a_shell() {
        for (word, expected) in [
            ("acme-1", "acme-1"),
            ("", "''"),
            ("big corp", "'big corp'"),
            ("o'neill; rm", r"'o'\''neill; rm'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
