//! The tenant's own headers: what may be one, and how they are kept.
//!
//! A value is a credential more often than not. It is never shown again after it was saved, nor named in a fault.

use std::{collections::HashSet, fmt};

use crate::secret::Secret;

/// The most headers of one endpoint.
pub const MAX_HEADERS: usize = 20;

/// The longest value, in bytes.
pub const MAX_VALUE: usize = 4096;

/// The longest name, in bytes: more than any in use, and short enough for every receiver's limit.
pub const MAX_NAME: usize = 128;

/// What stands for a value wherever headers are shown. Always of the same length.
pub const MASK: &str = "••••••";

/// Names that are refused in any case: those that the request sets itself, and those that frame the message or
/// speak of the connection (RFC 9110 and 9112).
const RESERVED: [&str; 12] = [
    "content-type",
    "user-agent",
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "te",
    "trailer",
    "connection",
    "keep-alive",
    "upgrade",
    "expect",
];

/// What refused names begin with, beside the configured prefix.
const RESERVED_PREFIXES: [&str; 3] = ["x-wilow-", "webhook-", "proxy-"];

/// Headers that passed every check of the specification (section 3), in the order in which they are sent.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct CustomHeaders(Vec<(String, Secret<String>)>);

/// One reason why headers are refused. Never carries a value; a name only where it is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// More than [`MAX_HEADERS`].
    #[error("headers: {count} of them, at most {MAX_HEADERS} are allowed")]
    TooMany {
        /// How many there are.
        count: usize,
    },
    /// A line without a colon.
    #[error("header {position}: no colon: a header reads `Name: value`")]
    NoColon {
        /// The header, from 1.
        position: usize,
    },
    /// The name is no token of RFC 9110.
    #[error(
        "header {position}: the name is empty, over {MAX_NAME} bytes, or has characters other than letters, digits and !#$%&'*+-.^_`|~"
    )]
    InvalidName {
        /// The header, from 1.
        position: usize,
    },
    /// A name that the request sets itself, or that frames the message.
    #[error("header {position} `{name}`: set by the request itself, or by the connection: leave it out")]
    Reserved {
        /// The header, from 1.
        position: usize,
        /// Its name.
        name: String,
    },
    /// The same name again, in any case.
    #[error("header {position} `{name}`: is there already: remove one of the two")]
    Duplicate {
        /// The second of them, from 1.
        position: usize,
        /// Its name.
        name: String,
    },
    /// Nothing but white space: most likely a variable that was not set.
    #[error("header {position} `{name}`: has no value")]
    EmptyValue {
        /// The header, from 1.
        position: usize,
        /// Its name.
        name: String,
    },
    /// Longer than [`MAX_VALUE`].
    #[error("header {position} `{name}`: the value has {bytes} bytes, at most {MAX_VALUE} are allowed")]
    LongValue {
        /// The header, from 1.
        position: usize,
        /// Its name.
        name: String,
        /// The value's length.
        bytes: usize,
    },
    /// Something else than visible ASCII, space and tab.
    #[error(
        "header {position} `{name}`: the value has characters other than visible ASCII, space and tab (a line break?)"
    )]
    InvalidValue {
        /// The header, from 1.
        position: usize,
        /// Its name.
        name: String,
    },
}

/// Why stored headers cannot be used; the tenant must save them again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadersUnreadable {
    /// What was opened is not what [`CustomHeaders::to_json`] writes.
    #[error("headers: what is stored is not a list of names and values")]
    NotAList,
    /// They are refused by now, under a new prefix for instance.
    #[error("headers: what is stored is refused: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Refused(Vec<HeaderFault>),
}

impl CustomHeaders {
    /// Reads lines of the form `Name: value`. White space around a value is no part of it (RFC 9110, section 5.5).
    ///
    /// `header_prefix` is `delivery.header_prefix`: names that begin with it are ours.
    ///
    /// # Errors
    /// Every problem of every line, in their order; the tenant must act.
    pub fn parse(lines: &[impl AsRef<str>], header_prefix: &str) -> Result<Self, Vec<HeaderFault>> {
        let split = lines.iter().map(|line| {
            let (name, value) = line.as_ref().split_once(':')?;
            Some((name.to_owned(), Secret::new(value.to_owned())))
        });
        Self::check(split.collect(), header_prefix)
    }

