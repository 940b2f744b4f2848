//! How single things are shown: aligned `key  value` lines, and words that can be pasted into a shell.

use comfy_table::{Cell, ColumnConstraint, ContentArrangement, Table, Width, presets};

use crate::control::is_unseen;

/// Lines of `key  value`, the values below each other. An empty key continues the line above. On a terminal a value that
/// is too long goes on below its begin, elsewhere it stays on its line.
pub(super) fn aligned(fields: &[(&str, String)]) -> String {
    within(terminal_width(), fields)
}

/// Columns of the terminal that stdout goes to, `None` where it goes to none. One that does not tell its size, as on a serial
/// line, has as many as most.
pub(super) fn terminal_width() -> Option<u16> {
    Table::new().width().map(|width| if width == 0 { 80 } else { width })
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

/// `text` on one line, without what a terminal would obey or hide: ids and names come from the application's rows, or
/// were written by hand, in SQL. Line breaks and tabs become blanks, whatever else [`is_unseen`] is escaped: `\u{202e}`.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_unseen(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// JSON on one line, with what [`is_unseen`] escaped in its strings, so that it means the same.
pub(super) fn printable_json(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unseen(c) {
            shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    shown
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
        assert_eq!(within(None, &fields), "tenant  acme\nurl     x\n        y\\u{1b}[2J");
    }

    #[test]
    fn a_long_value_goes_on_below_its_begin() {
        let fields = [("error", "the receiver said nothing".to_owned()), ("http", "503".to_owned())];
        assert_eq!(within(Some(21), &fields), "error  the receiver\n       said nothing\nhttp   503");
    }

    #[test]
    fn nothing_from_a_row_can_steer_the_terminal() {
        let row = "a\x1b[2Jb\u{9b}c\nd\u{202e}e\u{200b} ü e\u{301} \u{e0041}";
        assert_eq!(printable(row), r"a\u{1b}[2Jb\u{9b}c d\u{202e}e\u{200b} ü é \u{e0041}".replace('é', "e\u{301}"));
    }

    #[test]
    fn json_with_unseen_characters_means_the_same() {
        let object = serde_json::json!({ "tenant_id": "a\u{202e}\u{9b}\u{e0041} ü\n" });
        let shown = printable_json(&object.to_string());
        assert_eq!(shown, r#"{"tenant_id":"a\u202e\u009b\udb40\udc41 ü\n"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), object);
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
