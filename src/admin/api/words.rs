//! The words of the log, as the description has them.

use serde::Deserialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::{
    event::EventKind,
    outcome::{Failure, SkipReason, Status},
};

/// A text that is one of some words.
macro_rules! word {
    ($(#[doc = $doc:literal] $name:ident as $shown:literal: $words:expr;)*) => {
        $(
            #[doc = $doc]
            #[derive(Deserialize)]
            pub(super) struct $name;

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let schema = ObjectBuilder::new().schema_type(Type::String).description(Some($doc.trim()));
                    schema.enum_values(Some($words)).into()
                }
            }

            impl ToSchema for $name {
                fn name() -> std::borrow::Cow<'static, str> {
                    $shown.into()
                }
            }
        )*
    };
}

word! {
    /// How a delivery ended.
    StatusWord as "Status": Status::WORDS;
    /// Of what failed: how.
    FailureWord as "Failure": Failure::ALL.map(Failure::as_str);
    /// Of what was skipped: why.
    ReasonWord as "Reason": SkipReason::ALL.map(SkipReason::as_str);
    /// What a delivery tells of.
    EventWord as "Event": EventKind::ALL.map(EventKind::as_str);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<T: ToSchema>(words: &[&str]) {
        let schema = serde_json::to_value(T::schema()).unwrap();
        assert_eq!((&schema["type"], &schema["enum"]), (&"string".into(), &words.into()), "{schema}");
    }

    #[test]
    fn the_description_knows_every_word_of_the_log() {
        let statuses =
            [Status::Delivered, Status::Failed(Failure::Lead), Status::Interrupted, Status::Skipped(SkipReason::Gone)];
        all::<StatusWord>(&statuses.map(Status::as_str));
        all::<FailureWord>(&Failure::ALL.map(Failure::as_str));
        all::<ReasonWord>(&SkipReason::ALL.map(SkipReason::as_str));
        all::<EventWord>(&[EventKind::Created, EventKind::ReEngaged].map(EventKind::as_str));
    }
}
