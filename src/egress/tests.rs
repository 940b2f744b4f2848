//! The corpus, row by row.

use std::{
    collections::VecDeque,
    future::pending,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Mutex,
    time::Duration,
};

use futures_util::future::BoxFuture;
use ipnet::IpNet;

use crate::names::{Addresses, LookupError};

use super::{Lists, Lookup, Policy, ResolveError, Resolver, UrlRefused};

const URLS: &str = include_str!("../../tests/corpus/egress_urls.tsv");
const DNS_CASES: &str = include_str!("../../tests/corpus/egress_dns_cases.tsv");
const ADDRESSES: &str = include_str!("../../tests/corpus/special_addresses.tsv");

fn rows(corpus: &str) -> impl Iterator<Item = Vec<&str>> {
    corpus.lines().skip(1).map(|line| line.split('\t').collect())
}

fn policy() -> Policy {
    Policy::new(Lists::default())
}

fn literal_url(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("https://{address}/"),
        IpAddr::V6(address) => format!("https://[{address}]/"),
    }
}

#[test]
fn what_is_shown_of_a_url_and_what_cannot_be_seen_in_it_is_refused() {
    for (url, refused) in [
        ("https://hooks.example.org:443/…", UrlRefused::Masked),
        ("https://hooks.example.org/a\u{200b}b", UrlRefused::InvisibleCharacter),
        ("https://hooks.example.org/a\u{feff}", UrlRefused::InvisibleCharacter),
    ] {
        assert_eq!(policy().vet_url(url).unwrap_err(), refused);
    }
}

#[test]
fn the_roots_dot_makes_no_other_destination() {
    let of = |url: &str| policy().vet_url(url).unwrap().destination();
    assert_eq!(of("https://script.google.com./macros/s/x/exec"), of("https://script.google.com/macros/s/x/exec"));
}

