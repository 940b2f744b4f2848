//! Values that must never be printed: [`Secret`] and the [`SigningSecret`] that signs deliveries.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::{Zeroize, Zeroizing};

/// A value that prints as `REDACTED` and is wiped from memory when it is dropped.
///
/// [`Secret::expose`] is the only way to the value, so that a search for it finds every use.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Wraps `value`.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself. Never hand it to a log, an error or a metric.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

impl<T: Zeroize> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// What a signing secret begins with; Standard Webhooks' prefix.
const PREFIX: &str = "whsec_";

/// Random bytes in a signing secret: as many as the HMAC's output, more adds nothing (RFC 2104, section 3).
const SECRET_BYTES: usize = 32;

/// The secret shared with a receiver: `whsec_` + base64 of 32 random bytes.
///
/// Two schemes use it: ours is keyed by the whole text, Standard Webhooks by the decoded bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningSecret {
    text: Secret<String>,
    bytes: Secret<Vec<u8>>,
}

/// Why a text is no signing secret. Never carries the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a signing secret: expected `whsec_` followed by the base64 of {SECRET_BYTES} bytes")]
pub struct NotASigningSecret;

impl SigningSecret {
    /// A new secret from the operating system's random source.
    ///
    /// # Errors
    /// When the operating system has no randomness to give; the operator must act.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut bytes = vec![0_u8; SECRET_BYTES];
        getrandom::fill(&mut bytes)?;
        let text = format!("{PREFIX}{}", STANDARD.encode(&bytes));
        Ok(Self { text: text.into(), bytes: bytes.into() })
    }

    /// Reads a secret's text form.
    ///
    /// # Errors
    /// [`NotASigningSecret`] when the prefix is missing or what follows is not base64 of 32 bytes.
    pub fn parse(text: &str) -> Result<Self, NotASigningSecret> {
        let encoded = text.strip_prefix(PREFIX).ok_or(NotASigningSecret)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| NotASigningSecret)?;
        if bytes.len() != SECRET_BYTES {
            return Err(NotASigningSecret);
        }
        Ok(Self { text: text.to_owned().into(), bytes: bytes.into() })
    }

    /// The whole text, `whsec_…`: shown once, and the key of `X-Wilow-Signature`.
    pub fn text(&self) -> &Secret<String> {
        &self.text
    }

    /// The decoded bytes: the key of `webhook-signature`.
    pub fn bytes(&self) -> &Secret<Vec<u8>> {
        &self.bytes
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_reads_back_and_prints_redacted() {
        let secret = SigningSecret::generate().unwrap();
        let again = SigningSecret::parse(secret.text().expose()).unwrap();
        assert_eq!(again, secret);
        assert_eq!(again.bytes().expose().len(), SECRET_BYTES);
        assert_eq!(format!("{secret:?} {:?}", secret.text()), "REDACTED REDACTED");
    }

    #[test]
    fn a_text_that_is_no_secret_is_refused() {
        for text in ["", "whsec_", "whsec_AAAA", "AAAA", "whsec_!!!", "WHSEC_AAAA"] {
            assert_eq!(SigningSecret::parse(text), Err(NotASigningSecret), "{text}");
        }
    }
}
