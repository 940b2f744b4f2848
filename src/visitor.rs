//! Who left which contact: the uniqueness key of "once per unique visitor per contact".

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::secret::Secret;

/// Bytes of the installation's HMAC key: as many as the HMAC's output (RFC 2104, section 3).
pub const KEY_BYTES: usize = 32;

/// A lead's contact in the form that is compared: the trimmed lower-cased email, else the phone without spaces and
/// punctuation. `None`: neither is there.
pub fn contact(email: Option<&str>, phone: Option<&str>) -> Option<Contact> {
    let present = |text: Option<&str>| text.map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    if let Some(email) = present(email) {
        return Some(Contact { tag: b'e', text: email.to_lowercase() });
    }
    let phone = present(phone)?;
    let digits: String = phone.chars().filter(|c| c.is_alphanumeric()).collect();
    Some(Contact { tag: b'p', text: if digits.is_empty() { phone } else { digits } })
}

/// A contact as it is compared. Personal: never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Contact {
    tag: u8,
    text: String,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

/// The installation's key, under which visitors and contacts are made unreadable.
#[derive(Debug, Clone)]
pub struct UniquenessKey(Secret<Vec<u8>>);

impl UniquenessKey {
    /// Wraps the key's bytes.
    pub fn new(bytes: Secret<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The key of one tenant's visitor and contact. A lead without a visitor is a visitor of its own.
    ///
    /// Every part is tagged and carries its length, so that no two triples meet.
    pub fn of(&self, tenant_id: &str, visitor_id: Option<&str>, lead_id: &str, contact: &Contact) -> [u8; 32] {
        let visitor = visitor_id.filter(|v| !v.trim().is_empty());
        // HMAC takes a key of any length (RFC 2104, section 2), so this branch is never left empty.
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(self.0.expose()) else { return [0; 32] };
        for (tag, text) in [
            (b't', tenant_id),
            (if visitor.is_some() { b'v' } else { b'l' }, visitor.unwrap_or(lead_id)),
            (contact.tag, &contact.text),
        ] {
            mac.update(&[tag]);
            mac.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> UniquenessKey {
        UniquenessKey::new(vec![7; KEY_BYTES].into())
    }

    #[test]
    fn the_same_contact_in_other_spellings_is_the_same() {
        assert_eq!(contact(Some("  Ann@Example.COM "), None), contact(Some("ann@example.com"), Some("+1")));
        assert_eq!(contact(None, Some("+49 (123) 456-78")), contact(Some(" "), Some("49123 456.78")));
    }

    #[test]
    fn a_blank_contact_is_none() {
        assert_eq!(contact(Some(" \t"), Some("")), None);
        assert_eq!(contact(None, None), None);
        assert!(contact(None, Some("--")).is_some());
    }

    #[test]
    fn tenant_visitor_and_contact_each_make_another_key() {
        let ann = contact(Some("ann@example.com"), None).unwrap();
        let bob = contact(Some("bob@example.com"), None).unwrap();
        let base = key().of("t1", Some("v1"), "l1", &ann);
        assert_eq!(base, key().of("t1", Some("v1"), "l2", &ann), "the lead does not matter where there is a visitor");
        let others = [
            key().of("t2", Some("v1"), "l1", &ann),
            key().of("t1", Some("v2"), "l1", &ann),
            key().of("t1", Some("v1"), "l1", &bob),
            key().of("t1", None, "l1", &ann),
            key().of("t1", None, "v1", &ann),
            key().of("t1v", Some("1"), "l1", &ann),
        ];
        for (i, other) in others.iter().enumerate() {
            assert_ne!(*other, base, "{i}");
        }
    }
}
