//! What a receiver's developer wants to know of a request: whether it is what was signed, and what is wrong with it.

use axum::http::HeaderMap;
use jiff::Timestamp;

use crate::{
    cli::verify,
    delivery::diagnosis::{Diagnosis, Signature},
    secret::SigningSecret,
};

/// As old as that a request may be, seconds; the same that libraries of Standard Webhooks take.
const TOLERANCE: i64 = 300;

/// How the name of the signature over the body alone ends; the prefix is a setting of the daemon.
const SIGNATURE: &str = "-signature";

/// What was found of one of both signatures; `Ok`: it fits.
pub(super) type Verdict = Result<(), String>;

/// What was found.
pub(super) struct Inspection {
    /// The name of the header with the signature over the body alone, and what was found of it.
    pub(super) hex: (String, Verdict),
    /// `webhook-signature`.
    pub(super) standard: Verdict,
}

impl Inspection {
    /// Verifies a request that came at `now`.
    pub(super) fn of(headers: &HeaderMap, body: &[u8], secrets: &[SigningSecret], now: Timestamp) -> Self {
        let hex = hex(headers, body, secrets);
        let standard = standard(headers, body, secrets, now, hex.1.is_ok());
        Self { hex, standard }
    }

    /// Whether a receiver may take the request.
    pub(super) fn is_right(&self) -> bool {
        self.hex.1.is_ok() && self.standard.is_ok()
    }
}

/// The value of the header that ends like this and is not of Standard Webhooks.
pub(super) fn ours<'a>(headers: &'a HeaderMap, ending: &str) -> Option<(&'a str, &'a str)> {
    headers.iter().find_map(|(name, value)| {
        let name = name.as_str();
        (name.ends_with(ending) && !name.starts_with("webhook-")).then(|| Some((name, value.to_str().ok()?)))?
    })
}

/// A header's text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn hex(headers: &HeaderMap, body: &[u8], secrets: &[SigningSecret]) -> (String, Verdict) {
    let Some((name, value)) = ours(headers, SIGNATURE) else {
        return ("x-…-signature".to_owned(), Err("is missing".to_owned()));
    };
    (name.to_owned(), verdict(Signature::Hex(value.to_owned()).diagnose(secrets, body)))
}

/// With `body_is_right` the other signature has told that secret and body are those of the sender.
fn standard(
    headers: &HeaderMap,
    body: &[u8],
    secrets: &[SigningSecret],
    now: Timestamp,
    body_is_right: bool,
) -> Verdict {
    let signatures = text(headers, "webhook-signature").ok_or("is missing")?.to_owned();
    let beside = |name| text(headers, name).ok_or_else(|| format!("covers {name}, which is missing"));
    let (id, timestamp) = (beside("webhook-id")?.to_owned(), beside("webhook-timestamp")?);
    let timestamp = timestamp.parse().map_err(|_| "covers webhook-timestamp, which is no number of seconds")?;
    match (Signature::Standard { signatures, id, timestamp }).diagnose(secrets, body) {
        Diagnosis::Wrong if body_is_right => {
            return Err("does not fit, though secret and body are right: webhook-id, webhook-timestamp or the signature itself \
                        was changed on the way"
                .to_owned());
        }
        diagnosis => verdict(diagnosis)?,
    }
    let age = now.as_second().saturating_sub(timestamp);
    if age.abs() <= TOLERANCE {
        return Ok(());
    }
    Err(format!(
        "fits, but was made {} s {}: a request that somebody has kept, or one of both clocks is wrong",
        age.unsigned_abs(),
        if age > 0 { "ago" } else { "from now" }
    ))
}

fn verdict(diagnosis: Diagnosis) -> Verdict {
    verify::why(diagnosis).map_or(Ok(()), |why| Err(format!("does not fit: {why}")))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;
    use crate::delivery::signature::{hex_signature, standard_signature};

    const ID: &str = "1b671a64-40d5-491e-99b0-da01ff1f3341";
    const BODY: &[u8] = br#"{"leadId":"1","tenantId":"acme"}"#;

    fn headers(secret: &SigningSecret, timestamp: i64) -> HeaderMap {
        let all = [
            ("x-acme-signature", hex_signature(secret, BODY)),
            ("webhook-id", ID.to_owned()),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", standard_signature(secret, ID, timestamp, BODY)),
        ];
        all.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap()))
            .into_iter()
            .collect()
    }

    #[test]
    fn whatever_is_wrong_is_named() {
        let secret = SigningSecret::generate().unwrap();
        let now = Timestamp::from_second(1_776_852_900).unwrap();
        let good = headers(&secret, now.as_second());
        assert!(Inspection::of(&good, BODY, std::slice::from_ref(&secret), now).is_right());
        let without = |name: &str| {
            let mut headers = good.clone();
            headers.remove(name);
            headers
        };
        let changed = |name: &'static str, value: &'static str| {
            let mut headers = good.clone();
            headers.insert(name, HeaderValue::from_static(value));
            headers
        };
        let spaced = std::str::from_utf8(BODY).unwrap().replace(':', ": ");
        let cases = [
            (without("x-acme-signature"), BODY, "is missing", ""),
            (without("webhook-id"), BODY, "", "webhook-id, which is missing"),
            (without("webhook-timestamp"), BODY, "", "webhook-timestamp, which is missing"),
            (without("webhook-signature"), BODY, "", "is missing"),
            (changed("webhook-timestamp", "now"), BODY, "", "no number"),
            (changed("x-acme-signature", "sha256=00"), BODY, "cut off", ""),
            (changed("webhook-signature", "AA=="), BODY, "", "cut off"),
            (changed("webhook-timestamp", "1776852899"), BODY, "", "though secret and body are right"),
            (changed("webhook-id", "1b671a64"), BODY, "", "though secret and body are right"),
            (good.clone(), b"", "is empty", "is empty"),
            (headers(&secret, now.as_second() - 400), BODY, "", "400 s ago"),
            (headers(&secret, now.as_second() + 400), BODY, "", "400 s from now"),
            (good.clone(), spaced.as_bytes(), "written anew", "written anew"),
            (good.clone(), b"{}", "another body", "another body"),
        ];
        for (headers, body, hex, standard) in cases {
            let inspection = Inspection::of(&headers, body, std::slice::from_ref(&secret), now);
            for (verdict, problem) in [(&inspection.hex.1, hex), (&inspection.standard, standard)] {
                let said = verdict.as_ref().err().map_or("", String::as_str);
                assert!(said.contains(problem) && said.is_empty() == problem.is_empty(), "{said:?}, not {problem:?}");
            }
        }
        let other = SigningSecret::generate().unwrap();
        assert!(!Inspection::of(&good, BODY, std::slice::from_ref(&other), now).is_right());
    }
}
