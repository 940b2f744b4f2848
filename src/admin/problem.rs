//! What went wrong with a request, as RFC 9457 has it: one object, with every fault of what was given.

use std::{borrow::Cow, time::Duration};

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::sessions::NoSession;
use crate::{
    control::time::whole_seconds,
    store::{Error, session::explain},
};

/// As many faults are told: more help nobody, and whoever sends thousands is to get no megabytes back.
const MOST_FAULTS: usize = 200;

/// One thing that is wrong with what was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct FieldFault {
    /// A JSON pointer into the body, as a URI fragment.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "#/headers/Authorization")]
    pub(super) pointer: Option<String>,
    /// The query's parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameter: Option<Cow<'static, str>>,
    /// What is wrong, and the remedy.
    pub(super) detail: String,
}

impl FieldFault {
    /// Of a place in the body: the names on the way to it.
    pub(super) fn at(path: &[&str], detail: impl Into<String>) -> Self {
        let pointer = path.iter().fold("#".to_owned(), |pointer, name| {
            let name = name.replace('~', "~0").replace('/', "~1");
            let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
            format!("{pointer}/{}", name.replace('+', "%20").replace("%7E", "~"))
        });
        Self { pointer: Some(pointer), parameter: None, detail: detail.into() }
    }

    /// Of a parameter of the query.
    pub(super) fn of(parameter: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self { pointer: None, parameter: Some(parameter.into()), detail: detail.into() }
    }

    /// Place and detail, as a sentence for people.
    pub(super) fn sentence(&self) -> String {
        let place = self.pointer.as_deref().or(self.parameter.as_deref());
        place.map_or_else(|| self.detail.clone(), |place| format!("{place}: {}", self.detail))
    }
}

/// What is answered where something went wrong.
#[derive(Debug)]
pub(super) struct Problem(Box<Details>);

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Details {
    /// Which kind of problem; the same for the same kind.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "urn:lead-webhook:invalid")]
    kind: &'static str,
    /// The kind in words.
    title: &'static str,
    /// The HTTP status code.
    #[serde(serialize_with = "code")]
    #[schema(value_type = u16, example = 422)]
    status: StatusCode,
    /// What happened here, and the remedy.
    detail: Cow<'static, str>,
    /// Everything that is wrong with what was given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldFault>,
    /// Beside it, as a header.
    #[serde(skip)]
    header: Option<(header::HeaderName, HeaderValue)>,
}

fn code<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

macro_rules! kinds {
    ($($name:ident $status:ident $word:literal $title:literal)*) => {
        impl Problem {
            $(
                #[doc = $title]
                pub(super) fn $name(detail: impl Into<Cow<'static, str>>) -> Self {
                    let kind = concat!("urn:lead-webhook:", $word);
                    Self::new(StatusCode::$status, kind, $title, detail.into())
                }
            )*
        }
    };
}

kinds! {
    malformed BAD_REQUEST "malformed" "The request cannot be read"
    unauthorized UNAUTHORIZED "unauthorized" "A valid token is needed"
    forbidden FORBIDDEN "forbidden" "The token does not open this"
    elsewhere FORBIDDEN "elsewhere" "The request came under another name"
    not_found NOT_FOUND "not-found" "There is no such thing"
    not_allowed METHOD_NOT_ALLOWED "method-not-allowed" "The method is not known here"
    conflict CONFLICT "conflict" "It cannot be done as things are"
    changed PRECONDITION_FAILED "changed" "It was changed by somebody else"
    late REQUEST_TIMEOUT "late" "The request did not arrive in time"
    too_large PAYLOAD_TOO_LARGE "too-large" "The body is too large"
    media_type UNSUPPORTED_MEDIA_TYPE "media-type" "The body is of another type"
    invalid_draft UNPROCESSABLE_ENTITY "invalid" "What was given is not valid"
    unconditional PRECONDITION_REQUIRED "unconditional" "The change must name the version that it changes"
    too_many TOO_MANY_REQUESTS "too-many" "Too many requests"
    internal INTERNAL_SERVER_ERROR "internal" "The daemon cannot do it"
    unavailable SERVICE_UNAVAILABLE "unavailable" "The daemon cannot do it just now"
    slow GATEWAY_TIMEOUT "slow" "It took too long"
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, title: &'static str, detail: Cow<'static, str>) -> Self {
        Self(Box::new(Details { kind, title, status, detail, errors: Vec::new(), header: None }))
    }

    /// What was given is not valid: everything that is wrong with it.
    pub(super) fn invalid(errors: Vec<FieldFault>) -> Self {
        Self::invalid_draft("nothing was done: `errors` names everything that is wrong").naming(errors)
    }

    /// The query is not valid: everything that is wrong with it.
    pub(super) fn query(errors: Vec<FieldFault>) -> Self {
        Self::malformed("nothing was done: `errors` names everything that is wrong with the query").naming(errors)
    }

    /// The path is not valid.
    pub(super) fn path(errors: Vec<FieldFault>) -> Self {
        Self::malformed("nothing was done: `errors` names everything that is wrong with the path").naming(errors)
    }

    fn naming(mut self, mut errors: Vec<FieldFault>) -> Self {
        if let Some(more) = errors.len().checked_sub(MOST_FAULTS).filter(|more| *more > 0) {
            errors.truncate(MOST_FAULTS);
            errors.push(FieldFault { pointer: None, parameter: None, detail: format!("and {more} more") });
        }
        self.0.errors = errors;
        self
    }

    fn beside(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    /// What happened, and the remedy.
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The kind in words.
    pub(super) fn title(&self) -> &'static str {
        self.0.title
    }

    /// The HTTP status code.
    pub(super) fn status(&self) -> StatusCode {
        self.0.status
    }

    /// What stands beside it, as a header.
    pub(super) fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        self.0.header.clone()
    }

    /// Everything that is wrong with what was given.
    pub(super) fn errors(&self) -> &[FieldFault] {
        &self.0.errors
    }

    /// With what a client needs to prove who it is.
    pub(super) fn challenge(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::unauthorized(detail).beside(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// With how long to wait.
    pub(super) fn wait(self, wait: Duration) -> Self {
        self.beside(header::RETRY_AFTER, whole_seconds(wait).as_secs().into())
    }

    /// A statement failed.
    pub(super) fn database(error: &Error, daemon_role: &str) -> Self {
        let said = explain(error, daemon_role);
        tracing::warn!(error = said, "the admin listener has no answer from its database");
        Self::unavailable("the database did not do its part; the daemon's log says why").wait(Duration::from_secs(5))
    }
}

impl From<NoSession> for Problem {
    fn from(error: NoSession) -> Self {
        if let NoSession::Busy = error {
            return Self::unavailable(error.to_string()).wait(Duration::from_secs(1));
        }
        tracing::warn!(%error, "the admin listener has no session with its database");
        Self::unavailable("the daemon has no session with its database just now").wait(Duration::from_secs(5))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let header = self.header();
        let mut response = (self.status(), Json(self.0)).into_response();
        let typed = (header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.headers_mut().extend(header.into_iter().chain([typed]).map(|(name, value)| (Some(name), value)));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_escaped_twice() {
        for (path, pointer) in [
            (&[][..], "#"),
            (&["url"], "#/url"),
            (&["headers", "X-Token"], "#/headers/X-Token"),
            (&["headers", "a/b~c d%ü"], "#/headers/a~1b~0c%20d%25%C3%BC"),
        ] {
            assert_eq!(FieldFault::at(path, "").pointer.unwrap(), pointer);
        }
    }
}
