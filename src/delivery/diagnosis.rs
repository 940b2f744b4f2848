//! Why a signature does not fit a body: the one that receivers' developers meet first is that their framework has parsed the
//! body and written it anew, so that other bytes are verified than were signed. Who compares a signature of their own making
//! has most often taken the other scheme's key.

use serde_json::{Map, Value};

use super::signature::{
    has_standard_signature, is_hex_signature, verify_hex, verify_standard, verify_standard_of_body,
};
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
    /// The signature itself has another form.
    Malformed,
    /// It is empty, which no body is that was sent.
    Empty,
    /// It begins with a byte order mark, which was not sent.
    ByteOrderMark,
    /// It has a line break at its end, which was not sent.
    LineBreak,
    /// Other white space or escapes: somebody has parsed it and written it anew.
    Reserialised,
    /// The same, and its members stand in another order.
    Reordered,
    /// The body is as it was signed, and the key is the secret in the other scheme's form.
    OtherKey,
    /// Of Standard Webhooks: made over the body alone.
    BodyAlone,
    /// Another secret, or another body.
    Wrong,
}

/// What is sent never begins with it; editors and some shells put it there.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl Signature {
    /// The key that this scheme makes of a secret, and the one that the other makes.
    fn keys<'a>(&self, secret: &'a SigningSecret) -> [&'a [u8]; 2] {
        let (text, bytes) = (secret.text().expose().as_bytes(), secret.bytes().expose().as_slice());
        match self {
            Self::Hex(_) => [text, bytes],
            Self::Standard { .. } => [bytes, text],
        }
    }

    /// When the request was signed, in Unix seconds, where the signature says so.
    pub fn timestamp(&self) -> Option<i64> {
        match self {
            Self::Hex(_) => None,
            Self::Standard { timestamp, .. } => Some(*timestamp),
        }
    }

    fn is_well_formed(&self) -> bool {
        match self {
            Self::Hex(header) => is_hex_signature(header),
            Self::Standard { signatures, .. } => has_standard_signature(signatures),
        }
    }

    fn fits_by(&self, key: &[u8], body: &[u8]) -> bool {
        match self {
            Self::Hex(header) => verify_hex(key, body, header),
            Self::Standard { signatures, id, timestamp } => verify_standard(key, id, *timestamp, body, signatures),
        }
    }

    /// Whether it is of Standard Webhooks, but was made without id and timestamp.
    fn covers_body_alone(&self, key: &[u8], body: &[u8]) -> bool {
        matches!(self, Self::Standard { signatures, .. } if verify_standard_of_body(key, body, signatures))
    }

    /// Verifies the signature of `body` by any of the secrets; where none fits, looks for what may have become of the body on the
    /// way, and for what whoever has made it may have mistaken.
    pub fn diagnose(&self, secrets: &[SigningSecret], body: &[u8]) -> Diagnosis {
        let keys: Vec<[&[u8]; 2]> = secrets.iter().map(|secret| self.keys(secret)).collect();
        let fits = |body: &[u8]| keys.iter().any(|[key, _]| self.fits_by(key, body));
        let unmarked = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        let trimmed = unmarked.trim_ascii_end();
        match () {
            () if fits(body) => Diagnosis::Right,
            () if !self.is_well_formed() => Diagnosis::Malformed,
            () if body.is_empty() => Diagnosis::Empty,
            () if unmarked.len() < body.len() && (fits(unmarked) || fits(trimmed)) => Diagnosis::ByteOrderMark,
            () if trimmed.len() < body.len() && fits(trimmed) => Diagnosis::LineBreak,
            () if keys.iter().any(|[_, other]| self.fits_by(other, body)) => Diagnosis::OtherKey,
            () if keys.iter().flatten().any(|key| self.covers_body_alone(key, body)) => Diagnosis::BodyAlone,
            () => rewritten(unmarked, fits).unwrap_or(Diagnosis::Wrong),
        }
    }
}

/// How a body was written anew, where `fits` takes one of the ways in which it may have been sent.
fn rewritten(body: &[u8], fits: impl Fn(&[u8]) -> bool) -> Option<Diagnosis> {
    let parsed: Value = serde_json::from_slice(body).ok()?;
    if fits(parsed.to_string().as_bytes()) {
        return Some(Diagnosis::Reserialised);
    }
    fits(ordered(&parsed)?.to_string().as_bytes()).then_some(Diagnosis::Reordered)
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
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use uuid::Uuid;

    use super::*;
    use crate::{
        delivery::{
            payload::{default_body, synthetic_event},
            signature::{decode_hex, hex_signature, hex_signature_with, standard_signature, standard_signature_with},
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
            (String::new(), Diagnosis::Empty),
            (format!("\u{feff}{body}"), Diagnosis::ByteOrderMark),
            (format!("\u{feff}{body}\r\n"), Diagnosis::ByteOrderMark),
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

    #[test]
    fn what_whoever_makes_one_mistakes_is_told() {
        let secret = SigningSecret::generate().unwrap();
        let (text, bytes) = (secret.text().expose().as_bytes(), secret.bytes().expose().as_slice());
        let (body, id, timestamp) = (b"{}", "id".to_owned(), 7);
        let alone = |key| hex_signature_with(key, body);
        let standard = |signatures| Signature::Standard { signatures, id: id.clone(), timestamp };
        let base64 = |key| STANDARD.encode(decode_hex(alone(key).strip_prefix("sha256=").unwrap()).unwrap());
        let cases = [
            (Signature::Hex(alone(bytes)), Diagnosis::OtherKey),
            (standard(standard_signature_with(text, &id, timestamp, body)), Diagnosis::OtherKey),
            (standard(format!("v1,{}", base64(bytes))), Diagnosis::BodyAlone),
            (standard(format!("v1,{}", base64(text))), Diagnosis::BodyAlone),
        ];
        for (signature, diagnosis) in cases {
            assert_eq!(signature.diagnose(std::slice::from_ref(&secret), body), diagnosis, "{signature:?}");
        }
    }
}