#[test]
fn every_url_of_the_corpus_gets_its_verdict() {
    let policy = policy();
    let mut wrong = Vec::new();
    for row in rows(URLS) {
        let verdict = policy.vet_url(row[0]);
        if verdict.is_ok() != (row[1] == "accept") {
            wrong.push(format!("{:?}: expected {}, got {verdict:?} ({})", row[0], row[1], row[2]));
        }
    }
    assert_eq!(rows(URLS).count(), 358);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_accepted_url_is_accepted_again_in_its_stored_form() {
    let policy = policy();
    let long = format!("https://example.com/{}", "a".repeat(2_028));
    for raw in rows(URLS).filter(|row| row[1] == "accept").map(|row| row[0]).chain([long.as_str()]) {
        let url = policy.vet_url(raw).unwrap();
        assert_eq!(policy.vet_url(url.as_str()).as_ref(), Ok(&url));
    }
}

#[test]
fn a_url_is_too_long_as_text_or_as_parsed() {
    let policy = policy();
    for (repeated, count, fits) in [("a", 2_028, true), ("a", 2_029, false), ("é", 338, true), ("é", 339, false)] {
        let url = format!("https://example.com/{}", repeated.repeat(count));
        assert_eq!(policy.vet_url(&url).is_ok(), fits, "{repeated} × {count}");
    }
    let fragment = format!("https://example.com/#{}", "a".repeat(2_028));
    assert!(policy.vet_url(&fragment).is_err(), "the text is measured before the fragment is dropped");
}

#[test]
fn the_stored_form_is_parsed_trimmed_and_without_fragment() {
    let policy = policy();
    for (raw, stored, shown) in [
        (" HTTPS://EXAMPLE.com:443/a?b=c#d\n", "https://example.com/a?b=c", "https://example.com:443/…"),
        ("https://bücher.de:08443", "https://xn--bcher-kva.de:8443/", "https://xn--bcher-kva.de:8443/…"),
        ("https://[2606:4700:0::1]/x", "https://[2606:4700::1]/x", "https://[2606:4700::1]:443/…"),
        ("https://1.1.1.1/x", "https://1.1.1.1/x", "https://1.1.1.1:443/…"),
    ] {
        let url = policy.vet_url(raw).unwrap();
        assert_eq!((url.as_str(), url.url().as_str()), (stored, stored));
        assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
    }
    let url = policy.vet_url("https://[2606:4700::1]:8443/").unwrap();
    assert_eq!((url.host(), url.port(), url.literal()), ("2606:4700::1", 8443, "2606:4700::1".parse().ok()));
}

#[test]
fn forms_that_parsers_read_differently_are_refused() {
    let policy = policy();
    for raw in [
        "https://example.com:+443/",
        "https://example.com:４４３/",
        "https://example.com:443x/",
        "https://example.com:4 43/",
        "https://[2606:4700::1]8443/",
        "https://[2606:4700::1",
        "https://2606:4700::1/",
        "https://1.1.1.1./",
        "https://01.1.1.1/",
        "https://１.1.1.1/",
        "https://%62ücher.de/",
        "https://user@bücher.de/",
        "https://example．internal/",
        "https://a!b.example.com/",
        "https://a,b.example.com/",
        "https://bad-.example.com/",
        "https://exam\tple.com/",
        "https://example.com/\u{7f}",
        "https://example.com/\u{a0}x",
        "https://example.com/a\\b",
        "https://example.com?x#\\",
        "https:/example.com/",
        "https://example.com:25/",
        "https://example.com:10080/",
        "",
        " ",
        "https",
        "https:",
        "https://",
        "https://:443/",
    ] {
        assert!(policy.vet_url(raw).is_err(), "{raw:?}");
    }
}

#[test]
fn a_refusal_names_what_is_wrong() {
    let policy = policy();
    for (raw, expected) in [
        ("https://example.com/a\tb", UrlRefused::ControlCharacter),
        ("https://example.com/a b", UrlRefused::WhiteSpace),
        ("https:\\\\example.com", UrlRefused::Backslash),
        ("http://example.com/", UrlRefused::NotHttps),
        ("https:example.com", UrlRefused::MissingSlashes),
        ("https://user@example.com/", UrlRefused::UserInfo),
        ("https:///example.com/", UrlRefused::EmptyHost),
        ("https://a..b/", UrlRefused::MalformedHost),
        ("https://127.1/", UrlRefused::Ipv4Spelling),
        ("https://example.com:65536/", UrlRefused::MalformedPort),
        ("https://example.com:6697/", UrlRefused::BlockedPort(6697)),
        ("https://crm/", UrlRefused::SingleLabel { host: "crm".into() }),
    ] {
        assert_eq!(policy.vet_url(raw), Err(expected), "{raw}");
    }
}

#[test]
fn no_refusal_repeats_a_path_a_query_or_user_info() {
    let policy = policy();
    let tail = "s3cret-path/x?s3cret=query#s3cret";
    for row in rows(URLS).filter(|row| row[1] == "reject") {
        // The corpus' own path gives way to one that can be told from the host.
        let host = row[0].split("://").last().unwrap().split(['/', '?', '#']).next().unwrap();
        let userless = host.rsplit('@').next().unwrap();
        for raw in [format!("https://{userless}/{tail}"), format!("https://s3cret:s3cret@{userless}/{tail}")] {
            if let Err(refused) = policy.vet_url(&raw) {
                assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{raw}: {refused}");
            }
        }
    }
    for raw in [
        "http://example.com/s3cret",
        "s3cret",
        "s3cret:example.com",
        "https:s3cret",
        "https:///s3cret",
        "https://example.com/s3cret s3cret",
        "https://example.com:s3cret/",
        "https://example.com:22/s3cret",
        "https://[s3cret]/",
        "https://10.0.0.1/s3cret",
        "https://crm.internal/s3cret",
        "https://crm/s3cret",
    ] {
        let refused = policy.vet_url(raw).unwrap_err();
        assert!(!format!("{refused} {refused:?}").contains("s3cret"), "{raw}: {refused}");
    }
}

/// A name server that gives one answer after the other, the last one for ever.
struct Stub(Mutex<VecDeque<Answer>>);

#[derive(Clone)]
enum Answer {
    Addresses(Vec<IpAddr>),
    Failure(&'static str),
    Silence,
}

impl Stub {
    /// Reads the words of the corpus.
    fn of(answers: &str) -> Self {
        let addresses: Vec<IpAddr> = answers
            .split([' ', ',', ';'])
            .filter_map(|word| word.parse().ok())
            // The redirect's target is not an answer.
            .take(if answers.contains("302") { 1 } else { usize::MAX })
            .collect();
        let one_by_one = || addresses.iter().map(|&address| Answer::Addresses(vec![address])).collect();
        Self(Mutex::new(match answers {
            "NODATA" => [Answer::Addresses(vec![])].into(),
            "NXDOMAIN" => [Answer::Failure("NXDOMAIN")].into(),
            "SERVFAIL" => [Answer::Failure("SERVFAIL")].into(),
            "no answer for 60 s" => [Answer::Silence].into(),
            "a public address inside deny_networks" => [Answer::Addresses(vec![[198, 41, 0, 4].into()])].into(),
            "1000 A records, last one private" => {
                let mut many: Vec<IpAddr> =
                    (0..999).map(|n: u32| Ipv4Addr::from_bits(0x0808_0000 + n).into()).collect();
                many.push([10, 0, 0, 1].into());
                [Answer::Addresses(many)].into()
            }
            _ if answers.contains("2nd") || answers.contains("TTL 0") || answers.contains(" or ") => one_by_one(),
            _ => [Answer::Addresses(addresses)].into(),
        }))
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl Lookup for Stub {
    fn lookup<'a>(&'a self, _host: &'a str) -> BoxFuture<'a, Addresses> {
        Box::pin(async move {
            let answer = {
                let mut answers = self.0.lock().unwrap();
                if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() }
            };
            match answer.unwrap() {
                Answer::Addresses(addresses) => Ok(addresses),
                Answer::Failure(why) => Err(LookupError::Failed(why.to_owned())),
                Answer::Silence => pending().await,
            }
        })
    }
}

/// What becomes of the last of `resolutions` attempts.
async fn verdict(resolver: &Resolver, host: &str, resolutions: usize) -> &'static str {
    let mut verdict = "";
    for _ in 0..resolutions {
        verdict = match tokio::time::timeout(Duration::from_millis(20), resolver.resolve(host, 443)).await {
            Ok(Ok(_)) => "sent",
            Ok(Err(ResolveError::Refused(_))) => "blocked",
            Ok(Err(_)) => "dns",
            Err(_) => "timeout",
        };
    }
    verdict
}

#[tokio::test]
async fn every_dns_case_of_the_corpus_gets_its_verdict() {
    let settings = Lists { deny_networks: vec!["198.41.0.0/24".parse().unwrap()], ..Lists::default() };
    let mut wrong = Vec::new();
    for row in rows(DNS_CASES) {
        let policy = Policy::new(settings.clone());
        let url = policy.vet_url(row[0]).unwrap();
        let stub = Stub::of(row[1]);
        let resolutions = stub.len();
        let verdict = verdict(&Resolver::new(policy, stub), url.host(), resolutions).await;
        let expected = if row[2].starts_with("one POST") { "sent" } else { row[2] };
        if !expected.contains(verdict) {
            wrong.push(format!("{}: expected {expected}, got {verdict}", row[0]));
        }
    }
    assert_eq!(rows(DNS_CASES).count(), 22);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_first_and_last_address_of_every_special_block_are_refused() {
    let policy = policy();
    let mut blocks = 0;
    for row in rows(ADDRESSES).filter(|row| row[0] != "not 2000::/3") {
        let block: IpNet = row[0].parse().unwrap();
        for address in [block.network(), block.broadcast()] {
            assert!(policy.vet_url(&literal_url(address)).is_err(), "{address} of {block} as a literal");
            let answer = policy.vet_addresses("example.com", &[address]);
            assert!(answer.is_err(), "{address} of {block} as an answer");
        }
        blocks += 1;
    }
    assert_eq!(blocks, 55);
}

/// The corpus as plain ranges of numbers: nothing of the code under test.
struct Reference(Vec<(bool, u128, u128)>);

impl Reference {
    fn read() -> Self {
        let ranges = rows(ADDRESSES).filter(|row| row[0] != "not 2000::/3").map(|row| {
            let (start, length) = row[0].split_once('/').unwrap();
            let (is_v6, start, width) = match start.parse().unwrap() {
                IpAddr::V4(start) => (false, u128::from(start.to_bits()), 32),
                IpAddr::V6(start) => (true, start.to_bits(), 128),
            };
            let size = 1_u128 << (width - length.parse::<u32>().unwrap());
            (is_v6, start, start + (size - 1))
        });
        Self(ranges.collect())
    }

    fn refuses_literal(&self, address: IpAddr) -> bool {
        let (is_v6, number) = match address {
            IpAddr::V4(address) => (false, u128::from(address.to_bits())),
            IpAddr::V6(address) => (true, address.to_bits()),
        };
        let outside = is_v6 && number >> 125 != 1;
        let isatap = is_v6 && matches!((number >> 32) & 0xffff_ffff, 0x5efe | 0x0200_5efe);
        outside || isatap || self.0.iter().any(|&(v6, first, last)| v6 == is_v6 && (first..=last).contains(&number))
    }

    fn refuses_answer(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V6(v6) if v6.to_bits() >> 32 == 0x0064_ff9b << 64 => {
                let carried = Ipv4Addr::from_bits(u32::try_from(v6.to_bits() & 0xffff_ffff).unwrap());
                self.refuses_literal(carried.into())
            }
            _ => self.refuses_literal(address),
        }
    }
}

/// Xorshift: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u128 {
        let mut draw = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            u128::from(self.0)
        };
        draw() << 64 | draw()
    }

    /// An IPv4 address anywhere, or at and around the edges of a special block.
    fn ipv4(&mut self, reference: &Reference) -> u32 {
        loop {
            match self.address(reference) {
                IpAddr::V4(address) => return address.to_bits(),
                IpAddr::V6(_) => {}
            }
        }
    }

    /// Anywhere, in global unicast, in the NAT64 prefix, an ISATAP id, or at and around the edges of a special block.
    fn address(&mut self, reference: &Reference) -> IpAddr {
        let (choice, random) = (self.next() % 8, self.next());
        let (is_v6, first, last) = reference.0[usize::try_from(self.next() % reference.0.len() as u128).unwrap()];
        let edge = if random & 1 == 0 { first } else { last };
        let low = |number: u128| u32::try_from(number & 0xffff_ffff).unwrap();
        let (is_v6, number) = match choice {
            0 => (false, random),
            1 => (true, random),
            2 => (true, random >> 3 | 1 << 125),
            3 => (true, 0x0064_ff9b << 96 | u128::from(low(random))),
            4 => (true, 1 << 125 | random >> 8 << 64 | 0x5efe << 32 | u128::from(low(random))),
            5 => (is_v6, first + random % (last - first + 1)),
            6 => (is_v6, edge.wrapping_add(random >> 1 & 3)),
            _ => (is_v6, edge.wrapping_sub(random >> 1 & 3)),
        };
        if is_v6 { Ipv6Addr::from_bits(number).into() } else { Ipv4Addr::from_bits(low(number)).into() }
    }
}

