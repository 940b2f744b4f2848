//! Sealing at rest: AES-256-GCM under the keys of the key file.
//!
//! Whatever is a credential (an endpoint's URL, signing secret and header values, the installation's own keys) stands
//! in the database only as [`KeyRing::seal`] makes it, bound to its [`Place`]: bytes copied to another tenant's row or
//! to another column do not open. The first key of the file seals, all of them open, so that a key can be added while
//! daemons run. The module knows nothing of the database; the spec is section 6, "sealed".
//!
//! A sealed value reads: version (1 byte), key id (4 bytes), nonce (12 bytes), ciphertext and tag.

mod change;
mod file;

use std::fmt;

use aes_gcm::{
    Aes256Gcm, KeyInit,
    aead::{Aead, Payload},
};

pub use self::{
    change::{ChangeKeyFileError, KeyFile},
    file::{KeyFileError, LineProblem, WriteKeyFileError},
};
use crate::secret::Secret;

/// The layout of a sealed value; another layout gets another number, and both stay readable.
const VERSION: u8 = 1;

/// Bytes of a key id: enough that the keys of one file differ, and that a foreign key file is told by its id.
const ID_BYTES: usize = 4;

/// Bytes of a nonce. Random ones are safe for 2^32 values a key (NIST SP 800-38D, section 8.3); we seal a few a tenant.
const NONCE_BYTES: usize = 12;

/// Bytes of the authentication tag, which ends every ciphertext.
const TAG_BYTES: usize = 16;

/// Bytes of an AES-256 key.
const KEY_BYTES: usize = 32;

/// Names a key of the ring; prints as 8 lower-case hex digits. No secret: it stands in every sealed value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; ID_BYTES]);

impl KeyId {
    /// Bytes at the beginning of a sealed value that tell its key.
    pub const HEAD: i32 = 1 + ID_BYTES as i32;

    /// The id of the key that sealed this value; `None` where it is no sealed value of a version that we know. Its first
    /// [`KeyId::HEAD`] bytes are enough.
    pub fn of(sealed: &[u8]) -> Option<Self> {
        let (&version, rest) = sealed.split_first()?;
        let (&id, _) = rest.split_first_chunk()?;
        (version == VERSION).then_some(Self(id))
    }

    /// Reads exactly 8 lower-case hex digits, so that an id has one spelling.
    pub fn parse(text: &str) -> Option<Self> {
        let well_spelt = text.len() == 2 * ID_BYTES && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = if well_spelt { u32::from_str_radix(text, 16).ok()? } else { return None };
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where a sealed value stands. It opens there and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The tenant; for [`Column::UniquenessKey`] and [`Column::KeyCheck`] the installation's id.
    pub tenant: &'a str,
    /// The column.
    pub column: Column,
}

/// A column that holds sealed values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// `endpoints.url_sealed`.
    EndpointUrl,
    /// `endpoints.secret_sealed`.
    EndpointSecret,
    /// `endpoints.headers_sealed`.
    EndpointHeaders,
    /// `installation.uniqueness_key_sealed`.
    UniquenessKey,
    /// `installation.key_check_sealed`.
    KeyCheck,
}

impl Column {
    /// Every column that holds sealed values: `key rotate` seals all of them anew.
    pub const ALL: [Self; 5] =
        [Self::EndpointUrl, Self::EndpointSecret, Self::EndpointHeaders, Self::UniquenessKey, Self::KeyCheck];

    /// Table and column, which are bound into the sealed value. Never change one: nothing sealed under it would open again.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndpointUrl => "endpoints.url_sealed",
            Self::EndpointSecret => "endpoints.secret_sealed",
            Self::EndpointHeaders => "endpoints.headers_sealed",
            Self::UniquenessKey => "installation.uniqueness_key_sealed",
            Self::KeyCheck => "installation.key_check_sealed",
        }
    }
}

impl Place<'_> {
    /// The associated data: head of the sealed value, then column and tenant, each after its length so that no two
    /// places read the same.
    fn associated_data(&self, id: KeyId) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&id.0);
        for part in [self.column.name(), self.tenant] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// The keys of a key file: the first seals, all open. Prints as their ids; wiped from memory when dropped.
#[derive(Clone)]
pub struct KeyRing {
    first: Key,
    others: Vec<Key>,
}

/// A key, ready for use. The cipher wipes its key schedule when it is dropped (feature `zeroize` of `aes-gcm`).
#[derive(Clone)]
struct Key {
    id: KeyId,
    cipher: Box<Aes256Gcm>,
}

impl Key {
    fn new(id: KeyId, bytes: &[u8; KEY_BYTES]) -> Self {
        Self { id, cipher: Box::new(Aes256Gcm::new(bytes.into())) }
    }
}

