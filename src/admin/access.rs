//! Who may ask: under which name, with which token, and how often.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, Uri, header, uri::Authority},
    middleware::Next,
    response::Response,
};
use jiff::Timestamp;

use super::problem::Problem;
use crate::{
    config::{Admin, Origin},
    control::token::{Bearer, Tokens},
};

/// Requests of one bearer.
const REQUESTS: Limit = Limit { most: 60.0, rate: 20.0 };

/// Tokens that are not valid, from all sides together: guesses are many.
const GUESSES: Limit = Limit { most: 30.0, rate: 1.0 };

/// Deliveries that one bearer sends again: as many as it may test.
const SENDS: Limit = Limit { most: 10.0, rate: 10.0 / 60.0 };

/// Names that a tenant has looked up by checking or saving a URL: whether a name is known in the daemon's network is told.
const LOOKUPS: Limit = Limit { most: 20.0, rate: 10.0 / 60.0 };

/// Bearers that are counted at once; those that were still the longest are forgotten, which lets them off.
const COUNTED: usize = 4_096;

/// What lets a request in.
pub(super) struct Access {
    tokens: Tokens,
    origin: Option<Origin>,
    guesses: Mutex<Bucket>,
    requests: Counter,
    sends: Counter,
    lookups: Counter,
}

impl Access {
    /// As the configuration says; `None`: there is no token, and so no API.
    pub(super) fn new(config: &Admin) -> Option<Self> {
        let token = config.token.as_ref().ok()?.as_ref()?;
        Some(Self {
            tokens: Tokens::new(token),
            origin: config.origin.clone(),
            guesses: Mutex::new(Bucket::full(&GUESSES)),
            requests: Counter::new(REQUESTS),
            sends: Counter::new(SENDS),
            lookups: Counter::new(LOOKUPS),
        })
    }

    /// What mints tenants' tokens.
    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// A page of somebody's that a browser has open reaches us under another name, or says that it is another's.
    pub(super) fn is_under_our_name(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let (Some(host), Ok(origin)) = (name_of(uri, headers), single(headers, header::ORIGIN)) else { return false };
        match &self.origin {
            Some(ours) => {
                host.eq_ignore_ascii_case(ours.authority()) && origin.is_none_or(|origin| origin == ours.text)
            }
            None => is_local(host) && origin.is_none_or(|origin| origin == format!("http://{host}")),
        }
    }

    /// Whether a browser gets at us over TLS.
    pub(super) fn is_over_tls(&self) -> bool {
        self.origin.is_some()
    }

    fn bearer(&self, headers: &HeaderMap) -> Result<Bearer, Problem> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, token)) = given.and_then(|value| value.split_once(' ')) else {
            return Err(Problem::challenge("send `Authorization: Bearer TOKEN`"));
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Problem::challenge("send `Authorization: Bearer TOKEN`, no other scheme is known"));
        }
        self.of_token(token.trim())
    }

    /// Whose token it is; whoever guesses is slowed down.
    pub(super) fn of_token(&self, token: &str) -> Result<Bearer, Problem> {
        self.tokens.bearer(token, Timestamp::now()).map_err(|invalid| {
            match self.guesses.lock().unwrap_or_else(PoisonError::into_inner).take(&GUESSES) {
                Ok(()) => {
                    tracing::warn!(why = %invalid, "admin: a token was refused");
                    Problem::challenge(invalid.to_string())
                }
                Err(wait) => Problem::too_many("too many tokens were not valid").wait(wait),
            }
        })
    }

    /// Counts a request of theirs.
    pub(super) fn count(&self, bearer: &Bearer) -> Result<(), Problem> {
        self.requests.take(bearer, "more requests than one token may make")
    }

    /// Counts a lead that a tenant sends again by hand. The operator may as often as it likes.
    pub(super) fn count_send(&self, bearer: &Bearer) -> Result<(), Problem> {
        self.sends.take_of_tenant(bearer, "too much was sent again just now")
    }

    /// Counts a name that a tenant has looked up. The operator may as often as it likes.
    pub(super) fn count_lookup(&self, bearer: &Bearer) -> Result<(), Problem> {
        self.lookups.take_of_tenant(bearer, "too many URLs were checked or saved just now")
    }
}

/// A limit for each bearer.
struct Counter {
    limit: Limit,
    buckets: Mutex<HashMap<Bearer, Bucket>>,
}

impl Counter {
    fn new(limit: Limit) -> Self {
        Self { limit, buckets: Mutex::default() }
    }

    /// Takes one from the bearer's bucket, or says how long to wait for it.
    fn take(&self, bearer: &Bearer, said: &'static str) -> Result<(), Problem> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= COUNTED && !buckets.contains_key(bearer) {
            let stillest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(bearer, _)| bearer.clone());
            stillest.map(|bearer| buckets.remove(&bearer));
        }
        let bucket = buckets.entry(bearer.clone()).or_insert_with(|| Bucket::full(&self.limit));
        bucket.take(&self.limit).map_err(|wait| Problem::too_many(said).wait(wait))
    }

    fn take_of_tenant(&self, bearer: &Bearer, said: &'static str) -> Result<(), Problem> {
        match bearer {
            Bearer::Operator => Ok(()),
            Bearer::Tenant(_) => self.take(bearer, said),
        }
    }
}

/// Under which name a request came; `None`: under none, or more than one.
pub(super) fn name_of<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = single(headers, header::HOST).ok()?;
    // A target with a name of its own counts before Host (RFC 9112, section 3.2.2).
    uri.authority().map(Authority::as_str).or(host)
}

