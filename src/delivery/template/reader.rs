//! From a template's text to its tree, noting every problem on the way.
//!
//! `serde_json` decides what is JSON and where each token ends; here only brackets, commas and colons are
//! followed. Reading into `serde_json::Value` instead would lose what matters: the second of two equal keys, the
//! spelling of numbers (`1E5`), and the place of everything.

use std::collections::HashSet;

use serde::de::IgnoredAny;
use serde_json::Deserializer;

use super::{
    MAX_BYTES, MAX_DEPTH, MAX_FAULTS, Node, Part, Placeholder, TemplateFault,
    fault::{JsonHint, Place},
    json_string,
};

/// The longest key or word that a fault repeats, in characters.
const SHOWN: usize = 40;

/// Reads `text`; what it returns is free of faults.
pub(super) fn read(text: &str) -> Result<Node, Vec<TemplateFault>> {
    if text.len() > MAX_BYTES {
        return Err(vec![TemplateFault::TooLong { bytes: text.len() }]);
    }
    let mut reader = Reader { text, at: 0, path: Vec::new(), faults: Vec::new(), more: 0, counted: (0, 1, 1) };
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        reader.invalid(&error);
        return Err(reader.all_faults());
    }
    let root = reader.value();
    if reader.faults.is_empty() { Ok(root) } else { Err(reader.all_faults()) }
}

/// Walks over a text that is known to be JSON.
struct Reader<'t> {
    text: &'t str,
    /// The byte that is read next.
    at: usize,
    /// The steps from the root to the value that is being read, as a path spells them.
    path: Vec<String>,
    faults: Vec<TemplateFault>,
    /// Faults beside those.
    more: usize,
    /// The byte up to which lines and columns are counted, and where that is: faults come in order, and there may
    /// be thousands.
    counted: (usize, usize, usize),
}

impl<'t> Reader<'t> {
    /// Notes what is wrong at a byte, where it is not one of too many.
    fn note(&mut self, at: usize, fault: impl FnOnce(Place) -> TemplateFault) {
        if self.faults.len() < MAX_FAULTS {
            let place = self.place(at);
            self.faults.push(fault(place));
        } else {
            self.more += 1;
        }
    }

    fn all_faults(self) -> Vec<TemplateFault> {
        let more = (self.more > 0).then_some(TemplateFault::More { more: self.more });
        self.faults.into_iter().chain(more).collect()
    }

    fn value(&mut self) -> Node {
        let start = self.skip_space();
        match self.rest().chars().next() {
            Some('{' | '[') if self.path.len() >= MAX_DEPTH => {
                self.note(start, |place| TemplateFault::TooDeep { place });
                Node::Fixed(self.token().into())
            }
            Some('{') => self.object(),
            Some('[') => self.array(),
            Some('"') => {
                let text = self.string();
                self.text_node(&text, start)
            }
            _ => Node::Fixed(self.token().into()),
        }
    }

    fn object(&mut self) -> Node {
        let mut members = Vec::new();
        let mut keys = HashSet::new();
        while self.another('}') {
            let start = self.skip_space();
            let key = self.string();
            self.path.push(member_step(&key));
            if key.contains("{{") {
                self.note(start, |place| TemplateFault::PlaceholderInKey { place });
            }
            let written = json_string(&key);
            if !keys.insert(key) {
                self.note(start, |place| TemplateFault::DuplicateKey { place });
            }
            self.skip_space();
            self.at += 1; // the colon
            members.push((written.into(), self.value()));
            self.path.pop();
        }
        Node::Object(members)
    }

    fn array(&mut self) -> Node {
        let mut elements = Vec::new();
        while self.another(']') {
            self.path.push(format!("[{}]", elements.len()));
            elements.push(self.value());
            self.path.pop();
        }
        Node::Array(elements)
    }

    /// Steps over `{`, `[` or `,`, which begin another item, or over `close`, which ends them.
    fn another(&mut self, close: char) -> bool {
        self.skip_space();
        if !self.rest().starts_with(close) {
            self.at += 1;
            self.skip_space();
        }
        // The end of the text is only for the reader's own safety: what is read here is whole.
        let ended = self.rest().starts_with(close) || self.rest().is_empty();
        if ended {
            self.at += 1;
        }
        !ended
    }

    /// Reads a string. A lone surrogate is the one thing that only unescaping finds.
    fn string(&mut self) -> String {
        let start = self.at;
        serde_json::from_str(self.token()).unwrap_or_else(|error| {
            let problem = message(&error);
            self.note(start, |place| TemplateFault::InvalidJson { place, problem, hint: JsonHint::None });
            String::new()
        })
    }

