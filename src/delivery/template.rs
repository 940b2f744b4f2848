//! Templates: a JSON document of the tenant's, with placeholders inside its strings.
//!
//! A template is parsed once, when it is saved; what is kept is the tree with every string cut into literal and
//! placeholder parts. Rendering walks that tree: a value is escaped as part of a JSON string and never looked at
//! again, so it can neither break nor extend the document, nor be expanded. Reading is `reader`'s, the words
//! are `placeholder`'s, what is refused is `fault`'s.

mod fault;
mod placeholder;
mod reader;

use std::{borrow::Cow, fmt, io, sync::Arc};

use serde::Serializer as _;

pub use fault::{JsonHint, Place, TemplateFault};
pub use placeholder::Placeholder;

use super::body::{self, TooLong};
use crate::event::Event;

/// The longest template, in bytes. A body is far shorter; this bounds what one tenant can make every send cost.
pub const MAX_BYTES: usize = 64 * 1024;

/// The deepest nesting of objects and arrays, the outermost being level 1. Many receivers stop at 100 or less.
pub const MAX_DEPTH: usize = 64;

/// As many faults are told: more help nobody, and a hundred kilobytes can hold ten thousand.
pub const MAX_FAULTS: usize = 100;

/// A template that passed every check of the specification (section 3). Cheap to clone.
///
/// Its `Debug` shows the placeholders only: people write tokens into templates.
#[derive(Clone)]
pub struct Template(Arc<Compiled>);

struct Compiled {
    text: String,
    root: Node,
}

/// One value of the document, ready to be written.
#[derive(Debug, PartialEq, Eq)]
enum Node {
    /// A number as it was spelled, `true`, `false`, `null`, or a string without placeholders with its quotes.
    Fixed(Box<str>),
    /// A string with at least one placeholder.
    Text(Vec<Part>),
    Array(Vec<Node>),
    /// Each key with its quotes.
    Object(Vec<(Box<str>, Node)>),
}

/// A piece of a string, unescaped.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Literal(Box<str>),
    Placeholder(Placeholder),
}

impl Template {
    /// Parses a template as it is saved.
    ///
    /// # Errors
    /// Every problem that `text` has, in the order of their places; the tenant must act.
    pub fn parse(text: &str) -> Result<Self, Vec<TemplateFault>> {
        let root = reader::read(text)?;
        Ok(Self(Arc::new(Compiled { text: text.to_owned(), root })))
    }

    /// The template as it was saved.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The body for `event`: compact JSON, with the template's key order and its spelling of numbers.
    ///
    /// What the lead lacks becomes an empty string. With `omit_empty`, members and array elements whose string
    /// holds placeholders only (white space aside) and comes out blank are left out; a literal empty string
    /// stays, and so does an object or array that loses everything. An array's element that is an object goes as a whole
    /// where it held placeholders and all of them did so: what is left of `{"value":"{{phone}}","primary":true}` is no phone.
    ///
    /// # Errors
    /// [`TooLong`].
    pub fn render(&self, event: &Event, omit_empty: bool) -> Result<Vec<u8>, TooLong> {
        let mut body = Body(Vec::with_capacity(self.0.text.len() + 128));
        Renderer::new(event, omit_empty).write(&self.0.root, &mut body)?;
        Ok(body.0)
    }

    /// The placeholders that the template uses, each once, in the order of [`Placeholder::ALL`].
    pub fn placeholders(&self) -> Vec<Placeholder> {
        Placeholder::ALL.into_iter().filter(|placeholder| self.0.root.uses(*placeholder)).collect()
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("placeholders", &self.placeholders()).finish_non_exhaustive()
    }
}

impl Node {
    fn uses(&self, placeholder: Placeholder) -> bool {
        match self {
            Self::Fixed(_) => false,
            Self::Text(parts) => parts.contains(&Part::Placeholder(placeholder)),
            Self::Array(elements) => elements.iter().any(|element| element.uses(placeholder)),
            Self::Object(members) => members.iter().any(|(_, value)| value.uses(placeholder)),
        }
    }
}