/// A header's value, which is text and there once; `None`: it is not there.
fn single(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ()> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(None),
        (Some(line), None) => line.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

/// A Host header without its port.
pub(super) fn host_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether `host`, a Host header, is one of this host's own names.
pub(super) fn is_local(host: &str) -> bool {
    let name = host_of(host);
    let is_loopback = |address: Option<IpAddr>| address.is_some_and(|address| address.is_loopback());
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.eq_ignore_ascii_case("localhost")
        || is_loopback(name.parse().ok().filter(IpAddr::is_ipv4))
        || is_loopback(bracketed.and_then(|name| name.parse().ok()).filter(IpAddr::is_ipv6))
}

/// Answers nothing under another name.
pub(super) async fn under_our_name(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if access.is_under_our_name(request.uri(), request.headers()) {
        return Ok(next.run(request).await);
    }
    Err(Problem::elsewhere("this is answered under its own name alone: localhost, or admin.origin where that is set"))
}

/// Lets a request in with its [`Bearer`], or answers what is wrong.
pub(super) async fn let_in(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let bearer = access.bearer(request.headers())?;
    access.count(&bearer)?;
    request.extensions_mut().insert(bearer);
    Ok(next.run(request).await)
}

/// So many at once, after it was still for a while, and then so many a second.
struct Limit {
    most: f64,
    rate: f64,
}

/// What is left of a [`Limit`].
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn full(limit: &Limit) -> Self {
        Self { left: limit.most, at: Instant::now() }
    }

    /// Takes one, or says how long to wait for it.
    fn take(&mut self, Limit { most, rate }: &Limit) -> Result<(), Duration> {
        let now = Instant::now();
        self.left = (self.left + now.duration_since(self.at).as_secs_f64() * rate).min(*most);
        self.at = now;
        if self.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - self.left) / rate));
        }
        self.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn access(origin: Option<&str>) -> Access {
        let origin = origin.map(|text| Origin { text: text.to_owned() });
        Access::new(&Admin { listen: None, origin, token: Ok(Some(Secret::new("t".repeat(32)))) }).unwrap()
    }

    fn is_ours(access: &Access, headers: &HeaderMap) -> bool {
        access.is_under_our_name(&Uri::from_static("/v1/endpoints"), headers)
    }

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        origin.map(|origin| headers.insert(header::ORIGIN, origin.parse().unwrap()));
        headers
    }

    #[test]
    fn without_an_origin_only_this_hosts_names_are_ours() {
        let ours = access(None);
        for host in ["localhost", "localhost:9464", "127.0.0.1:9464", "[::1]:9464", "[::1]", "LOCALHOST:1", "127.0.0.2"]
        {
            assert!(is_ours(&ours, &headers(host, None)), "{host}");
            assert!(is_ours(&ours, &headers(host, Some(&format!("http://{host}")))), "{host}");
            for origin in ["http://evil.example", "null", "http://localhost:1"] {
                assert!(!is_ours(&ours, &headers(host, Some(origin))), "{host} {origin}");
            }
        }
        for host in [
            "evil.example",
            "evil.example:9464",
            "localhost.evil.example",
            "128.0.0.1",
            "127.1",
            "::1",
            "",
            "localhost:x",
            "[::1",
        ] {
            assert!(!is_ours(&ours, &headers(host, None)), "{host}");
        }
        assert!(!is_ours(&ours, &HeaderMap::new()));
    }

    #[test]
    fn a_name_is_said_once_and_the_targets_own_counts() {
        let ours = access(None);
        for name in [header::HOST, header::ORIGIN] {
            let mut twice = headers("localhost", Some("http://localhost"));
            assert!(is_ours(&ours, &twice));
            twice.append(&name, twice.get(&name).unwrap().clone());
            assert!(!is_ours(&ours, &twice), "{name}");
        }
        let local = headers("localhost", None);
        assert!(ours.is_under_our_name(&Uri::from_static("http://localhost/v1/endpoints"), &local));
        assert!(!ours.is_under_our_name(&Uri::from_static("http://evil.example/v1/endpoints"), &local));
    }

    #[test]
    fn with_an_origin_it_is_the_only_one() {
        let ours = access(Some("https://webhooks.example.com"));
        let host = "webhooks.example.com";
        assert!(is_ours(&ours, &headers(host, None)));
        assert!(is_ours(&ours, &headers(host, Some("https://webhooks.example.com"))));
        for (host, origin) in [
            ("localhost", None),
            ("webhooks.example.com:8443", None),
            (host, Some("http://webhooks.example.com")),
            (host, Some("https://evil.example")),
            (host, Some("null")),
        ] {
            assert!(!is_ours(&ours, &headers(host, origin)), "{host} {origin:?}");
        }
    }

    #[test]
    fn one_who_asks_too_often_waits_and_nobody_else_does() {
        let ours = access(None);
        let many = (0..200).filter(|_| ours.count(&Bearer::Tenant("a".to_owned())).is_ok()).count();
        assert!((60..200).contains(&many), "{many}");
        assert!(ours.count(&Bearer::Tenant("b".to_owned())).is_ok());
    }

    #[test]
    fn those_that_are_counted_are_not_more_and_more() {
        let ours = access(None);
        for n in 0..COUNTED + 10 {
            assert!(ours.count(&Bearer::Tenant(n.to_string())).is_ok());
        }
        assert_eq!(ours.requests.buckets.lock().unwrap().len(), COUNTED);
    }

    #[test]
    fn guesses_are_limited_and_the_right_token_is_let_in_all_the_same() {
        let ours = access(None);
        let with = |token: &str| {
            let mut headers = headers("localhost", None);
            headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
            ours.bearer(&headers)
        };
        let refused = (0..100).filter(|_| format!("{:?}", with("guess")).contains("429")).count();
        assert!(refused > 0 && refused < 100, "{refused}");
        assert_eq!(with(&"t".repeat(32)).unwrap(), Bearer::Operator);
    }
}
