//! What each final state means, in a sentence for people: the one place for these texts.

use super::{Failure, SkipReason, Status};

impl Status {
    /// The state that the columns `status`, `failure` and `reason` spell; `None` where they do not belong together.
    pub fn parse(status: &str, failure: Option<&str>, reason: Option<&str>) -> Option<Self> {
        match (status, failure, reason) {
            ("delivered", None, None) => Some(Self::Delivered),
            ("interrupted", None, None) => Some(Self::Interrupted),
            ("failed", Some(word), None) => Failure::ALL.into_iter().find(|f| f.as_str() == word).map(Self::Failed),
            ("skipped", None, Some(word)) => {
                SkipReason::ALL.into_iter().find(|r| r.as_str() == word).map(Self::Skipped)
            }
            _ => None,
        }
    }

    /// What it means for the lead, in a sentence: whether it arrived, and what helps.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Delivered => "The receiver took it.",
            Self::Failed(failure) => failure.meaning(),
            Self::Interrupted => {
                "The daemon ended before the outcome was known: it may have arrived. It is not sent again by itself."
            }
            Self::Skipped(reason) => reason.meaning(),
        }
    }
}

impl Failure {
    /// What it means for the lead, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::HttpStatus => "The receiver answered, but did not take it.",
            Self::Redirect => {
                "The receiver answered with a redirect, which is never followed: configure the URL that it leads to, if any."
            }
            Self::Timeout => {
                "A limit of time ran out before the receiver answered: where there was a connection, it may have arrived all the same."
            }
            Self::Dns => "The host's name did not resolve: nothing was sent.",
            Self::Connect => "No connection could be made: nothing was sent.",
            Self::Tls => "The TLS handshake failed, most often over the certificate: nothing was sent.",
            Self::Protocol => "The connection broke, or what came back was not HTTP: it may have arrived all the same.",
            Self::Blocked => "The egress policy forbids the destination: nothing was sent. The error names the rule.",
            Self::Template => "The saved template cannot be used: nothing was sent. Save a corrected one.",
            Self::Secret => {
                "The saved URL or secret cannot be opened: nothing was sent. Set the one that the error names anew; `lead-webhook check` says what else helps."
            }
            Self::Headers => {
                "The saved headers cannot be opened or are no longer allowed: nothing was sent. Save them anew."
            }
            Self::Lead => "The lead's values could not be read through the mapping: nothing was sent.",
        }
    }
}

impl SkipReason {
    /// What it means for the lead, in a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Disabled => {
                "The endpoint was off when the lead was captured or claimed: nothing was sent, and switching on does not send it."
            }
            Self::NoEndpoint => "The endpoint was removed, or lost its URL or secret, in between: nothing was sent.",
            Self::Duplicate => "The same visitor left the same contact within the silence: nothing was sent.",
            Self::Expired => "It had waited longer than delivery.max_age: nothing was sent.",
            Self::Gone => "The lead was deleted before it could be read, or had no contact then: nothing was sent.",
            Self::Discarded => {
                "It was in the queue of a copied database, which the operator discarded: nothing was sent."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Status> {
        let failed = Failure::ALL.into_iter().map(Status::Failed);
        let skipped = SkipReason::ALL.into_iter().map(Status::Skipped);
        [Status::Delivered, Status::Interrupted].into_iter().chain(failed).chain(skipped).collect()
    }

    #[test]
    fn every_state_is_read_back_from_its_own_words() {
        for status in all() {
            assert_eq!(Status::parse(status.as_str(), status.failure(), status.reason()), Some(status));
        }
        assert_eq!(Status::parse("failed", None, None), None);
        assert_eq!(Status::parse("delivered", Some("dns"), None), None);
        assert_eq!(Status::parse("lost", None, None), None);
    }

    #[test]
    fn every_state_has_a_sentence_of_its_own() {
        let mut texts: Vec<_> = all().into_iter().map(Status::meaning).collect();
        assert!(texts.iter().all(|text| text.ends_with('.')));
        let count = texts.len();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }
}
