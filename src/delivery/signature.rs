//! Both signatures of a request, and their verification in constant time.
//!
//! Ours is keyed by the secret's whole text, Standard Webhooks by the decoded bytes (specification, section 3).
//! Whoever changes one of them breaks every receiver: known answers in the tests hold them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::secret::SigningSecret;

/// What `X-Wilow-Signature` begins with; the same as GitHub's `X-Hub-Signature-256`.
const HEX_PREFIX: &str = "sha256=";

/// What each symmetric signature in `webhook-signature` begins with.
const STANDARD_PREFIX: &str = "v1,";

/// The value of `X-Wilow-Signature`: `sha256=` and the lower-case hex HMAC-SHA256 of `body`.
pub fn hex_signature(secret: &SigningSecret, body: &[u8]) -> String {
    hex_signature_with(secret.text().expose().as_bytes(), body)
}

/// The value of `webhook-signature`: `v1,` and the base64 HMAC-SHA256 of `webhook_id.timestamp.body`.
///
/// `timestamp` is the send's Unix second, as in `webhook-timestamp`.
pub fn standard_signature(secret: &SigningSecret, webhook_id: &str, timestamp: i64, body: &[u8]) -> String {
    standard_signature_with(secret.bytes().expose(), webhook_id, timestamp, body)
}

/// [`hex_signature`] under the bytes of any key, for secrets that are not ours.
pub fn hex_signature_with(key: &[u8], body: &[u8]) -> String {
    let tag = mac(key, &[body]).finalize().into_bytes();
    let mut text = String::with_capacity(HEX_PREFIX.len() + 2 * tag.len());
    text.push_str(HEX_PREFIX);
    let digits = tag.iter().flat_map(|byte| [byte >> 4, byte & 0xF]);
    text.extend(digits.filter_map(|digit| char::from_digit(digit.into(), 16)));
    text
}

/// [`standard_signature`] under the bytes of any key.
pub fn standard_signature_with(key: &[u8], webhook_id: &str, timestamp: i64, body: &[u8]) -> String {
    let tag = standard_mac(key, webhook_id, timestamp, body).finalize().into_bytes();
    let mut text = STANDARD_PREFIX.to_owned();
    STANDARD.encode_string(tag, &mut text);
    text
}

/// Whether `header` is the [`hex_signature_with`] of `body`, compared in constant time. Hex digits count in
/// either case.
pub fn verify_hex(key: &[u8], body: &[u8], header: &str) -> bool {
    header.strip_prefix(HEX_PREFIX).and_then(decode_hex).is_some_and(|tag| mac(key, &[body]).verify_slice(&tag).is_ok())
}

/// Whether one of the space-separated signatures in `header` is the [`standard_signature_with`], compared in
/// constant time. How old `timestamp` may be is for the caller to say.
pub fn verify_standard(key: &[u8], webhook_id: &str, timestamp: i64, body: &[u8], header: &str) -> bool {
    is_among(&standard_mac(key, webhook_id, timestamp, body), header)
}

/// Whether one of the signatures in `header` was made as if [`standard_signature_with`] covered the `body` alone.
pub fn verify_standard_of_body(key: &[u8], body: &[u8], header: &str) -> bool {
    is_among(&mac(key, &[body]), header)
}

fn is_among(mac: &Hmac<Sha256>, header: &str) -> bool {
    standard_tags(header).any(|tag| mac.clone().verify_slice(&tag).is_ok())
}

fn standard_tags(header: &str) -> impl Iterator<Item = Vec<u8>> {
    header.split(' ').filter_map(|signature| STANDARD.decode(signature.strip_prefix(STANDARD_PREFIX)?).ok())
}

/// Bytes of an HMAC-SHA256.
const TAG_BYTES: usize = 32;

/// Whether `header` has the form of a [`hex_signature`], whatever of.
pub fn is_hex_signature(header: &str) -> bool {
    header.strip_prefix(HEX_PREFIX).and_then(decode_hex).is_some_and(|tag| tag.len() == TAG_BYTES)
}

