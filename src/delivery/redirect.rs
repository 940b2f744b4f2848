//! Where a redirect leads, in words: beside the address that was posted to, and without a part of either. Both are
//! credentials, and a receiver may have made its answer of the lead's values.

use url::Url;

use crate::egress::EndpointUrl;

/// What stands behind "a redirect".
pub(super) fn leads(posted: &EndpointUrl, location: Option<&str>) -> &'static str {
    let posted = posted.url();
    let Some(to) = location.and_then(|location| posted.join(location).ok()) else { return "without an address" };
    let [at, to_host] = [posted, &to].map(|url| url.host_str().unwrap_or_default());
    let trimmed = |url: &Url| (url.path().trim_end_matches('/').to_owned(), url.query().map(str::to_owned));
    if to.scheme() != "https" {
        "to an address without HTTPS"
    } else if to_host.strip_prefix("www.") == Some(at) {
        "to the same host with www."
    } else if at.strip_prefix("www.") == Some(to_host) {
        "to the same host without www."
    } else if to_host != at {
        "to another host"
    } else if to.port() != posted.port() || trimmed(&to) != trimmed(posted) {
        "to another address of the same host"
    } else if to.path() == posted.path() {
        "to the very same address"
    } else if to.path().ends_with('/') {
        "to the same address with a slash at its end"
    } else {
        "to the same address without the slash at its end"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Lists, Policy};

    #[test]
    fn a_redirect_is_told_beside_the_address_that_was_posted_to() {
        let from = |posted: &str, location| leads(&Policy::new(Lists::default()).vet_url(posted).unwrap(), location);
        for (location, told) in [
            (None, "without an address"),
            (Some("https://[oops"), "without an address"),
            (Some("http://example.com/hooks/a"), "to an address without HTTPS"),
            (Some("//WWW.example.com/hooks/a"), "to the same host with www."),
            (Some("https://accounts.example.com/ann@example.com"), "to another host"),
            (Some("https://example.com:8443/hooks/a"), "to another address of the same host"),
            (Some("/login"), "to another address of the same host"),
            (Some("?token=1"), "to another address of the same host"),
            (Some("/hooks/a/"), "to the same address with a slash at its end"),
            (Some("https://example.com:443/hooks/a#top"), "to the very same address"),
        ] {
            assert_eq!(from("https://example.com/hooks/a", location), told, "{location:?}");
        }
        assert_eq!(
            from("https://www.example.com/a/?b", Some("/a?b")),
            "to the same address without the slash at its end"
        );
        assert_eq!(from("https://www.example.com/", Some("https://example.com/")), "to the same host without www.");
    }
}
