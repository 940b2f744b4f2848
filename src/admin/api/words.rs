//! The words of the log, for the description.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Status)]
pub(super) enum StatusWord {
    Delivered,
    Failed,
    Interrupted,
    Skipped,
}

/// Of what failed: how.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Failure)]
pub(super) enum FailureWord {
    HttpStatus,
    Redirect,
    Timeout,
    Dns,
    Connect,
    Tls,
    Protocol,
    Blocked,
    Template,
    Secret,
    Headers,
    Lead,
}

/// Of what was skipped: why.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Reason)]
pub(super) enum ReasonWord {
    Disabled,
    NoEndpoint,
    Duplicate,
    Expired,
    Gone,
    Discarded,
}

/// What a delivery tells of.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Event)]
pub(super) enum EventWord {
    #[serde(rename = "lead.created")]
    Created,
    #[serde(rename = "lead.re_engaged")]
    ReEngaged,
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::{
        event::EventKind,
        outcome::{Failure, SkipReason, Status},
    };

    fn all<T: DeserializeOwned + ToSchema>(words: &[&str]) {
        for word in words {
            assert!(serde_json::from_value::<T>((*word).into()).is_ok(), "{word}");
        }
        let schema = serde_json::to_value(T::schema()).unwrap();
        assert_eq!(schema["enum"].as_array().unwrap().len(), words.len(), "{schema}");
    }

    #[test]
    fn the_description_knows_every_word_of_the_log() {
        let interrupted = [Status::Delivered, Status::Failed(Failure::Lead), Status::Interrupted];
        let skipped = Status::Skipped(SkipReason::Gone);
        all::<StatusWord>(&[&interrupted.map(Status::as_str)[..], &[skipped.as_str()]].concat());
        all::<FailureWord>(&Failure::ALL.map(Failure::as_str));
        all::<ReasonWord>(&SkipReason::ALL.map(SkipReason::as_str));
        all::<EventWord>(&[EventKind::Created, EventKind::ReEngaged].map(EventKind::as_str));
    }
}
