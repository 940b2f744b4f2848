//! The kinds of trouble, each with the outcome that the specification (section 4) gives it.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tokio_rustls::TlsAcceptor;

use super::hostile::{Hostile, Step};
use crate::harness::Identity;

/// The longest value that is sent. Twice of it is more than the sockets on both sides hold.
const LARGE: i32 = 256 * 1024;

/// An answer after which the connection is kept.
pub(super) const KEPT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// The beginning of a gzip of zero bytes: a thousand more for each that follows.
pub(super) const BOMB: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff\xed\xc1\x01\x01\0\0\0\x82 \xff\xafnH@\x01";

/// What comes before a body that ends with the connection.
const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

/// What ends an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// What the receiver does: a limit would come later than the test waits.
    None,
    /// The endpoint's own limit, in seconds.
    Seconds(u8),
}

/// A log row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) status: &'static str,
    pub(super) failure: Option<&'static str>,
    pub(super) http_status: Option<i16>,
    /// These are in the error's text.
    pub(super) words: &'static str,
}

/// One kind of trouble.
pub(super) struct Case {
    /// The tenant's name too.
    pub(super) name: &'static str,
    pub(super) hostile: Hostile,
    pub(super) limit: Limit,
    /// Characters of the lead's conversation id.
    pub(super) size: i32,
    pub(super) expected: Expected,
}

impl Case {
    fn new(name: &'static str, hostile: Hostile, expected: Expected) -> Self {
        Self { name, hostile, limit: Limit::None, size: 1, expected }
    }

    /// The limit ends it. Where an answer must have begun before, that has time enough on a busy machine.
    fn limited(self) -> Self {
        let seconds = if self.expected.http_status.is_some() { 16 } else { 3 };
        self.within(seconds)
    }

    /// The endpoint's limit, in seconds.
    fn within(self, seconds: u8) -> Self {
        Self { limit: Limit::Seconds(seconds), ..self }
    }

    /// The endpoint's limit: one beyond what a test waits, where none is to be met.
    pub(super) fn timeout(&self) -> String {
        match self.limit {
            Limit::None => "60s".to_owned(),
            Limit::Seconds(seconds) => format!("{seconds}s"),
        }
    }

    /// The request is larger than a receiver takes that does not read it.
    fn large(self) -> Self {
        Self { size: LARGE, ..self }
    }
}

fn failed(failure: &'static str, words: &'static str) -> Expected {
    Expected { status: "failed", failure: Some(failure), http_status: None, words }
}

fn answered(failure: &'static str, http_status: i16) -> Expected {
    Expected { status: "failed", failure: Some(failure), http_status: Some(http_status), words: "answered" }
}

fn delivered(http_status: i16) -> Expected {
    Expected { status: "delivered", failure: None, http_status: Some(http_status), words: "" }
}

pub(super) fn say(bytes: impl AsRef<[u8]>) -> Step {
    Step::Say(bytes.as_ref().to_vec())
}

fn flood(bytes: impl AsRef<[u8]>) -> Step {
    Step::Flood(bytes.as_ref().to_vec())
}

fn trickle(bytes: impl AsRef<[u8]>) -> Step {
    Step::Trickle(bytes.as_ref().to_vec())
}

/// All of them, and the authorities that the daemon is to trust.
pub(super) fn cases() -> (Vec<Case>, String) {
    let identity = Identity::of(&["localhost"]);
    let tls = identity.acceptor();
    let (certificates, authorities) = certificates();
    let cases = [before_http(), certificates, broken(&tls), endless(&tls), stalled(&tls), early(&tls)];
    (cases.into_iter().flatten().collect(), identity.ca + &authorities)
}

/// A TLS record: its type, and the version that its head names.
fn record(kind: u8, version: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[kind], &version[..], &length, payload].concat()
}