/// What one rendering depends on.
struct Renderer<'a> {
    event: &'a Event,
    omit_empty: bool,
    /// Placeholders whose value is blank. They are looked through once: a template names one thousands of times, and a visitor
    /// may have typed a million blanks.
    blank: Vec<Placeholder>,
}

impl<'a> Renderer<'a> {
    fn new(event: &'a Event, omit_empty: bool) -> Self {
        let is_blank = |placeholder: &Placeholder| placeholder.value(event).is_none_or(|value| value.trim().is_empty());
        let blank = if omit_empty { Placeholder::ALL.into_iter().filter(is_blank).collect() } else { Vec::new() };
        Self { event, omit_empty, blank }
    }

    fn write(&self, node: &Node, body: &mut Body) -> Result<(), TooLong> {
        match node {
            Node::Fixed(json) => body.extend(json.as_bytes()),
            Node::Text(parts) => {
                let text = Text { renderer: self, parts };
                serde_json::Serializer::new(body).collect_str(&text).map_err(|_| TooLong)
            }
            Node::Array(elements) => {
                let kept = elements.iter().filter(|element| !self.omits_element(element));
                list(body, [b"[", b"]"], kept, |element, body| self.write(element, body))
            }
            Node::Object(members) => {
                let kept = members.iter().filter(|(_, value)| !self.omits(value));
                list(body, [b"{", b"}"], kept, |(key, value), body| {
                    body.extend(key.as_bytes())?;
                    body.extend(b":")?;
                    self.write(value, body)
                })
            }
        }
    }

    fn substitute<'s>(&'s self, part: &'s Part) -> Cow<'s, str> {
        match part {
            Part::Literal(literal) => Cow::from(&**literal),
            Part::Placeholder(placeholder) => placeholder.value(self.event).unwrap_or_default(),
        }
    }

    /// A literal part that is not blank makes the whole string not blank: no need to look at the other parts.
    fn omits(&self, node: &Node) -> bool {
        let is_blank = |part: &Part| match part {
            Part::Literal(literal) => literal.trim().is_empty(),
            Part::Placeholder(placeholder) => self.blank.contains(placeholder),
        };
        self.omit_empty && matches!(node, Node::Text(parts) if parts.iter().all(is_blank))
    }

    fn omits_element(&self, element: &Node) -> bool {
        let uses_some = || Placeholder::ALL.iter().any(|placeholder| element.uses(*placeholder));
        match element {
            Node::Object(_) => self.omit_empty && uses_some() && self.is_hollow(element),
            _ => self.omits(element),
        }
    }

    /// Whether no placeholder in it made anything.
    fn is_hollow(&self, node: &Node) -> bool {
        match node {
            Node::Fixed(_) => true,
            Node::Text(_) => self.omits(node),
            Node::Array(elements) => elements.iter().all(|element| self.is_hollow(element)),
            Node::Object(members) => members.iter().all(|(_, value)| self.is_hollow(value)),
        }
    }
}

/// A string with its placeholders filled in. It is escaped piece by piece into the body, never put together.
struct Text<'a> {
    renderer: &'a Renderer<'a>,
    parts: &'a [Part],
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| f.write_str(&self.renderer.substitute(part)))
    }
}

/// What is written, up to the longest that is sent.
struct Body(Vec<u8>);

impl Body {
    fn extend(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.0.len() + bytes.len() > body::MAX_BYTES {
            return Err(TooLong);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

impl io::Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.extend(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes `items` between brackets, separated by commas.
fn list<T>(
    body: &mut Body,
    [open, close]: [&[u8]; 2],
    items: impl Iterator<Item = T>,
    write: impl Fn(T, &mut Body) -> Result<(), TooLong>,
) -> Result<(), TooLong> {
    body.extend(open)?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            body.extend(b",")?;
        }
        write(item, body)?;
    }
    body.extend(close)
}

/// `text` as a JSON string with its quotes.
fn json_string(text: &str) -> String {
    let Ok(json) = serde_json::to_string(text) else { unreachable!("a string is written to memory") };
    json
}

#[cfg(test)]
mod tests;
