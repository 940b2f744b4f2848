//! A tenant's URL, from raw text to [`EndpointUrl`]: checked as text, parsed once, compared with the text, vetted.
//!
//! What it must never do is put a path, a query or user info into an error: they are credentials.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use url::{Host, ParseError, Url};

use super::{AddressRefused, Policy, name};
use crate::outcome::Destination;

/// Characters of a URL, as text and as parsed. Common receivers stay far below; many servers refuse 8,000.
const MAX_CHARACTERS: usize = 2_048;

/// HTTPS's own port.
const DEFAULT_PORT: u16 = 443;

/// Ports of other protocols, whose servers could take a request for commands: the "bad ports" of the Fetch standard
/// (<https://fetch.spec.whatwg.org/#port-blocking>), port 0 among them.
const BAD_PORTS: &[u16] = &[
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Why a URL is refused. The texts name the rule and what could be done; none repeats a path, a query or user info.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlRefused {
    /// Longer than is stored, as it stands or once its characters are percent-encoded.
    #[error("the URL is longer than {MAX_CHARACTERS} characters, as written or with its characters percent-encoded")]
    TooLong,
    /// A tab, a line break or another control character.
    #[error("the URL holds a control character, such as a tab or a line break: remove it")]
    ControlCharacter,
    /// A character that cannot be seen, as comes along when a text is copied.
    #[error(
        "the URL holds an invisible character, which may have come along when it was copied: type it, or remove it"
    )]
    InvisibleCharacter,
    /// What is shown of a URL, in place of it.
    #[error("the URL ends in /…, which is how a URL is shown whose path is kept secret: give the whole URL")]
    Masked,
    /// White space between other characters.
    #[error("the URL holds white space: remove it, or write a blank of the path as %20 (RFC 3986)")]
    WhiteSpace,
    /// A backslash, which some parsers take for a slash.
    #[error("the URL holds a backslash, which parsers read differently: write / or %5C (RFC 3986)")]
    Backslash,
    /// Another scheme, or none.
    #[error("the URL must begin with https://; no setting allows another scheme")]
    NotHttps,
    /// `https:` without `//` behind it.
    #[error("the URL lacks the // after https: (RFC 9110, section 4.2.2)")]
    MissingSlashes,
    /// A user name or password before the host.
    #[error(
        "the URL holds an @ before its host (user info, RFC 9110, section 4.2.4): \
         use an Authorization header, or write %40 in the path"
    )]
    UserInfo,
    /// No host at all.
    #[error("the URL has no host (RFC 9110, section 4.2.2)")]
    EmptyHost,
    /// A host that is neither a name nor an address.
    #[error(
        "the URL's host is malformed: a name is labels of 1 to 63 letters, digits and inner hyphens \
         (RFC 1123, section 2.1), an IPv6 address stands in brackets without a zone, and nothing is percent-encoded"
    )]
    MalformedHost,
    /// An IPv4 address in octal, hexadecimal, short or other spelling.
    #[error("the URL's host is a number, but not an IPv4 address in plain four-part decimal such as 192.0.2.1")]
    Ipv4Spelling,
    /// A port that is no number up to 65535.
    #[error("the URL's port is not a number from 1 to 65535")]
    MalformedPort,
    /// A port of another protocol.
    #[error("the URL's port {0} is blocked (port 0, or a bad port of the Fetch standard); no setting allows it")]
    BlockedPort(u16),
    /// A host without a dot.
    #[error(
        "the URL's host {host} is a single label, which only a local network knows (RFC 7085); \
         `egress.allow_hosts` could allow it"
    )]
    SingleLabel {
        /// The host, in ASCII.
        host: String,
    },
    /// A host under a last label that no public web server stands under.
    #[error(
        "the URL's host {host} ends in {label}, a reserved name ({reserved_by}); \
         `egress.allow_hosts` could allow it"
    )]
    ReservedName {
        /// The host, in ASCII.
        host: String,
        /// Its last label.
        label: &'static str,
        /// The RFC, or whose name it is.
        reserved_by: &'static str,
    },
    /// A host that is a forbidden address.
    #[error("the URL's host {0}")]
    Address(AddressRefused),
}

/// Where an endpoint's events go. Exists only vetted: [`Policy::vet_url`] is the one way to it.
///
/// It is a credential as a whole, so `Debug` and `Display` end after the port.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    url: Url,
    host: String,
    port: u16,
    literal: Option<IpAddr>,
}

impl EndpointUrl {
    /// Reads `raw` and has the policy judge its host.
    pub(super) fn vet(raw: &str, policy: &Policy) -> Result<Self, UrlRefused> {
        let url = Self::parse(raw.trim())?;
        match url.literal {
            Some(address) => policy.vet_literal(address).map_err(UrlRefused::Address)?,
            None if policy.allows_host(&url.host) => {}
            None => name::vet(&url.host)?,
        }
        Ok(url)
    }

    /// Host and port, as the log has them: without the root's dot, which makes no other host of it.
    pub fn destination(&self) -> Destination {
        Destination { host: name::without_root(&self.host).to_owned(), port: self.port }
    }

