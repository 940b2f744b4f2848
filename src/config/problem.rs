//! What is wrong with a configuration: every problem, each with its key, where it came from and the remedy.

use std::{fmt, path::PathBuf};

use super::environment::PREFIX;

/// Why there is no [`Config`](super::Config): every problem at once, one a line. The operator must act.
///
/// Holds no value of a key that may carry a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_a_line(.problems))]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems, in the order of the sample file; unknown keys last.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

fn one_a_line(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, `delivery.timeout`; `None` when it is the file as a whole.
    pub key: Option<String>,
    /// Where the value came from: the file's path, the variable's name, or `default`.
    pub origin: String,
    /// What is wrong, and the remedy.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => write!(f, "{key} ({}): {}", self.origin, self.text),
            None => write!(f, "{}: {}", self.origin, self.text),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The file.
    File(PathBuf),
    /// A variable.
    Environment,
    /// Nobody set it.
    Default,
}

impl Origin {
    /// As a problem with `key` names it.
    pub(super) fn naming(&self, key: &str) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Environment => variable(key),
            Self::Default => "default".to_owned(),
        }
    }
}

/// The variable that sets `key`.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// The known key that `unknown` was most likely meant to be, where one is near.
///
/// The same word in another section is the most common slip, a misspelling the next.
pub(super) fn closest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = last_word(unknown);
    let moved = known.iter().copied().find(|key| last_word(key) == word || unknown.starts_with(&format!("{key}.")));
    moved.or_else(|| {
        let (distance, key) = known.iter().map(|key| (strsim::damerau_levenshtein(unknown, key), *key)).min()?;
        // A third of the letters wrong is a slip, more is another word.
        (distance * 3 <= unknown.chars().count()).then_some(key)
    })
}

fn last_word(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        let known = ["database.password_file", "delivery.timeout", "delivery.connect_timeout", "log.level"];
        for (unknown, meant) in [
            ("delivery.timeuot", Some("delivery.timeout")),
            ("delivry.connect_timeout", Some("delivery.connect_timeout")),
            ("database.password", Some("database.password_file")),
            ("level", Some("log.level")),
            ("delivery.level", Some("log.level")),
            ("delivery.timeout.seconds", Some("delivery.timeout")),
            ("retention.delivered", None),
        ] {
            assert_eq!(closest(unknown, &known), meant, "{unknown}");
        }
    }
}
