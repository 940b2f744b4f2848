//! Who may ask the admin API: the operator, by the token of `admin.token_file`, and tenants, by tokens that the operator
//! mints. A tenant's token says whose it is and until when, signed by a key that is made of the operator's token: nothing is
//! stored, and another operator's token ends them all.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::secret::Secret;

/// What a tenant's token begins with: its kind and version, so that scanners for leaked credentials know it.
const PREFIX: &str = "lwt1.";

/// For how long a token may be good at most; beyond that it is a password.
pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// What the operator's session in a browser begins with.
const SESSION_PREFIX: &str = "lws1.";

/// For how long the operator stays signed in.
const SESSION: Duration = Duration::from_secs(8 * 60 * 60);

/// Each makes its signing key another one than that of anything else.
const PURPOSES: [&[u8]; 2] =
    [b"lead-webhook: tenants' tokens, version 1", b"lead-webhook: the operator's sessions, version 1"];

/// What checks and mints.
#[derive(Clone)]
pub struct Tokens {
    /// Of the operator's token; what it is compared by.
    operator: Hmac<Sha256>,
    /// Of what tenants' tokens are signed by.
    tenants: Hmac<Sha256>,
    /// Of what the operator's sessions in a browser are signed by.
    sessions: Hmac<Sha256>,
}

/// Whose token it was.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bearer {
    /// All is theirs.
    Operator,
    /// Nothing is theirs but this tenant's.
    Tenant(String),
}

impl Bearer {
    /// Whose endpoint and deliveries alone it opens; `None`: everybody's.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::Operator => None,
            Self::Tenant(tenant) => Some(tenant),
        }
    }
}

/// Why a token is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Neither the operator's nor one that was minted by it.
    #[error("the token is not valid here")]
    Unknown,
    /// It was, until then.
    #[error("the token has expired: ask for another one")]
    Expired,
}

/// What is signed.
#[derive(Serialize, Deserialize)]
struct Claims {
    tenant: String,
    /// Unix seconds.
    expires: i64,
}

impl Tokens {
    /// Over the operator's token.
    pub fn new(operator: &Secret<String>) -> Self {
        let operator = keyed(operator.expose().as_bytes());
        let derived = |purpose: &[u8]| keyed(&operator.clone().chain_update(purpose).finalize().into_bytes());
        let [tenants, sessions] = PURPOSES.map(derived);
        Self { operator, tenants, sessions }
    }

    /// Whose `token` is at `now`. Takes as long for any token of its length.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn bearer(&self, token: &str, now: Timestamp) -> Result<Bearer, Invalid> {
        // Both sides keyed and hashed: what differs where tells nothing of the token.
        let given = keyed(token.as_bytes()).finalize().into_bytes();
        if self.operator.clone().verify_slice(&given).is_ok() {
            return Ok(Bearer::Operator);
        }
        self.tenant(token, now)
    }

    fn tenant(&self, token: &str, now: Timestamp) -> Result<Bearer, Invalid> {
        let signed = token.strip_prefix(PREFIX).ok_or(Invalid::Unknown)?;
        verified(&self.tenants, signed, now).map(|claims| Bearer::Tenant(claims.tenant))
    }

    /// What a browser keeps of a token, and for how long: never the operator's own.
    pub fn session(&self, token: &str, bearer: &Bearer, now: Timestamp) -> (Secret<String>, Duration) {
        match bearer {
            // It ends by itself, and sooner.
            Bearer::Tenant(_) => (Secret::new(token.to_owned()), LONGEST),
            Bearer::Operator => {
                let until = now.saturating_add(SignedDuration::try_from(SESSION).unwrap_or_default()).unwrap_or(now);
                let claims = Claims { tenant: String::new(), expires: until.as_second() };
                (Secret::new(format!("{SESSION_PREFIX}{}", signed(&self.sessions, &claims))), SESSION)
            }
        }
    }

    /// Whose session it is at `now`.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn of_session(&self, session: &str, now: Timestamp) -> Result<Bearer, Invalid> {
        match session.strip_prefix(SESSION_PREFIX) {
            Some(signed) => verified(&self.sessions, signed, now).map(|_| Bearer::Operator),
            None => self.tenant(session, now),
        }
    }

    /// A token for `tenant`, and until when it is good.
    pub fn mint(&self, tenant: &str, ttl: Duration, now: Timestamp) -> (Secret<String>, Timestamp) {
        let ttl = SignedDuration::try_from(ttl.min(LONGEST)).unwrap_or_default();
        let until = now.saturating_add(ttl).unwrap_or(now);
        let claims = Claims { tenant: tenant.to_owned(), expires: until.as_second() };
        let token = format!("{PREFIX}{}", signed(&self.tenants, &claims));
        (Secret::new(token), Timestamp::from_second(until.as_second()).unwrap_or(until))
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

fn signed(key: &Hmac<Sha256>, claims: &Claims) -> String {
    let claims = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap_or_default());
    let signature = key.clone().chain_update(&claims).finalize().into_bytes();
    format!("{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn verified(key: &Hmac<Sha256>, signed: &str, now: Timestamp) -> Result<Claims, Invalid> {
    let (claims, signature) = signed.split_once('.').ok_or(Invalid::Unknown)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Invalid::Unknown)?;
    key.clone().chain_update(claims).verify_slice(&signature).map_err(|_| Invalid::Unknown)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| Invalid::Unknown)?;
    let claims: Claims = serde_json::from_slice(&claims).map_err(|_| Invalid::Unknown)?;
    if now.as_second() < claims.expires { Ok(claims) } else { Err(Invalid::Expired) }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let Ok(mac) = Hmac::new_from_slice(key) else {
        unreachable!("HMAC takes a key of any length (RFC 2104, section 2)")
    };
    mac
}