/// A `ServerHello` that chooses this version and this cipher suite.
fn server_hello(version: [u8; 2], cipher_suite: [u8; 2]) -> Vec<u8> {
    let hello = [&version[..], &[7; 32], &[0], &cipher_suite, &[0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    record(22, version, &[&[2, 0, 0, length], &hello[..]].concat())
}

/// Trouble in place of a TLS handshake.
fn before_http() -> Vec<Case> {
    const TLS_1_1: [u8; 2] = [3, 2];
    const TLS_1_2: [u8; 2] = [3, 3];
    /// `TLS_RSA_WITH_RC4_128_SHA`, which nobody should offer.
    const RC4: [u8; 2] = [0, 5];
    let plain = |name, script: Vec<Step>, words| Case::new(name, Hostile::plain(script), failed("tls", words));
    let after_hello = |name, bytes, words| plain(name, vec![Step::Beginning, say(bytes), Step::Hold], words);
    vec![
        plain("closed at once", vec![], "broke off"),
        plain("reset in the handshake", vec![Step::Beginning, Step::Reset], "broke off"),
        after_hello("TLS 1.1 only", server_hello(TLS_1_1, [0xc0, 0x13]), "no TLS version"),
        after_hello("a cipher not offered", server_hello(TLS_1_2, RC4), "TLS"),
        after_hello("alert: protocol version", record(21, TLS_1_1, &[2, 70]), "alert 70"),
        after_hello("alert: handshake failure", record(21, TLS_1_2, &[2, 40]), "alert 40"),
        plain("garbage for TLS", vec![Step::Beginning, flood([0xff, 0, 7])], "does not speak TLS"),
        plain("endless handshake", vec![Step::Beginning, flood(record(22, TLS_1_2, &[11; 1024]))], "TLS"),
        plain("endless warnings", vec![Step::Beginning, flood(record(21, TLS_1_2, &[1, 90]))], "TLS"),
    ]
}

/// Certificates that must not be accepted, beside those of another name or an unknown authority; the authorities that
/// are trusted all the same.
fn certificates() -> (Vec<Case>, String) {
    let expired = Identity::changed(&["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = Identity::changed(&["localhost"], |params| params.not_before = date_time_ymd(3000, 1, 1));
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let self_signed = Identity { ca: String::new(), certificate, key };
    let authorities = format!("{}{}", expired.ca, early.ca);
    let case = |name, identity: &Identity, words| {
        Case::new(name, Hostile::tls(identity.acceptor(), vec![Step::Request, say(KEPT)]), failed("tls", words))
    };
    let cases = vec![
        case("expired", &expired, "has expired"),
        case("not valid yet", &early, "not valid yet"),
        case("self-signed", &self_signed, "not trusted"),
    ];
    (cases, authorities)
}

/// Answers that are none, and connections that break.
fn broken(tls: &TlsAcceptor) -> Vec<Case> {
    let case = |name, script: Vec<Step>, expected| Case::new(name, Hostile::tls(tls.clone(), script), expected);
    let answer =
        |name, bytes: &'static [u8], expected| case(name, vec![Step::Request, say(bytes), Step::Hold], expected);
    let protocol = failed("protocol", "the connection broke or the answer is not HTTP");
    vec![
        case("reset before the request", vec![Step::Reset], protocol),
        case("reset within the request", vec![Step::Beginning, Step::Reset], protocol),
        answer("garbage", b"\x00\xff\x13\x37\r\n\r\n", protocol),
        answer("a page without a head", b"<html>200 OK</html>\r\n\r\n", protocol),
        answer("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", protocol),
        answer("HTTP/2 settings", b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64", protocol),
        answer("a status of two digits", b"HTTP/1.1 20 OK\r\n\r\n", protocol),
        answer("a negative length", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", protocol),
        answer("two lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", protocol),
        answer("a zero byte in the head", b"HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", protocol),
        answer("a status line without reason", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", delivered(200)),
        answer("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", delivered(200)),
        answer(
            "a hint before the answer",
            b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n",
            delivered(202),
        ),
        answer(
            "an upgrade",
            b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            answered("http_status", 101),
        ),
        answer("a chunk that is none", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", delivered(200)),
        answer("a status beyond all", b"HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n", answered("http_status", 999)),
    ]
}

/// Answers without end, as fast as they are taken.
fn endless(tls: &TlsAcceptor) -> Vec<Case> {
    let case = |name, before: &str, again: &str, expected| {
        Case::new(name, Hostile::tls(tls.clone(), vec![Step::Request, say(before), flood(again)]), expected)
    };
    let protocol = failed("protocol", "not HTTP");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        case("endless body", OK, "x", delivered(200)),
        case("endless chunks", chunked, "1\r\nx\r\n", delivered(200)),
        case("an endless chunk size", chunked, "0", delivered(200)).limited(),
        case("an endless chunk extension", &format!("{chunked}1;x="), "x", delivered(200)),
        case("endless trailers", &format!("{chunked}0\r\n"), "X-A: b\r\n", delivered(200)),
        case("a longer body than announced", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "x", delivered(200)),
        case("redirect with endless body", "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "x", answered("redirect", 302)),
        case("error with endless body", "HTTP/1.1 503 No\r\n\r\n", "x", answered("http_status", 503)),
        case("endless headers", "HTTP/1.1 200 OK\r\n", "X-A: b\r\n", protocol),
        case("an endless header", "HTTP/1.1 200 OK\r\nX-A: ", "x", protocol),
        case("an endless reason", "HTTP/1.1 200 ", "x", protocol),
        case("endless empty lines", "", "\r\n", protocol),
    ]
}

/// Nothing more comes, or hardly anything.
fn stalled(tls: &TlsAcceptor) -> Vec<Case> {
    let (timeout, unconnected) =
        (failed("timeout", "no answer within 3 s"), failed("timeout", "no connection within 3 s"));
    let hello = server_hello([3, 3], [0xc0, 0x2b]);
    let plain = |name, script: Vec<Step>| Case::new(name, Hostile::plain(script), unconnected).limited();
    let case =
        |name, script: Vec<Step>, expected| Case::new(name, Hostile::tls(tls.clone(), script), expected).limited();
    vec![
        plain("a black hole", vec![Step::Ignore]),
        plain("half a handshake", vec![Step::Beginning, say(&hello[..20]), Step::Hold]),
        plain("a handshake that trickles", vec![Step::Beginning, say(&hello), say([22, 3, 3, 63, 255]), trickle([0])]),
        case("silence", vec![Step::Request, Step::Hold], timeout),
        case("half a status line", vec![Step::Request, say("HTTP/1.1 2"), Step::Hold], timeout),
        case("a head that trickles", vec![Step::Request, say("HTTP/1.1 200 OK\r\n"), trickle("X-A: b\r\n")], timeout),
        case("hints that trickle", vec![Step::Request, trickle("HTTP/1.1 100 Continue\r\n\r\n")], timeout),
        case("a body that trickles", vec![Step::Request, say(OK), trickle("x")], delivered(200)),
        case(
            "an error that trickles",
            vec![Step::Request, say("HTTP/1.1 500 No\r\n\r\n"), trickle("x")],
            answered("http_status", 500),
        ),
    ]
}

/// Receivers that do not read the request.
fn early(tls: &TlsAcceptor) -> Vec<Case> {
    let case = |name, script: Vec<Step>, expected| Case::new(name, Hostile::tls(tls.clone(), script), expected).large();
    vec![
        case("an early answer", vec![Step::Head, say(KEPT), Step::Ignore], delivered(200)),
        case(
            "an early refusal",
            vec![Step::Head, say("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"), Step::Ignore],
            answered("http_status", 413),
        ),
        case("a request never read", vec![Step::Ignore], failed("timeout", "no answer within 3 s")).limited(),
    ]
}

/// Those that would take most, if they were let.
pub(super) fn worst(tls: &TlsAcceptor) -> Vec<Case> {
    let (protocol, timeout) = (failed("protocol", ""), failed("timeout", ""));
    let hint = "HTTP/1.1 103 Early Hints\r\n\r\n";
    let bomb = [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n", BOMB].concat();
    let case = |name, begin: &str, then: Step, expected| {
        Case::new(name, Hostile::tls(tls.clone(), vec![Step::Request, say(begin), then]), expected)
    };
    vec![
        Case::new(
            "an endless bomb",
            Hostile::tls(tls.clone(), vec![Step::Request, say(bomb), flood([0; 1024])]),
            delivered(200),
        ),
        case("endless headers", "HTTP/1.1 200 OK\r\n", flood("X-A: b\r\n"), protocol),
        case("an endless header", "HTTP/1.1 200 OK\r\nX-A: ", flood("x"), protocol),
        case("endless hints", "", flood(hint), timeout).within(2),
        case("a head that trickles", "HTTP/1.1 200 OK\r\n", trickle("X-A: b\r\n"), timeout).within(2),
        case("hints that trickle", "", trickle(hint), timeout).within(2),
        case("silence", "", Step::Hold, timeout).within(10),
        Case::new("a black hole", Hostile::plain(vec![Step::Ignore]), timeout).within(10),
    ]
}