/// Why a value could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The operating system has no randomness for the nonce; the operator must act.
    #[error("no random nonce from the operating system")]
    NoRandomness(#[source] getrandom::Error),
    /// More than AES-GCM takes under one nonce, 64 GiB.
    #[error("the value is too long to be sealed")]
    TooLong,
}

/// Why a sealed value does not open. The operator must act: the key file is another one, or the row was tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key that sealed it is not in the key file.
    #[error("sealed by key {key_id}, which the key file does not hold: put that key back into the file of `keys.file`")]
    UnknownKey {
        /// The key that is needed.
        key_id: KeyId,
    },
    /// Too short, or of a version that this release does not know.
    #[error("not a sealed value of a version that this release knows: restore the row from a backup")]
    Malformed,
    /// Changed, moved from another tenant or column, or sealed by another key of the same id.
    #[error("the sealed value was altered, or belongs to another tenant or column: restore the row from a backup")]
    Altered,
}

/// Why a value was not sealed anew.
#[derive(Debug, thiserror::Error)]
pub enum ResealError {
    /// It does not open; the operator must act.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It opens and cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KeyRing {
    /// The ids of the keys, the sealing one first.
    pub fn key_ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys().map(|key| key.id)
    }

    /// The id of the key that seals.
    pub fn sealing_id(&self) -> KeyId {
        self.first.id
    }

    /// The same keys, with that one first, where it is among them.
    #[must_use]
    pub fn with_first(&self, id: KeyId) -> Self {
        let mut keys: Vec<_> = self.keys().cloned().collect();
        keys.sort_by_key(|key| key.id != id);
        let mut keys = keys.into_iter();
        Self { first: keys.next().unwrap_or_else(|| self.first.clone()), others: keys.collect() }
    }

    /// Opens `sealed` and seals it anew with the first key. `None`: it is sealed by that key already.
    ///
    /// # Errors
    /// [`ResealError`], by cause.
    pub fn reseal(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, ResealError> {
        let plain = self.open(place, sealed)?;
        if KeyId::of(sealed) == Some(self.first.id) {
            return Ok(None);
        }
        Ok(Some(self.seal(place, plain.expose())?))
    }

    /// Seals `plain` for `place` with the first key.
    ///
    /// # Errors
    /// [`SealError::NoRandomness`] when there is no nonce to be had, [`SealError::TooLong`] beyond 64 GiB.
    pub fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0_u8; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SealError::NoRandomness)?;
        let Key { id, cipher } = &self.first;
        let payload = Payload { msg: plain, aad: &place.associated_data(*id) };
        let ciphertext = cipher.encrypt(&nonce.into(), payload).map_err(|_| SealError::TooLong)?;
        Ok([&[VERSION], id.0.as_slice(), &nonce, &ciphertext].concat())
    }

    /// Opens what was sealed for `place` by any key of the ring.
    ///
    /// # Errors
    /// [`OpenError`], by cause. None of them tells anything of the value.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Secret<Vec<u8>>, OpenError> {
        let (&version, rest) = sealed.split_first().ok_or(OpenError::Malformed)?;
        let (&id, rest) = rest.split_first_chunk().ok_or(OpenError::Malformed)?;
        let (&nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Malformed)?;
        if version != VERSION || ciphertext.len() < TAG_BYTES {
            return Err(OpenError::Malformed);
        }
        let key_id = KeyId(id);
        let key = self.keys().find(|key| key.id == key_id).ok_or(OpenError::UnknownKey { key_id })?;
        let payload = Payload { msg: ciphertext, aad: &place.associated_data(key_id) };
        key.cipher.decrypt(&nonce.into(), payload).map(Secret::new).map_err(|_| OpenError::Altered)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.key_ids().collect::<Vec<_>>()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: Place<'_> = Place { tenant: "acme", column: Column::EndpointUrl };
    const PLAIN: &[u8] = b"https://hooks.example.com/services/T0/B0/credential";

    fn ring(keys: &[(u32, u8)]) -> KeyRing {
        let key = |&(id, fill): &(u32, u8)| Key::new(KeyId(id.to_be_bytes()), &[fill; KEY_BYTES]);
        KeyRing { first: key(&keys[0]), others: keys[1..].iter().map(key).collect() }
    }

    #[test]
    fn what_is_sealed_opens_in_its_place() {
        let ring = ring(&[(1, 0xA5)]);
        for plain in [b"".as_slice(), PLAIN, &[0; 70_000]] {
            let sealed = ring.seal(&URL, plain).unwrap();
            assert_eq!(ring.open(&URL, &sealed).unwrap().expose(), plain);
        }
    }

    #[test]
    fn the_same_value_never_seals_to_the_same_bytes() {
        let ring = ring(&[(1, 0xA5)]);
        assert_ne!(ring.seal(&URL, PLAIN).unwrap(), ring.seal(&URL, PLAIN).unwrap());
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let ring = ring(&[(1, 0xA5)]);
        let sealed = ring.seal(&URL, PLAIN).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = ring.open(&URL, &flipped).unwrap_err();
            match bit / 8 {
                0 => assert_eq!(error, OpenError::Malformed),
                1..=4 => assert!(matches!(error, OpenError::UnknownKey { .. })),
                _ => assert_eq!(error, OpenError::Altered),
            }
        }
    }

    /// Whatever can be done to bytes without the key: `sealed` itself is never among them.
    fn alterations(sealed: &[u8], other: &[u8]) -> Vec<Vec<u8>> {
        let mut altered = Vec::new();
        for at in 0..sealed.len() {
            for bits in 1..=u8::MAX {
                let mut bytes = sealed.to_vec();
                bytes[at] ^= bits;
                altered.push(bytes);
            }
            altered.push([&sealed[..at], &sealed[at + 1..]].concat());
            altered.push([&sealed[..=at], &sealed[at..]].concat());
            altered.push([&sealed[..at], &[0]].concat());
            altered.push(sealed[..at].iter().copied().chain(sealed[at..].iter().map(|byte| !byte)).collect());
            altered.push([&sealed[at..], &sealed[..at]].concat());
            altered.push([&sealed[..at], &other[at..]].concat());
            altered.push([&other[..at], &sealed[at..]].concat());
        }
        altered.extend([[sealed, &[0]].concat(), [sealed, sealed].concat(), vec![0; sealed.len()]]);
        altered.retain(|bytes| bytes != sealed && bytes != other);
        altered
    }

    #[test]
    fn whatever_is_done_to_a_value_it_does_not_open() {
        // Ids one bit apart: flipping it names the other key.
        let ring = ring(&[(1, 0xA5), (3, 0x5A)]);
        for plain in [b"".as_slice(), PLAIN] {
            let (sealed, other) = (ring.seal(&URL, plain).unwrap(), ring.seal(&URL, plain).unwrap());
            let altered = alterations(&sealed, &other);
            assert!(altered.len() > sealed.len() * 255);
            for bytes in altered {
                assert!(ring.open(&URL, &bytes).is_err(), "{bytes:02x?} opens, made of {sealed:02x?}");
            }
        }
    }

    #[test]
    fn no_truncated_value_opens() {
        let ring = ring(&[(1, 0xA5)]);
        let sealed = ring.seal(&URL, PLAIN).unwrap();
        for length in 0..sealed.len() {
            let error = ring.open(&URL, &sealed[..length]).unwrap_err();
            let least = 1 + ID_BYTES + NONCE_BYTES + TAG_BYTES;
            assert_eq!(error, if length < least { OpenError::Malformed } else { OpenError::Altered }, "{length}");
        }
    }

    #[test]
    fn a_value_moved_to_another_tenant_or_column_does_not_open() {
        let ring = ring(&[(1, 0xA5)]);
        let sealed = ring.seal(&URL, PLAIN).unwrap();
        for column in [
            Column::EndpointSecret,
            Column::EndpointHeaders,
            Column::UniquenessKey,
            Column::KeyCheck,
            Column::EndpointUrl,
        ] {
            for tenant in ["", "acme", "acme ", "ACME", "acm", "endpoints.url_sealed"] {
                let place = Place { tenant, column };
                assert_eq!(ring.open(&place, &sealed).is_ok(), place == URL, "{place:?}");
            }
        }
    }

    #[test]
    fn another_key_is_told_by_its_id_and_a_forged_id_does_not_help() {
        let sealed = ring(&[(0xAB, 0xA5)]).seal(&URL, PLAIN).unwrap();
        let error = ring(&[(0xCD, 0xA5)]).open(&URL, &sealed).unwrap_err();
        assert_eq!(error, OpenError::UnknownKey { key_id: KeyId([0, 0, 0, 0xAB]) });
        assert!(error.to_string().contains("key 000000ab"), "{error}");
        assert_eq!(ring(&[(0xAB, 0x5A)]).open(&URL, &sealed).unwrap_err(), OpenError::Altered);
    }

    #[test]
    fn after_a_key_is_added_the_old_one_still_opens_and_the_new_one_seals() {
        let before = ring(&[(1, 0xA5)]);
        let after = ring(&[(2, 0x5A), (1, 0xA5)]);
        let old = before.seal(&URL, PLAIN).unwrap();
        let new = after.seal(&URL, PLAIN).unwrap();
        assert_eq!(after.open(&URL, &old).unwrap().expose(), PLAIN);
        assert_eq!(after.open(&URL, &new).unwrap().expose(), PLAIN);
        assert!(matches!(before.open(&URL, &new), Err(OpenError::UnknownKey { .. })));
    }

    #[test]
    fn a_ring_prints_ids_and_no_key() {
        assert_eq!(format!("{:?}", ring(&[(0xAB, 0xA5), (1, 0x5A)])), "KeyRing([000000ab, 00000001])");
    }
}