#[test]
fn the_verdict_is_that_of_the_corpus_for_any_address() {
    let (policy, reference, mut numbers) = (policy(), Reference::read(), Numbers(0x9e37_79b9_7f4a_7c15));
    let mut refused = 0;
    for _ in 0..50_000 {
        let address = numbers.address(&reference);
        let literal = policy.vet_url(&literal_url(address)).is_err();
        assert_eq!(literal, reference.refuses_literal(address), "{address} as a literal");
        let answer = policy.vet_addresses("example.com", &[address]).is_err();
        assert_eq!(answer, reference.refuses_answer(address), "{address} as an answer");
        refused += u32::from(literal);
    }
    assert!((20_000..45_000).contains(&refused), "both verdicts are met often: {refused}");
}

/// The forms in which an IPv6 address carries an IPv4 one, each written down as its RFC has it: `carried` by its number,
/// the rest at random.
fn embeddings(carried: u32, random: u128) -> [(&'static str, u128); 10] {
    let low = u128::from(carried);
    let prefix = (random >> 67 | 1 << 61) << 64;
    [
        ("mapped", 0xffff << 32 | low),
        ("compatible", low),
        ("translated", 0xffff << 48 | low),
        ("NAT64", 0x0064_ff9b << 96 | low),
        ("6to4", 0x2002 << 112 | low << 80 | random >> 48),
        (
            "Teredo",
            0x2001 << 112 | (random >> 64 & 0xffff_ffff) << 64 | (random & 0xffff_ffff) << 32 | u128::from(!carried),
        ),
        ("ISATAP", prefix | 0x5efe << 32 | low),
        ("ISATAP, universal", prefix | 0x0200_5efe << 32 | low),
        ("ISATAP, link-local", 0xfe80 << 112 | 0x5efe << 32 | low),
        ("ISATAP, anywhere", random >> 64 << 64 | 0x5efe << 32 | low),
    ]
}

#[test]
fn a_carried_address_is_judged_in_every_form_that_can_carry_one() {
    let (reference, mut numbers) = (Reference::read(), Numbers(0x2545_f491_4f6c_dd1d));
    let (mut passed, mut denied) = (0, 0);
    for _ in 0..5_000 {
        let (carried, random) = (numbers.ipv4(&reference), numbers.next());
        // Half of the networks hold the address, half are somewhere else.
        let somewhere = if random & 1 == 0 { carried } else { u32::try_from(random >> 96).unwrap() };
        let network =
            IpNet::new(Ipv4Addr::from_bits(somewhere).into(), 8 + u8::try_from(random >> 1 & 15).unwrap()).unwrap();
        let denies = network.contains(&IpAddr::from(Ipv4Addr::from_bits(carried)));
        let denying = Policy::new(Lists { deny_networks: vec![network], ..Lists::default() });
        let allowing_all = Policy::new(Lists {
            deny_networks: vec![network],
            allow_networks: vec!["::/0".parse().unwrap(), "0.0.0.0/0".parse().unwrap()],
            ..Lists::default()
        });
        for (form, number) in embeddings(carried, random) {
            let address = IpAddr::from(Ipv6Addr::from_bits(number));
            let refuses = |policy: &Policy| policy.vet_addresses("example.com", &[address]).is_err();
            let refused = denies || reference.refuses_answer(address);
            assert_eq!(refuses(&denying), refused, "{form}: {address} as an answer, {network} denied");
            let literal = denying.vet_url(&literal_url(address)).is_err();
            assert!(literal, "{form}: {address} as a literal");
            // Loopback and unspecified in place of what a compatible address carries.
            if !(form == "compatible" && carried <= 1) {
                assert_eq!(refuses(&allowing_all), denies, "{form}: {address} as an answer, {network} alone denied");
            }
            passed += u32::from(!refused);
            denied += u32::from(denies);
        }
    }
    assert!(passed > 500 && denied > 20_000, "both verdicts are met often: {passed}, {denied}");
}