/// Whether one in `header` has the form of a [`standard_signature`], whatever of.
pub fn has_standard_signature(header: &str) -> bool {
    standard_tags(header).any(|tag| tag.len() == TAG_BYTES)
}

fn standard_mac(key: &[u8], webhook_id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
    mac(key, &[webhook_id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body])
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hmac<Sha256> {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!("HMAC takes a key of any length (RFC 2104, section 2)")
    };
    for part in parts {
        mac.update(part);
    }
    mac
}

pub(super) fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The secret of the known answers: base64 of the bytes 0 to 31.
    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const BODY: &str = r#"{"event":"lead.created","tenantId":"t1","leadId":"l1","email":"jürgen@exämple.de","phone":"+491234567890","conversationId":"c1","capturedAt":"2026-04-22T10:15:00.000Z"}"#;
    const ID: &str = "1b671a64-40d5-491e-99b0-da01ff1f3341";
    const TIMESTAMP: i64 = 1_776_852_900;

    fn secret() -> SigningSecret {
        SigningSecret::parse(SECRET).unwrap()
    }

    #[test]
    fn every_vector_of_the_corpus_is_met() {
        let vectors: Vec<Value> =
            serde_json::from_str(include_str!("../../tests/corpus/signature_vectors.json")).unwrap();
        assert!(vectors.len() >= 20);
        for vector in vectors {
            let bytes = |name: &str| STANDARD.decode(vector[name].as_str().unwrap()).unwrap();
            let (key, body, header) = (bytes("key_b64"), bytes("body_b64"), vector["header"].as_str().unwrap());
            assert_eq!(hex_signature_with(&key, &body), header, "{}", vector["name"]);
            assert!(verify_hex(&key, &body, header), "{}", vector["name"]);
        }
    }

    #[test]
    fn ours_is_keyed_by_the_whole_text_of_the_secret() {
        assert_eq!(
            hex_signature(&secret(), BODY.as_bytes()),
            "sha256=10f60eb2d70ad872ea3ba0a67311d3f15cd22edd1b203e338035b41f07e3108d"
        );
    }

    #[test]
    fn standard_webhooks_is_keyed_by_the_decoded_bytes() {
        assert_eq!(
            standard_signature(&secret(), ID, TIMESTAMP, BODY.as_bytes()),
            "v1,oRsfo3m2DfEdwXGbaI+e0w2vOE1oyfKYCqoOisFC2NU="
        );
    }

    #[test]
    fn the_example_of_standard_webhooks_is_met() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        assert_eq!(
            standard_signature_with(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn what_was_changed_on_its_way_is_not_verified() {
        let (key, body) = (b"key".as_slice(), b"{\"a\":1}".as_slice());
        let header = hex_signature_with(key, body);
        assert!(verify_hex(key, body, &header.to_uppercase().replace("SHA", "sha")));
        assert!(!verify_hex(key, b"{\"a\": 1}", &header));
        assert!(!verify_hex(b"kez", body, &header));
        let bare = header.trim_start_matches("sha256=");
        let (long, short) = (format!("{header}00"), format!("sha256={}", bare.split_at(62).0));
        for wrong in ["", "sha256=", "sha256=zz", "sha256=0", bare, &short, &long] {
            assert!(!verify_hex(key, body, wrong), "{wrong}");
        }
        assert!(!verify_hex(key, body, &header.replacen("sha256=", "sha256=+", 1)));
    }

    #[test]
    fn one_good_standard_signature_among_several_is_enough() {
        let (key, body) = (b"key".as_slice(), b"{}".as_slice());
        let good = standard_signature_with(key, ID, TIMESTAMP, body);
        assert!(verify_standard(key, ID, TIMESTAMP, body, &format!("v1,AAAA v1a,xyz {good}")));
        assert!(!verify_standard(key, ID, TIMESTAMP + 1, body, &good));
        assert!(!verify_standard(key, "other", TIMESTAMP, body, &good));
        assert!(!verify_standard(key, ID, TIMESTAMP, b"{} ", &good));
        assert!(!verify_standard(key, ID, TIMESTAMP, body, good.trim_start_matches("v1,")));
    }
}