    /// The names, as they were written.
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Names and values in their order, for the request.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Secret<String>)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names with [`MASK`] in the place of their values: all that is ever shown.
    pub fn masks(&self) -> Vec<(&str, &'static str)> {
        self.0.iter().map(|(name, _)| (name.as_str(), MASK)).collect()
    }

    /// What is sealed: `[["Name","value"],…]`.
    pub fn to_json(&self) -> Secret<Vec<u8>> {
        let pairs: Vec<(&str, &str)> =
            self.0.iter().map(|(name, value)| (name.as_str(), value.expose().as_str())).collect();
        // Writing strings to memory cannot fail; if it did, nothing would be read back, rather than something else.
        serde_json::to_vec(&pairs).unwrap_or_default().into()
    }

    /// Reads what [`CustomHeaders::to_json`] wrote, and checks it again: the prefix may have changed since.
    ///
    /// # Errors
    /// [`HeadersUnreadable`], when the attempt is `failed / headers`.
    pub fn from_json(json: &[u8], header_prefix: &str) -> Result<Self, HeadersUnreadable> {
        let pairs: Vec<(String, String)> = serde_json::from_slice(json).map_err(|_| HeadersUnreadable::NotAList)?;
        let pairs = pairs.into_iter().map(|(name, value)| Some((name, value.into()))).collect();
        Self::check(pairs, header_prefix).map_err(HeadersUnreadable::Refused)
    }

    /// Holds every header against every rule; `None` stands for a line without a colon.
    fn check(headers: Vec<Option<(String, Secret<String>)>>, header_prefix: &str) -> Result<Self, Vec<HeaderFault>> {
        let mut faults = Vec::new();
        if headers.len() > MAX_HEADERS {
            faults.push(HeaderFault::TooMany { count: headers.len() });
        }
        let mut seen = HashSet::new();
        let mut kept = Vec::with_capacity(headers.len());
        for (position, header) in (1..).zip(headers) {
            let Some((name, value)) = header else {
                faults.push(HeaderFault::NoColon { position });
                continue;
            };
            if !is_token(&name) {
                faults.push(HeaderFault::InvalidName { position });
                continue;
            }
            if is_reserved(&name, header_prefix) {
                faults.push(HeaderFault::Reserved { position, name: name.clone() });
            }
            if !seen.insert(name.to_ascii_lowercase()) {
                faults.push(HeaderFault::Duplicate { position, name: name.clone() });
            }
            let trimmed = value.expose().trim_matches([' ', '\t']);
            faults.extend(value_fault(position, &name, trimmed));
            let value = Secret::new(trimmed.to_owned());
            kept.push((name, value));
        }
        if faults.is_empty() { Ok(Self(kept)) } else { Err(faults) }
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CustomHeaders").field(&self.names()).finish()
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    let is_tchar = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_tchar)
}

/// An underscore counts as the hyphen that many receivers make of it: in CGI, PHP and WSGI both are one variable.
fn is_reserved(name: &str, header_prefix: &str) -> bool {
    let (name, header_prefix) = (&*name.replace('_', "-"), &*header_prefix.replace('_', "-"));
    let begins_with = |prefix: &str| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved))
        || RESERVED_PREFIXES.iter().any(|prefix| begins_with(prefix))
        || (!header_prefix.is_empty() && begins_with(header_prefix))
}