    /// All that no setting waives.
    fn parse(text: &str) -> Result<Self, UrlRefused> {
        check_text(text)?;
        let Authority { host: spelled, port } = Authority::of(text)?;
        let mut url = Url::parse(text).map_err(|error| match error {
            ParseError::EmptyHost => UrlRefused::EmptyHost,
            ParseError::InvalidIpv4Address => UrlRefused::Ipv4Spelling,
            _ => UrlRefused::MalformedHost,
        })?;
        // Whoever reads the text and whoever reads the parsed form must see one host and one port.
        if url.port_or_known_default() != Some(port) {
            return Err(UrlRefused::MalformedPort);
        }
        let (host, literal) = host_of(&url, spelled)?;
        url.set_fragment(None);
        if url.as_str().len() > MAX_CHARACTERS {
            return Err(UrlRefused::TooLong);
        }
        Ok(Self { url, host, port, literal })
    }

    /// The whole URL: a credential, never to be logged or shown.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The host's name in ASCII, as the URL has it (one trailing dot may be there), or its address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host's address where the URL names one; it is judged already.
    pub fn literal(&self) -> Option<IpAddr> {
        self.literal
    }

    /// The parsed form, for the HTTP client.
    pub fn url(&self) -> &Url {
        &self.url
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.literal {
            Some(IpAddr::V6(address)) => write!(f, "https://[{address}]:{}/…", self.port),
            _ => write!(f, "https://{}:{}/…", self.host, self.port),
        }
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Refuses what parsers drop or repair without a word.
fn check_text(text: &str) -> Result<(), UrlRefused> {
    if text.chars().count() > MAX_CHARACTERS {
        return Err(UrlRefused::TooLong);
    }
    if text.contains(char::is_control) {
        return Err(UrlRefused::ControlCharacter);
    }
    if text.ends_with("/…") {
        return Err(UrlRefused::Masked);
    }
    if text.contains(char::is_whitespace) {
        return Err(UrlRefused::WhiteSpace);
    }
    if text.contains(is_invisible) {
        return Err(UrlRefused::InvisibleCharacter);
    }
    if text.contains('\\') {
        return Err(UrlRefused::Backslash);
    }
    Ok(())
}

/// What has no width, or turns the direction of the text.
pub fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Host and port as the text spells them.
struct Authority<'a> {
    /// With the brackets of an IPv6 address.
    host: &'a str,
    port: u16,
}

impl<'a> Authority<'a> {
    fn of(text: &'a str) -> Result<Self, UrlRefused> {
        let (scheme, rest) = text.split_once(':').ok_or(UrlRefused::NotHttps)?;
        if !scheme.eq_ignore_ascii_case("https") {
            return Err(UrlRefused::NotHttps);
        }
        let rest = rest.strip_prefix("//").ok_or(UrlRefused::MissingSlashes)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(UrlRefused::UserInfo);
        }
        let (host, port) = split_port(authority);
        if host.is_empty() {
            return Err(UrlRefused::EmptyHost);
        }
        Ok(Self { host, port: parse_port(port)? })
    }
}

/// Parts `host:port`; an IPv6 address holds colons of its own.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    let colon = match authority.rfind(']') {
        Some(bracket) => authority.get(bracket..).and_then(|rest| rest.find(':')).map(|colon| bracket + colon),
        None => authority.find(':'),
    };
    match colon.and_then(|colon| authority.split_at_checked(colon)) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => (authority, None),
    }
}

/// An empty port is the default one (RFC 3986, section 3.2.3).
fn parse_port(text: Option<&str>) -> Result<u16, UrlRefused> {
    let text = text.unwrap_or_default();
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    // Digits only: Rust's own parser would take a plus sign.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(UrlRefused::MalformedPort);
    }
    let port = text.parse().map_err(|_| UrlRefused::MalformedPort)?;
    if BAD_PORTS.contains(&port) {
        return Err(UrlRefused::BlockedPort(port));
    }
    Ok(port)
}

/// The parsed host, if it is what `spelled` says to a plain reader too.
fn host_of(url: &Url, spelled: &str) -> Result<(String, Option<IpAddr>), UrlRefused> {
    // The parser would decode it, and a reader of the text would see another host.
    if spelled.contains('%') {
        return Err(UrlRefused::MalformedHost);
    }
    match url.host().ok_or(UrlRefused::EmptyHost)? {
        Host::Ipv4(address) => {
            let plain = address.to_string();
            if plain == spelled { Ok((plain, Some(address.into()))) } else { Err(UrlRefused::Ipv4Spelling) }
        }
        Host::Ipv6(address) => {
            let inner = spelled.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            match inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
                Some(read) if read == address => Ok((address.to_string(), Some(address.into()))),
                _ => Err(UrlRefused::MalformedHost),
            }
        }
        Host::Domain(domain) => {
            // Names in Unicode are judged by what IDNA makes of them.
            let same = !spelled.is_ascii() || spelled.eq_ignore_ascii_case(domain);
            if same && name::is_well_formed(domain) {
                Ok((domain.to_owned(), None))
            } else {
                Err(UrlRefused::MalformedHost)
            }
        }
    }
}
