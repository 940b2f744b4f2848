//! [`Request`]: what a receiver got, and the check that a receiver's developer would write, from the documentation
//! alone and without a line of ours.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Seconds that a signed time may differ from the receiver's clock: Standard Webhooks' five minutes.
const TOLERANCE: u64 = 300;

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// `POST`, one hopes.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// In the order and the spelling in which they came over the wire.
    pub headers: Vec<(String, String)>,
    /// The raw body.
    pub body: Vec<u8>,
    /// When its head had arrived.
    pub arrived_at: Instant,
    /// Which of the receiver's connections it came on, from 0.
    pub connection: usize,
}

impl Request {
    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// Checks both signatures under the default header prefix.
    ///
    /// # Errors
    /// Names what is missing or does not match.
    pub fn verify(&self, secret: &str) -> Result<(), String> {
        self.verify_as("X-Wilow", secret)
    }

    /// Checks both signatures, ours under `prefix`.
    ///
    /// # Errors
    /// Names what is missing or does not match.
    pub fn verify_as(&self, prefix: &str, secret: &str) -> Result<(), String> {
        self.verify_ours(&format!("{prefix}-Signature"), secret)?;
        self.verify_standard(secret)
    }

    fn verify_ours(&self, header: &str, secret: &str) -> Result<(), String> {
        let expected =
            mac(secret.as_bytes(), &[&self.body]).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let signature = self.required(header)?;
        let matches = signature.strip_prefix("sha256=") == Some(&expected);
        matches.then_some(()).ok_or_else(|| format!("{header} does not match"))
    }

    fn verify_standard(&self, secret: &str) -> Result<(), String> {
        let (id, sent_at) = (self.required("webhook-id")?, self.required("webhook-timestamp")?);
        let second: u64 = sent_at.parse().map_err(|_| "webhook-timestamp is not a number".to_owned())?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        if now.as_secs().abs_diff(second) > TOLERANCE {
            return Err("webhook-timestamp is not now".to_owned());
        }
        let encoded = secret.strip_prefix("whsec_").ok_or("the secret does not begin with whsec_")?;
        let key = STANDARD.decode(encoded).map_err(|error| format!("the secret: {error}"))?;
        let signed = mac(&key, &[id.as_bytes(), b".", sent_at.as_bytes(), b".", &self.body]);
        let expected = format!("v1,{}", STANDARD.encode(signed));
        let matches = self.required("webhook-signature")?.split(' ').any(|signature| signature == expected);
        matches.then_some(()).ok_or_else(|| "webhook-signature does not match".to_owned())
    }

    fn required(&self, name: &str) -> Result<&str, String> {
        self.header(name).ok_or_else(|| format!("{name} is missing"))
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().to_vec()
}
