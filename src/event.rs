//! What happened to a lead: the [`EventKind`], and the [`Event`] with everything that a body can be made of.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use uuid::Uuid;

/// What an event tells the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// `lead.created`: a visitor left a contact for the first time.
    Created,
    /// `lead.re_engaged`: a known visitor came back after the silence.
    ReEngaged,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Created, Self::ReEngaged];

    /// The word in bodies, headers, SQL and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "lead.created",
            Self::ReEngaged => "lead.re_engaged",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no [`EventKind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown event `{0}`: expected `lead.created` or `lead.re_engaged`")]
pub struct UnknownEvent(pub String);

impl FromStr for EventKind {
    type Err = UnknownEvent;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Created, Self::ReEngaged]
            .into_iter()
            .find(|kind| kind.as_str() == word)
            .ok_or_else(|| UnknownEvent(word.to_owned()))
    }
}

/// One event with the lead's values as they were read at the claim: what a body is made of.
///
/// Its `Debug` shows ids only; the rest is personal data.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The same in a redelivery; receivers dedupe by it (`webhook-id`).
    pub event_id: Uuid,
    /// Created or re-engaged, as the claim decided.
    pub kind: EventKind,
    /// The tenant, as text whatever the column's type.
    pub tenant_id: String,
    /// The lead, as text whatever the column's type.
    pub lead_id: String,
    /// Trimmed by nobody: as it stands in the lead.
    pub email: Option<String>,
    /// As it stands in the lead.
    pub phone: Option<String>,
    /// As it stands in the lead.
    pub first_name: Option<String>,
    /// The present conversation.
    pub conversation_id: Option<String>,
    /// When the lead was first captured; the event's queue time where the lead does not say.
    pub captured_at: Timestamp,
    /// The last conversation before the silence; only with [`EventKind::ReEngaged`].
    pub last_conversation_at: Option<Timestamp>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("event_id", &self.event_id)
            .field("kind", &self.kind)
            .field("tenant_id", &self.tenant_id)
            .field("lead_id", &self.lead_id)
            .finish_non_exhaustive()
    }
}
