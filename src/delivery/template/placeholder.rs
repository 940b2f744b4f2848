//! The words that may stand between `{{` and `}}`, and the nearest of them to a word that may not.

use std::{borrow::Cow, fmt};

use strsim::damerau_levenshtein;

use super::super::payload::format_time;
use crate::event::Event;

/// A value of the lead's that a template can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placeholder {
    /// `lead.created` or `lead.re_engaged`.
    Event,
    /// The tenant's id.
    TenantId,
    /// The lead's id.
    LeadId,
    /// The email address.
    Email,
    /// The phone number.
    Phone,
    /// The first name.
    FirstName,
    /// The present conversation.
    ConversationId,
    /// When the lead was first captured.
    CapturedAt,
    /// The last conversation before the silence.
    LastConversationAt,
}

impl Placeholder {
    /// All of them, in the order of the specification.
    pub const ALL: [Self; 9] = [
        Self::Event,
        Self::TenantId,
        Self::LeadId,
        Self::Email,
        Self::Phone,
        Self::FirstName,
        Self::ConversationId,
        Self::CapturedAt,
        Self::LastConversationAt,
    ];

    /// The word between the braces; the same as the default body's key.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::TenantId => "tenantId",
            Self::LeadId => "leadId",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::FirstName => "firstName",
            Self::ConversationId => "conversationId",
            Self::CapturedAt => "capturedAt",
            Self::LastConversationAt => "lastConversationAt",
        }
    }

    /// What it stands for; `None` where the lead lacks it. Personal data: for bodies and previews only.
    pub fn value(self, event: &Event) -> Option<Cow<'_, str>> {
        match self {
            Self::Event => Some(event.kind.as_str().into()),
            Self::TenantId => Some(event.tenant_id.as_str().into()),
            Self::LeadId => Some(event.lead_id.as_str().into()),
            Self::Email => event.email.as_deref().map(Cow::from),
            Self::Phone => event.phone.as_deref().map(Cow::from),
            Self::FirstName => event.first_name.as_deref().map(Cow::from),
            Self::ConversationId => event.conversation_id.as_deref().map(Cow::from),
            Self::CapturedAt => Some(format_time(event.captured_at).into()),
            Self::LastConversationAt => event.last_conversation_at.map(|time| format_time(time).into()),
        }
    }

    /// Reads the text between the braces, without the white space around it.
    pub(super) fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|placeholder| placeholder.as_str() == word)
    }

    /// The one that was probably meant: at most a third of the letters differ, case and punctuation aside.
    pub(super) fn nearest(word: &str) -> Option<Self> {
        let letters = |text: &str| -> String {
            text.chars().filter(|c| c.is_alphanumeric()).take(40).map(|c| c.to_ascii_lowercase()).collect()
        };
        let given = letters(word);
        Self::ALL
            .into_iter()
            .map(|placeholder| (damerau_levenshtein(&given, &letters(placeholder.as_str())), placeholder))
            .filter(|(distance, placeholder)| distance * 3 <= placeholder.as_str().len())
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, placeholder)| placeholder)
    }
}

impl fmt::Display for Placeholder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_placeholder_is_what_was_probably_meant() {
        for (word, meant) in [
            ("firstname", Some(Placeholder::FirstName)),
            ("first_name", Some(Placeholder::FirstName)),
            ("First-Name", Some(Placeholder::FirstName)),
            ("e-mail", Some(Placeholder::Email)),
            ("mail", Some(Placeholder::Email)),
            ("phon", Some(Placeholder::Phone)),
            ("leadID", Some(Placeholder::LeadId)),
            ("{email", Some(Placeholder::Email)),
            ("captured", Some(Placeholder::CapturedAt)),
            ("lastConversation", Some(Placeholder::LastConversationAt)),
            ("company", None),
            ("", None),
        ] {
            assert_eq!(Placeholder::nearest(word), meant, "{word}");
        }
    }
}
