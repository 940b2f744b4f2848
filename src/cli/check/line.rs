//! One line of `check`.

use comfy_table::{Cell, Color};
use serde::Serialize;

use crate::{
    cli::fields::{printable, terminal_width, two_columns},
    store::install,
};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but the operator should know.
    Warn,
    /// Leads are not sent, or lost, until the operator acts.
    Fail,
}

/// What was looked at, what was found and what helps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    pub(super) verdict: Verdict,
    pub(super) what: &'static str,
    pub(super) finding: String,
    /// `None` where nothing is to be done.
    pub(super) remedy: Option<String>,
}

impl Line {
    pub(super) fn ok(what: &'static str, finding: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what, finding: finding.into(), remedy: None }
    }

    pub(super) fn warn(what: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what, finding: finding.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn fail(what: &'static str, finding: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what, finding: finding.into(), remedy: Some(remedy.into()) }
    }

    /// What fails with a text that names its remedy already.
    pub(super) fn fail_as_said(what: &'static str, finding: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what, finding: finding.into(), remedy: None }
    }

    /// What was not looked at, because something before it failed.
    pub(super) fn skipped(what: &'static str) -> Self {
        Self::warn(what, "not looked at", "mend what failed above, then check again")
    }

    /// `ok    what: finding – remedy`; on a terminal in colour, and going on below its begin.
    pub(super) fn text(&self) -> String {
        two_columns(terminal_width(), [[self.word(), Cell::new(self.sentence())]])
    }

    /// The verdict, padded so that all lines begin alike.
    fn word(&self) -> Cell {
        match self.verdict {
            Verdict::Ok => Cell::new("ok  ").fg(Color::Green),
            Verdict::Warn => Cell::new("warn").fg(Color::Yellow),
            Verdict::Fail => Cell::new("fail").fg(Color::Red),
        }
    }

    fn sentence(&self) -> String {
        let remedy = self.remedy.as_ref().map_or_else(String::new, |remedy| format!(" – {remedy}"));
        printable(&format!("{}: {}{remedy}", self.what, self.finding))
    }
}

impl From<install::Finding> for Line {
    fn from(finding: install::Finding) -> Self {
        let install::Finding { subject, verdict, text, remedy } = finding;
        let verdict = match verdict {
            install::Verdict::Fine => Verdict::Ok,
            install::Verdict::Warning => Verdict::Warn,
            install::Verdict::Broken => Verdict::Fail,
        };
        Self { verdict, what: subject, finding: text, remedy }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_verdict_subject_finding_and_remedy() {
        let line = Line::warn("clock", "6 s behind\nthe server's", "synchronise it");
        assert_eq!(line.sentence(), "clock: 6 s behind the server's – synchronise it");
        let text = Line::ok("clock", "agrees").text();
        assert!(text.contains("ok") && text.contains("clock: agrees"), "{text}");
        let json = r#"{"verdict":"ok","what":"clock","finding":"agrees","remedy":null}"#;
        assert_eq!(serde_json::to_string(&Line::ok("clock", "agrees")).unwrap(), json);
    }
}
