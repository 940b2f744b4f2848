//! What a template can be refused for, with the place of each problem.

use std::fmt;

#[cfg(doc)]
use super::MAX_FAULTS;
use super::{MAX_BYTES, MAX_DEPTH, Placeholder};

/// Where in a template something stands. Never shows a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The path from the root, `$.properties.email` or `$.inputs[0]['first name']`; `None` where the text is no
    /// JSON, and so has no paths.
    pub path: Option<String>,
    /// The line, from 1.
    pub line: usize,
    /// The character in that line, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.path {
            Some(path) => write!(f, "`{path}` (line {}, column {})", self.line, self.column),
            None => write!(f, "line {}, column {}", self.line, self.column),
        }
    }
}

/// One reason why a template is refused; its text names the place and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateFault {
    /// Longer than [`MAX_BYTES`].
    #[error("template: {bytes} bytes, at most {MAX_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// Not JSON; what follows `problem` could not be looked at.
    #[error("template: invalid JSON at {place}: {problem}{hint}")]
    InvalidJson {
        /// Where reading ended.
        place: Place,
        /// What the parser says; never a part of the text.
        problem: String,
        /// What was probably meant.
        hint: JsonHint,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("template: {place} is nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// The first object or array beyond.
        place: Place,
    },
    /// The same key twice in one object: receivers would disagree which one counts.
    #[error("template: {place} is there already: remove or rename one of the two")]
    DuplicateKey {
        /// The second of them.
        place: Place,
    },
    /// `{{` in a key.
    #[error("template: placeholder in the key of {place}: placeholders may stand in values only")]
    PlaceholderInKey {
        /// The member.
        place: Place,
    },
    /// A placeholder that does not exist.
    #[error("template: unknown placeholder{} at {place}: {}", quoted(.word), remedy(*.nearest))]
    UnknownPlaceholder {
        /// The string that it stands in.
        place: Place,
        /// What stood between the braces, where it looks like a name; else `None`.
        word: Option<String>,
        /// The placeholder that was probably meant.
        nearest: Option<Placeholder>,
    },
    /// What is wrong beside the first [`MAX_FAULTS`].
    #[error("template: and {more} more")]
    More {
        /// How many.
        more: usize,
    },
    /// `{{` without `}}` in the same string.
    #[error("template: unclosed placeholder at {place}: `{{{{` needs `}}}}` in the same string{}", meant(*.nearest))]
    UnclosedPlaceholder {
        /// The string that it stands in.
        place: Place,
        /// The placeholder that was probably meant.
        nearest: Option<Placeholder>,
    },
}

/// What was probably meant by a text that is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonHint {
    /// Nothing that we know.
    None,
    /// A placeholder without quotes around it.
    QuotePlaceholder,
    /// A comma behind the last member or element.
    TrailingComma,
    /// A file saved with a byte order mark.
    ByteOrderMark,
}

impl fmt::Display for JsonHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "",
            Self::QuotePlaceholder => "; a placeholder stands inside quotes: `\"{{email}}\"`",
            Self::TrailingComma => "; remove the comma before it",
            Self::ByteOrderMark => "; save it without a byte order mark",
        })
    }
}

fn quoted(word: &Option<String>) -> String {
    word.as_ref().map(|word| format!(" `{{{{{word}}}}}`")).unwrap_or_default()
}

fn meant(nearest: Option<Placeholder>) -> String {
    nearest.map(|nearest| format!("; did you mean `{{{{{nearest}}}}}`?")).unwrap_or_default()
}

fn remedy(nearest: Option<Placeholder>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{{{{{nearest}}}}}`?"),
        None => format!("there are {}", Placeholder::ALL.map(Placeholder::as_str).join(", ")),
    }
}