fn value_fault(position: usize, name: &str, value: &str) -> Option<HeaderFault> {
    let name = || name.to_owned();
    if value.is_empty() {
        Some(HeaderFault::EmptyValue { position, name: name() })
    } else if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        Some(HeaderFault::InvalidValue { position, name: name() })
    } else if value.len() > MAX_VALUE {
        Some(HeaderFault::LongValue { position, name: name(), bytes: value.len() })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(lines: &[&str]) -> Result<CustomHeaders, Vec<HeaderFault>> {
        CustomHeaders::parse(lines, "X-Acme")
    }

    fn faults(lines: &[&str]) -> Vec<String> {
        parse(lines).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn headers_keep_their_order_and_lose_the_space_around_their_values() {
        let headers =
            parse(&["Authorization: Bearer s3cr3t:x", "X-Api-Token:\t a b\tc \t", "!#$%&'*+-.^_`|~09aZ:~"]).unwrap();
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name, value.expose().as_str())).collect();
        assert_eq!(
            pairs,
            [("Authorization", "Bearer s3cr3t:x"), ("X-Api-Token", "a b\tc"), ("!#$%&'*+-.^_`|~09aZ", "~")]
        );
        assert!(parse(&[]).unwrap().is_empty());
    }

    #[test]
    fn every_reserved_name_is_refused_in_any_case() {
        for name in [
            "Content-Type",
            "User-Agent",
            "X-Wilow-Event",
            "X-Wilow-Delivery-Id",
            "X-Wilow-Signature",
            "X-Wilow-Other",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "webhook-x",
            "Host",
            "Content-Length",
            "Content-Encoding",
            "Transfer-Encoding",
            "TE",
            "Trailer",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "Expect",
            "Proxy-Authorization",
            "Proxy-Connection",
            "X-Acme",
            "X-Acme-Event",
            "X-AcmeEvent",
        ] {
            for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
                let expected = vec![HeaderFault::Reserved { position: 1, name: name.clone() }];
                assert_eq!(parse(&[&format!("{name}: x")]), Err(expected));
            }
        }
    }

    #[test]
    fn names_that_only_look_reserved_are_allowed() {
        for name in
            ["Authorization", "Cookie", "Accept", "X-Webhook-Id", "Webhooks", "Hostname", "Tex", "X-Api-Key", "Proxy"]
        {
            assert!(parse(&[&format!("{name}: x")]).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_problem_is_reported_at_once_without_any_value() {
        let secret = "s3cr3t";
        let long = format!("X-Long: {secret}{}", "a".repeat(MAX_VALUE));
        let lines = [
            format!("Bearer {secret}"),
            format!("Bearer {secret}: x"),
            format!(" X-Space: {secret}"),
            format!(": {secret}"),
            "Authorization:  ".to_owned(),
            format!("authorization: {secret}\r\nHost: x"),
            long,
            format!("X-Name: {secret}ü"),
            format!("HOST: {secret}\0"),
        ];
        let faults = CustomHeaders::parse(&lines, "X-Acme").unwrap_err();
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let begins: Vec<&str> = texts.iter().map(|text| text.split(": ").next().unwrap()).collect();
        assert_eq!(
            begins,
            [
                "header 1",
                "header 2",
                "header 3",
                "header 4",
                "header 5 `Authorization`",
                "header 6 `authorization`",
                "header 6 `authorization`",
                "header 7 `X-Long`",
                "header 8 `X-Name`",
                "header 9 `HOST`",
                "header 9 `HOST`",
            ]
        );
        assert!(!format!("{faults:?} {texts:?}").contains(secret));
    }

    #[test]
    fn limits_are_met_exactly() {
        let lines: Vec<String> = (0..MAX_HEADERS).map(|n| format!("X-{n}: {}", "a".repeat(MAX_VALUE))).collect();
        assert!(CustomHeaders::parse(&lines, "X-Acme").is_ok());
        let lines: Vec<String> = (0..=MAX_HEADERS).map(|n| format!("X-{n}: a")).collect();
        assert_eq!(CustomHeaders::parse(&lines, "X-Acme"), Err(vec![HeaderFault::TooMany { count: 21 }]));
        assert!(parse(&[&format!("{}: a", "n".repeat(MAX_NAME))]).is_ok());
        assert_eq!(faults(&[&format!("{}: a", "n".repeat(MAX_NAME + 1))]).len(), 1);
    }

    #[test]
    fn only_names_are_ever_shown() {
        let headers = parse(&["Authorization: s3cr3t", "X-Token: s3cr3t"]).unwrap();
        assert_eq!(format!("{headers:?}"), r#"CustomHeaders(["Authorization", "X-Token"])"#);
        assert_eq!(headers.masks(), [("Authorization", "••••••"), ("X-Token", "••••••")]);
        assert_eq!(headers.names(), ["Authorization", "X-Token"]);
    }

    #[test]
    fn what_was_sealed_reads_back_and_is_checked_again() {
        let headers = parse(&["Authorization: a\"b\\c\td", "X-Beta-Token: x"]).unwrap();
        let json = headers.to_json();
        assert_eq!(json.expose(), br#"[["Authorization","a\"b\\c\td"],["X-Beta-Token","x"]]"#);
        assert_eq!(CustomHeaders::from_json(json.expose(), "X-Acme").unwrap(), headers);
        assert_eq!(
            CustomHeaders::from_json(json.expose(), "X-Beta"),
            Err(HeadersUnreadable::Refused(vec![HeaderFault::Reserved { position: 2, name: "X-Beta-Token".into() }]))
        );
        let none = CustomHeaders::default().to_json();
        assert!(CustomHeaders::from_json(none.expose(), "X-Acme").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_is_unreadable() {
        for json in ["", "{}", "[1]", r#"[["a"]]"#, r#"[["a","b","s3cr3t"]]"#] {
            let error = CustomHeaders::from_json(json.as_bytes(), "X-Acme").unwrap_err();
            assert_eq!(error, HeadersUnreadable::NotAList, "{json}");
            assert!(!error.to_string().contains("s3cr3t"));
        }
    }
}
