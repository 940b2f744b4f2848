//! How single things are shown: aligned `key  value` lines, and words that can be pasted into a shell.

/// Lines of `key  value`, the values below each other. An empty key continues the line above.
pub(super) fn aligned(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(key, _)| key.chars().count()).max().unwrap_or_default();
    let lines = fields.iter().map(|(key, value)| format!("{key:width$}  {}", printable(value)));
    lines.collect::<Vec<_>>().join("\n")
}

/// `text` without what a terminal would obey: rows may have been written by hand, in SQL.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
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
        assert_eq!(aligned(&fields), "tenant  acme\nurl     x\n        y\u{fffd}[2J");
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
