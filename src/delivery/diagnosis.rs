//! Why a signature does not fit a body: the one that receivers' developers meet first is that their framework has parsed the
//! body and written it anew, so that other bytes are verified than were signed.

use serde_json::{Map, Value};

use super::signature::{verify_hex, verify_standard};
use crate::secret::SigningSecret;

/// A signature, and what it was made over beside the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// `X-Wilow-Signature`.
    Hex(String),
    /// `webhook-signature`, with `webhook-id` and `webhook-timestamp`.
    Standard {
        /// `v1,…`, one or several.
        signatures: String,
        /// The event's id.
        id: String,
        /// Unix seconds.
        timestamp: i64,
    },
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Diagnosis {
    /// The body is as it was signed.
    Right,
    /// It has a line break at its end, which was not sent.
    LineBreak,
    /// Other white space or escapes: somebody has parsed it and written it anew.
    Reserialised,
    /// The same, and its members stand in another order.
    Reordered,
    /// Another secret, or another body.
    Wrong,
}

impl Signature {
    fn fits_one(&self, secret: &SigningSecret, body: &[u8]) -> bool {
        match self {
            Self::Hex(header) => verify_hex(secret.text().expose().as_bytes(), body, header),
            Self::Standard { signatures, id, timestamp } => {
                verify_standard(secret.bytes().expose(), id, *timestamp, body, signatures)
            }
        }
    }

    /// Verifies the signature of `body` by any of the secrets; where none fits, looks for what may have become of the body on the
    /// way.
    pub fn diagnose(&self, secrets: &[SigningSecret], body: &[u8]) -> Diagnosis {
        let fits = |body: &[u8]| secrets.iter().any(|secret| self.fits_one(secret, body));
        if fits(body) {
            return Diagnosis::Right;
        }
        let trimmed = body.trim_ascii_end();
        if trimmed.len() < body.len() && fits(trimmed) {
            return Diagnosis::LineBreak;
        }
        let Ok(parsed) = serde_json::from_slice::<Value>(body) else { return Diagnosis::Wrong };
        if fits(parsed.to_string().as_bytes()) {
            return Diagnosis::Reserialised;
        }
        let is_reordered = ordered(&parsed).is_some_and(|ordered| fits(ordered.to_string().as_bytes()));
        if is_reordered { Diagnosis::Reordered } else { Diagnosis::Wrong }
    }
}

/// The members of the default body in the order in which it is sent; `None`: there are others.
fn ordered(parsed: &Value) -> Option<Value> {
    const ORDER: [&str; 8] =
        ["event", "tenantId", "leadId", "email", "phone", "conversationId", "capturedAt", "lastConversationAt"];
    let members = parsed.as_object()?;
    let found = ORDER.iter().filter_map(|name| Some(((*name).to_owned(), members.get(*name)?.clone())));
    let ordered: Map<String, Value> = found.collect();
    (ordered.len() == members.len()).then_some(Value::Object(ordered))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        delivery::{
            payload::{default_body, synthetic_event},
            signature::{hex_signature, standard_signature},
        },
        event::EventKind,
    };

    fn both(secret: &SigningSecret, body: &[u8]) -> [Signature; 2] {
        let (id, timestamp) = (Uuid::new_v4().to_string(), 1_776_852_900);
        let signatures = format!("v1,bm90IG91cnM= {}", standard_signature(secret, &id, timestamp, body));
        [Signature::Hex(hex_signature(secret, body)), Signature::Standard { signatures, id, timestamp }]
    }

    #[test]
    fn what_became_of_the_body_on_the_way_is_told_apart_from_a_wrong_secret() {
        let secret = SigningSecret::generate().unwrap();
        let mut event = synthetic_event("a/b", EventKind::ReEngaged);
        event.email = Some("jürgen@exämple.de".to_owned());
        let body = String::from_utf8(default_body(&event)).unwrap();
        let parsed: Value = serde_json::from_str(&body).unwrap();
        let sorted: std::collections::BTreeMap<String, Value> = serde_json::from_str(&body).unwrap();
        let cases = [
            (body.clone(), Diagnosis::Right),
            (format!("{body}\n"), Diagnosis::LineBreak),
            (serde_json::to_string_pretty(&parsed).unwrap(), Diagnosis::Reserialised),
            (body.replace("\":\"", "\": \"").replace("\",\"", "\", \""), Diagnosis::Reserialised),
            (body.replace('/', "\\/"), Diagnosis::Reserialised),
            (body.replace('ü', "\\u00fc"), Diagnosis::Reserialised),
            (serde_json::to_string(&sorted).unwrap(), Diagnosis::Reordered),
            (serde_json::to_string_pretty(&sorted).unwrap(), Diagnosis::Reordered),
            (body.replace("a/b", "a/c"), Diagnosis::Wrong),
            (String::new(), Diagnosis::Wrong),
            ("not JSON".to_owned(), Diagnosis::Wrong),
        ];
        let other = SigningSecret::generate().unwrap();
        let with_another = [other.clone(), secret.clone()];
        for signature in both(&secret, body.as_bytes()) {
            for (received, diagnosis) in &cases {
                assert_eq!(signature.diagnose(&with_another, received.as_bytes()), *diagnosis, "{received}");
            }
            assert_eq!(signature.diagnose(std::slice::from_ref(&other), body.as_bytes()), Diagnosis::Wrong);
        }
    }
}
