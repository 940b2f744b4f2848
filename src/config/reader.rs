//! Takes a configuration apart key by key, and goes on after a problem so that all of them are found.

use std::{collections::BTreeMap, path::PathBuf};

use config::{Value, ValueKind};

use super::problem::{ConfigError, Origin, Problem, closest};

/// What stands at a key.
pub(super) struct Setting {
    kind: ValueKind,
    from_environment: bool,
}

impl Setting {
    /// A setting as a variable makes it.
    #[cfg(test)]
    pub(super) fn from_environment(text: &str) -> Self {
        Self { kind: ValueKind::String(text.to_owned()), from_environment: true }
    }

    /// A text.
    pub(super) fn text(&self) -> Result<&str, String> {
        match &self.kind {
            ValueKind::String(text) => Ok(text),
            other => Err(format!("expected a text in quotes, found {}", named(other))),
        }
    }

    /// A duration's text. A bare 0 needs no unit.
    pub(super) fn duration(&self) -> Result<&str, String> {
        match &self.kind {
            ValueKind::String(text) => Ok(text),
            ValueKind::I64(0) => Ok("0s"),
            other => {
                Err(format!("expected a duration in quotes with its unit, such as \"15s\", found {}", named(other)))
            }
        }
    }

    /// A whole number, which the environment can only spell as a text.
    pub(super) fn integer(&self) -> Result<i64, String> {
        match &self.kind {
            ValueKind::I64(number) => Ok(*number),
            ValueKind::String(text) if self.from_environment => {
                text.trim().parse().map_err(|_| format!("expected a whole number, found {text:?}"))
            }
            other => Err(format!("expected a whole number without quotes, found {}", named(other))),
        }
    }

    /// `true` or `false`, which the environment can only spell as a text.
    pub(super) fn flag(&self) -> Result<bool, String> {
        match &self.kind {
            ValueKind::Boolean(flag) => Ok(*flag),
            ValueKind::String(text) if self.from_environment => {
                text.trim().parse().map_err(|_| format!("expected true or false, found {text:?}"))
            }
            other => Err(format!("expected true or false without quotes, found {}", named(other))),
        }
    }

    /// A list of texts; from the environment separated by commas.
    pub(super) fn list(&self) -> Result<Vec<&str>, String> {
        const EXPECTED: &str = "expected a list of texts, such as [\"one\", \"two\"], found";
        match &self.kind {
            ValueKind::String(text) if self.from_environment => {
                Ok(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect())
            }
            ValueKind::Array(entries) => entries
                .iter()
                .map(|entry| match &entry.kind {
                    ValueKind::String(text) => Ok(text.as_str()),
                    other => Err(format!("{EXPECTED} {} in it", named(other))),
                })
                .collect(),
            other => Err(format!("{EXPECTED} {}", named(other))),
        }
    }
}

/// The type, never the value: it may be a credential in the wrong place.
fn named(kind: &ValueKind) -> &'static str {
    match kind {
        ValueKind::Nil => "nothing",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a number",
        ValueKind::Float(_) => "a number with a fraction",
        ValueKind::String(_) => "a text in quotes",
        ValueKind::Table(_) => "a section",
        ValueKind::Array(_) => "a list",
    }
}

/// The leaves of a configuration, the keys that were asked for, and the problems so far.
pub(super) struct Reader {
    leaves: BTreeMap<String, (Setting, Origin)>,
    known: Vec<&'static str>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Flattens `merged`, whose values come from the file at `path` unless they have the environment as their origin.
    pub(super) fn new(merged: Value, path: PathBuf) -> Self {
        let file = Origin::File(path);
        let mut leaves = BTreeMap::new();
        flatten(String::new(), merged, &file, &mut leaves);
        Self { leaves, known: Vec::new(), problems: Vec::new() }
    }

    /// What `parse` makes of the setting at `key`; `default` where there is none, or a problem is noted.
    pub(super) fn read<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Setting) -> Result<T, String>,
    ) -> T {
        self.read_or(key, || default, parse)
    }

    /// As [`Reader::read`], for a default that must be looked for.
    pub(super) fn read_or<T>(
        &mut self,
        key: &'static str,
        default: impl FnOnce() -> T,
        parse: impl FnOnce(&Setting) -> Result<T, String>,
    ) -> T {
        self.known.push(key);
        let Some((setting, origin)) = self.leaves.remove(key) else { return default() };
        parse(&setting).unwrap_or_else(|text| {
            self.note(key, &origin, text);
            default()
        })
    }

    /// Where the value of `key` comes from. To be asked before it is read.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.leaves.get(key).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Adds a problem that only several keys together show.
    pub(super) fn note(&mut self, key: &str, origin: &Origin, text: impl Into<String>) {
        self.problems.push(Problem { key: Some(key.to_owned()), origin: origin.naming(key), text: text.into() });
    }

    /// Whether there has been no problem with `key`.
    pub(super) fn is_fine(&self, key: &str) -> bool {
        self.problems.iter().all(|problem| problem.key.as_deref() != Some(key))
    }

    /// Ends the reading: keys that nobody asked for are problems too.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, ConfigError> {
        for (key, (setting, origin)) in std::mem::take(&mut self.leaves) {
            self.note_unknown(&key, &setting, &origin);
        }
        if self.problems.is_empty() { Ok(value) } else { Err(ConfigError::new(self.problems)) }
    }

    fn note_unknown(&mut self, key: &str, setting: &Setting, origin: &Origin) {
        let begins = format!("{key}.");
        let text = if self.known.iter().any(|known| known.starts_with(&begins)) {
            // An empty section says nothing, which is fine; a value in its place hides what the section says.
            if matches!(setting.kind, ValueKind::Table(_)) {
                return;
            }
            format!("is a section, not a value: write [{key}] and its keys below")
        } else {
            match closest(key, &self.known) {
                Some(meant) => format!("unknown key; did you mean {meant}?"),
                None => "unknown key: remove it".to_owned(),
            }
        };
        self.note(key, origin, text);
    }

    /// The keys that are set and were not asked for yet.
    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<String> {
        self.leaves.keys().cloned().collect()
    }

    /// The keys that were asked for.
    #[cfg(test)]
    pub(super) fn known(&self) -> &[&'static str] {
        &self.known
    }
}

/// Puts the leaves of `value` into `leaves` by their dotted key. An empty section is a leaf: it may be a misspelt one.
fn flatten(key: String, value: Value, file: &Origin, leaves: &mut BTreeMap<String, (Setting, Origin)>) {
    let from_environment = value.origin() == Some(super::load::ENVIRONMENT);
    match value.kind {
        ValueKind::Table(table) if key.is_empty() || !table.is_empty() => {
            for (word, value) in table {
                let key = if key.is_empty() { word } else { format!("{key}.{word}") };
                flatten(key, value, file, leaves);
            }
        }
        kind => {
            let origin = if from_environment { Origin::Environment } else { file.clone() };
            leaves.insert(key, (Setting { kind, from_environment }, origin));
        }
    }
}