    fn text_node(&mut self, text: &str, start: usize) -> Node {
        let parts = self.parts(text, start);
        if parts.iter().any(|part| matches!(part, Part::Placeholder(_))) {
            Node::Text(parts)
        } else {
            Node::Fixed(json_string(text).into())
        }
    }

    /// Cuts a string into its parts. A `}}` that closes nothing is literal.
    fn parts(&mut self, text: &str, start: usize) -> Vec<Part> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Literal(before.into()));
            }
            rest = match closed(after) {
                Ok((word, behind)) => {
                    match Placeholder::from_word(word) {
                        Some(placeholder) => parts.push(Part::Placeholder(placeholder)),
                        None => self.unknown(word, start),
                    }
                    behind
                }
                Err(behind) => {
                    self.unclosed(after, start);
                    behind
                }
            };
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.into()));
        }
        parts
    }

    fn unknown(&mut self, word: &str, start: usize) {
        self.note(start, |place| {
            let nearest = Placeholder::nearest(word);
            let is_name = word.len() <= SHOWN && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-. ".contains(c));
            TemplateFault::UnknownPlaceholder { place, word: is_name.then(|| word.to_owned()), nearest }
        });
    }

    fn unclosed(&mut self, after: &str, start: usize) {
        self.note(start, |place| {
            let word: String = after.trim_start().chars().take_while(char::is_ascii_alphanumeric).collect();
            TemplateFault::UnclosedPlaceholder { place, nearest: Placeholder::nearest(&word) }
        });
    }

    /// Notes why the text is no JSON, and those placeholders in it that would be refused next.
    fn invalid(&mut self, error: &serde_json::Error) {
        let line_start =
            self.text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
        let at = line_start + error.column().saturating_sub(1);
        let hint = self.hint(at);
        let problem = message(error);
        self.note(at, |place| TemplateFault::InvalidJson { place: Place { path: None, ..place }, problem, hint });
        self.words();
    }

    /// What was probably meant where reading ended at `at`.
    fn hint(&self, at: usize) -> JsonHint {
        let (before, from) = self.text.split_at_checked(at).unwrap_or((self.text, ""));
        if self.text.starts_with('\u{feff}') {
            JsonHint::ByteOrderMark
        } else if before.ends_with('{') && from.starts_with('{') {
            JsonHint::QuotePlaceholder
        } else if before.trim_end().ends_with(',') && from.starts_with(['}', ']']) {
            JsonHint::TrailingComma
        } else {
            JsonHint::None
        }
    }

    /// Notes the unknown placeholders of a text that is no JSON. Only what looks like a name counts: nested
    /// objects have double braces too.
    fn words(&mut self) {
        let text = self.text;
        for (start, _) in text.match_indices("{{") {
            let Ok((word, _)) = closed(text.get(start + 2..).unwrap_or_default()) else { continue };
            let is_name = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
            if is_name && word.len() <= SHOWN && Placeholder::from_word(word).is_none() {
                self.note(start, |place| {
                    let (place, nearest) = (Place { path: None, ..place }, Placeholder::nearest(word));
                    TemplateFault::UnknownPlaceholder { place, word: Some(word.to_owned()), nearest }
                });
            }
        }
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn skip_space(&mut self) -> usize {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
        self.at
    }

    /// Steps over one value, of whatever kind, and returns its text.
    fn token(&mut self) -> &'t str {
        let rest = self.rest();
        let mut values = Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        let _ = values.next();
        let length = values.byte_offset();
        self.at += length;
        rest.get(..length).unwrap_or_default()
    }

    fn place(&mut self, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let (from, mut line, mut column) = if self.counted.0 <= at { self.counted } else { (0, 1, 1) };
        for c in self.text.get(from..at).unwrap_or_default().chars() {
            (line, column) = if c == '\n' { (line + 1, 1) } else { (line, column + 1) };
        }
        self.counted = (at, line, column);
        Place { path: Some(format!("${}", self.path.concat())), line, column }
    }
}

/// What stands before the `}}` that closes a placeholder, trimmed, and what stands behind it; `Err` with where to
/// go on where none closes it: at the next `{{`, or at the end.
fn closed(after: &str) -> Result<(&str, &str), &str> {
    let (inside, next) = after.split_at_checked(after.find("{{").unwrap_or(after.len())).unwrap_or((after, ""));
    let Some((word, _)) = inside.split_once("}}") else { return Err(next) };
    Ok((word.trim(), after.get(word.len() + 2..).unwrap_or_default()))
}

/// A member's step in a path: `.key`, or `['other key']` where that would be ambiguous.
fn member_step(key: &str) -> String {
    if !key.is_empty() && key.len() <= SHOWN && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return format!(".{key}");
    }
    let shown: String = key.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    let more = if key.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("['{shown}{more}']")
}

/// The parser's message without its place, which is relative to what it was given.
fn message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}
