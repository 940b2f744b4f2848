//! A request's body, read member by member, so that every fault is found and not only the first.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use serde_json::{Map, Value};
use tokio::time::timeout;

use crate::{
    admin::problem::{FieldFault, Problem},
    delivery::json::Said,
};

/// Bytes of a body: four times what the longest template has.
pub(in crate::admin) const MOST: usize = 256 * 1024;

/// For the body of somebody who is let in to arrive.
pub(in crate::admin) const PATIENCE: Duration = Duration::from_secs(10);

/// A JSON object. No body, and null, is an empty one.
pub(in crate::admin) struct Body(pub(in crate::admin) Map<String, Value>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let media_type = request.headers().get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
        let essence = media_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        let is_json = match essence.as_deref() {
            Some("application/json" | "application/merge-patch+json") => true,
            Some(_) => return Err(Problem::media_type("send `Content-Type: application/json`")),
            None => false,
        };
        let bytes = arrived(request, state, PATIENCE).await?;
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        if !is_json {
            return Err(Problem::media_type("send `Content-Type: application/json`"));
        }
        if let Ok(Said { twice: Some(name), .. }) = serde_json::from_slice(&bytes) {
            return Err(Problem::malformed(format!("the body names `{}` twice", name.escape_debug())));
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(members)) => Ok(Self(members)),
            Ok(Value::Null) => Ok(Self(Map::new())),
            Ok(_) => Err(Problem::malformed("the body must be a JSON object")),
            Err(error) => {
                let (line, column) = (error.line(), error.column());
                Err(Problem::malformed(format!("the body is no JSON: line {line}, column {column}")))
            }
        }
    }
}

/// The whole of a body, which has so long to arrive.
pub(in crate::admin) async fn arrived<S: Send + Sync>(
    request: Request,
    state: &S,
    patience: Duration,
) -> Result<Bytes, Problem> {
    let arrived = timeout(patience, Bytes::from_request(request, state)).await;
    let arrived = arrived.map_err(|_| Problem::late(format!("send the body within {} seconds", patience.as_secs())))?;
    arrived.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::too_large(format!("at most {MOST} bytes are taken"))
        } else {
            Problem::malformed("the body did not arrive as a whole")
        }
    })
}

/// An object's members: each is taken once, and what is left over is unknown.
pub(super) struct Members<'a> {
    path: &'a [&'a str],
    members: Map<String, Value>,
    known: Vec<&'static str>,
    faults: Vec<FieldFault>,
}

impl<'a> Members<'a> {
    /// Of the object at `path`.
    pub(super) fn new(path: &'a [&'a str], members: Map<String, Value>) -> Self {
        Self { path, members, known: Vec::new(), faults: Vec::new() }
    }

    /// Notes what is wrong with a member.
    pub(super) fn fault(&mut self, names: &[&str], detail: impl Into<String>) {
        self.faults.push(FieldFault::at(&[self.path, names].concat(), detail));
    }

    /// As it stands.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.members.remove(name)
    }

    /// As `read` has it; what it does not take is refused with what it `must` be.
    fn read<T>(&mut self, name: &'static str, must: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = read(self.take(name)?);
        if value.is_none() {
            self.fault(&[name], format!("must be {must}"));
        }
        value
    }

    /// A text; `Some(None)`: null, where that means something.
    pub(super) fn text_or_null(&mut self, name: &'static str) -> Option<Option<String>> {
        self.read(name, "a string, or null", |value| match value {
            Value::String(text) => Some(Some(text)),
            Value::Null => Some(None),
            _ => None,
        })
    }

    /// A text.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.read(name, "a string", |value| if let Value::String(text) = value { Some(text) } else { None })
    }

    /// True or false.
    pub(super) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, "true or false", |value| value.as_bool())
    }

    /// A whole number of milliseconds; `Some(None)`: null.
    pub(super) fn milliseconds_or_null(&mut self, name: &'static str) -> Option<Option<Duration>> {
        self.read(name, "a whole number of milliseconds, or null", |value| match value {
            Value::Null => Some(None),
            value => value.as_u64().map(Duration::from_millis).map(Some),
        })
    }

    /// A whole number from 1 to `most`.
    pub(super) fn count(&mut self, name: &'static str, most: u32) -> Option<u32> {
        self.read(name, &format!("a whole number from 1 to {most}"), |value| {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.filter(|number| (1..=most).contains(number))
        })
    }

    /// One of `words`.
    pub(super) fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meant)| *meant);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            self.fault(&[name], format!("is not known: it is one of {}", words.join(", ")));
        }
        found
    }

    /// An object; without it an empty one.
    pub(super) fn object(&mut self, name: &'static str) -> Map<String, Value> {
        let read = |value| if let Value::Object(members) = value { Some(members) } else { None };
        self.read(name, "an object", read).unwrap_or_default()
    }

    /// Everything that is wrong, members that nobody knows included.
    pub(super) fn end(mut self) -> Vec<FieldFault> {
        let unknown: Vec<String> = self.members.keys().cloned().collect();
        let known = self.known.join(", ");
        for name in unknown {
            self.fault(&[&name], format!("is not known: members are {known}"));
        }
        self.faults
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use axum::body::Body as Stream;
    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let never = Stream::from_stream(stream::pending::<io::Result<Bytes>>());
        // The clock moves on by itself where everything waits.
        let problem = arrived(Request::new(never), &(), PATIENCE).await.unwrap_err();
        assert_eq!(problem.status(), StatusCode::REQUEST_TIMEOUT);
    }
}
