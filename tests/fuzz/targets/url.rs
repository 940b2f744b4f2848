//! A URL that passes is HTTPS, names no special address, shows nothing of its path, and passes again unchanged.
#![no_main]

use std::net::IpAddr;

use lead_webhook::egress::{Lists, Policy};
use libfuzzer_sys::fuzz_target;

/// Worked out by the standard library's own tables, not by ours: a part of what is forbidden.
fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_documentation()
                || v4.is_multicast()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (18..20).contains(&b))
        }
        IpAddr::V6(v6) => {
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || v6.is_unique_local()
                || v6.is_unicast_link_local()
                || v6.segments()[..6] == [0; 6]
        }
    }
}

fuzz_target!(|text: &str| {
    let policy = Policy::new(Lists::default());
    match policy.vet_url(text) {
        Ok(url) => {
            let parsed = url.url();
            assert_eq!(parsed.scheme(), "https");
            assert!(parsed.username().is_empty() && parsed.password().is_none() && parsed.fragment().is_none());
            assert!(url.literal().is_none_or(|address| !is_special(address)), "{:?}", url.literal());
            let again = policy.vet_url(url.as_str()).expect("what passed passes again");
            assert_eq!(again.as_str(), url.as_str());
            assert_eq!((again.host(), again.port()), (url.host(), url.port()));
            let shown = match url.literal() {
                Some(IpAddr::V6(address)) => format!("https://[{address}]:{}/…", url.port()),
                _ => format!("https://{}:{}/…", url.host(), url.port()),
            };
            assert_eq!(url.to_string(), shown);
            assert!(format!("{url:?}").contains(&shown));
        }
        Err(refused) => {
            let rest = text.split_once("://").map_or("", |(_, rest)| rest);
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let said = refused.to_string();
            assert!(path.len() < 24 || host.contains(path) || !said.contains(path), "{said}");
        }
    }
});