/// Reads a time to live: at least a second, at most [`LONGEST`].
///
/// # Errors
/// What is wrong with it, and what is accepted.
pub fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|error| format!("{text:?} is not a duration ({error}): write 15m or 2h"))?;
    let is_fine = (Duration::from_secs(1)..=LONGEST).contains(&ttl);
    if is_fine { Ok(ttl) } else { Err(format!("{text:?} is out of range: at least 1s, at most 24h")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn tokens(operator: &str) -> Tokens {
        Tokens::new(&Secret::new(operator.to_owned()))
    }

    #[test]
    fn the_operators_token_is_the_one_of_the_file_and_no_other() {
        for own in ["lwt1.correct horse battery staple", "lws1.correct horse battery staple"] {
            assert_eq!(tokens(own).bearer(own, at(NOW)), Ok(Bearer::Operator));
            assert_eq!(tokens(own).of_session(own, at(NOW)), Err(Invalid::Unknown));
        }
        let ours = tokens("correct horse battery staple 1234");
        assert_eq!(ours.bearer("correct horse battery staple 1234", at(NOW)), Ok(Bearer::Operator));
        for other in
            ["", "correct horse battery staple 123", "correct horse battery staple 12345", "lwt1", "lwt1.", "lwt1.."]
        {
            assert_eq!(ours.bearer(other, at(NOW)), Err(Invalid::Unknown), "{other}");
        }
    }

    #[test]
    fn a_tenants_token_names_it_until_its_time_is_over() {
        let ours = tokens("a");
        for tenant in ["acme", "big corp", "Zürich", "a.b", ""] {
            let (token, until) = ours.mint(tenant, Duration::from_secs(3_600), at(NOW));
            assert_eq!(until, at(NOW + 3_600));
            let bearer = |seconds| ours.bearer(token.expose(), at(seconds));
            assert_eq!(bearer(NOW), Ok(Bearer::Tenant(tenant.to_owned())));
            assert_eq!(bearer(NOW + 3_599), Ok(Bearer::Tenant(tenant.to_owned())));
            assert_eq!(bearer(NOW + 3_600), Err(Invalid::Expired));
        }
    }

    #[test]
    fn nobody_mints_for_longer_than_a_day() {
        assert_eq!(tokens("a").mint("acme", Duration::from_secs(u64::MAX), at(NOW)).1, at(NOW + 86_400));
        assert_eq!(["1s", "24h"].map(|text| parse_ttl(text).unwrap().as_secs()), [1, 86_400]);
        assert!(["", "0s", "15", "24h 1s", "-1h", "soon"].iter().all(|text| parse_ttl(text).is_err()));
    }

    #[test]
    fn a_token_that_was_changed_anywhere_is_unknown() {
        let ours = tokens("a");
        let token = ours.mint("acme", Duration::from_secs(3_600), at(NOW)).0.expose().clone();
        let other = ours.mint("bolt", Duration::from_secs(3_600), at(NOW)).0.expose().clone();
        for at_byte in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at_byte] = if bytes[at_byte] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last digit's low bits are no part of the signature, and the decoder refuses them where they are set.
            assert_eq!(ours.bearer(&changed, at(NOW)), Err(Invalid::Unknown), "{changed}");
            assert_eq!(ours.bearer(token.get(..at_byte).unwrap(), at(NOW)), Err(Invalid::Unknown));
        }
        let (claims, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(ours.bearer(&format!("{claims}.{signature}"), at(NOW)), Err(Invalid::Unknown));
        assert_eq!(tokens("b").bearer(&token, at(NOW)), Err(Invalid::Unknown));
    }

    #[test]
    fn a_browser_keeps_a_session_and_never_the_operators_token() {
        let ours = tokens("a");
        let (session, kept) = ours.session("a", &Bearer::Operator, at(NOW));
        let of = |seconds| ours.of_session(session.expose(), at(seconds));
        assert_eq!((kept.as_secs(), of(NOW)), (28_800, Ok(Bearer::Operator)));
        assert_eq!(of(NOW + 28_800), Err(Invalid::Expired));
        // Neither is good for the other.
        assert_eq!(ours.bearer(session.expose(), at(NOW)), Err(Invalid::Unknown));
        assert_eq!(ours.of_session("a", at(NOW)), Err(Invalid::Unknown));
        let (token, _) = ours.mint("acme", Duration::from_secs(60), at(NOW));
        let resigned = token.expose().replacen(PREFIX, SESSION_PREFIX, 1);
        assert_eq!(ours.of_session(&resigned, at(NOW)), Err(Invalid::Unknown));
        assert_eq!(ours.of_session(token.expose(), at(NOW)), Ok(Bearer::Tenant("acme".to_owned())));
    }

    #[test]
    fn what_mints_prints_nothing_of_itself() {
        assert_eq!(format!("{:?}", tokens("s3cr3t")), "Tokens");
    }
}
