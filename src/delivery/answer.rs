//! What a receiver's answer means, and what of it is kept.
//!
//! The status decides; the body is never inspected for that. Of the body only a code word of a destination that we
//! know is kept, and an excerpt where the operator asked for it.

use serde_json::Value;
use url::Url;

use super::redirect;
use crate::{
    egress::{EndpointUrl, without_root},
    outcome::{Failure, Status},
};

/// Where Google's Apps Script web apps are posted to.
const APPS_SCRIPT: &str = "script.google.com";

/// Where an Apps Script web app sends the client for its output, after it ran.
const APPS_SCRIPT_OUTPUT: &str = "script.googleusercontent.com";

/// The path there.
const APPS_SCRIPT_OUTPUT_PATH: &str = "/macros/echo";

/// Where Google sends whoever must sign in first.
const GOOGLE_ACCOUNTS: &str = "accounts.google.com";

/// The longest error code word, in bytes; the log's column takes no more.
const MAX_ERROR_CODE: usize = 64;

/// The content types that are kept by name. Any other word could be the lead's email, sent back by a receiver.
const CONTENT_TYPES: [&str; 12] = [
    "application/json",
    "application/problem+json",
    "application/vnd.api+json",
    "application/xml",
    "application/octet-stream",
    "application/x-www-form-urlencoded",
    "text/html",
    "text/plain",
    "text/xml",
    "text/css",
    "text/javascript",
    "multipart/form-data",
];

/// What an answer means, and the error's text for the operator where it is not delivered.
///
/// 2xx is delivered, 300 to 399 is [`Failure::Redirect`], all else [`Failure::HttpStatus`]. The one exception is
/// that of the specification (section 4): an Apps Script web app answers 302 after it ran.
///
/// `posted` is what was posted to; `location` the answer's `Location` as it came. The text shows neither: addresses hold
/// credentials.
pub fn judge(posted: &EndpointUrl, status: u16, location: Option<&str>) -> (Status, Option<String>) {
    let host = without_root(posted.host());
    match status {
        200..=299 => (Status::Delivered, None),
        302 if host == APPS_SCRIPT => judge_apps_script(location),
        300..=399 => {
            let leads = redirect::leads(posted, location);
            let text = format!("answered {status}, a redirect {leads}: none is followed, configure where it leads to");
            (Status::Failed(Failure::Redirect), Some(text))
        }
        _ => {
            let text = format!("answered {status}{}", remedy(host, status));
            (Status::Failed(Failure::HttpStatus), Some(text))
        }
    }
}

fn judge_apps_script(location: Option<&str>) -> (Status, Option<String>) {
    let location = location.and_then(|location| Url::parse(location).ok());
    let is_at = |host| {
        location.as_ref().is_some_and(|url| {
            url.scheme() == "https"
                && url.host_str() == Some(host)
                && url.username().is_empty()
                && url.password().is_none()
        })
    };
    let is_output = location.as_ref().is_some_and(|url| url.path() == APPS_SCRIPT_OUTPUT_PATH && url.port().is_none());
    if is_output && is_at(APPS_SCRIPT_OUTPUT) {
        return (Status::Delivered, None);
    }
    let text = if is_at(GOOGLE_ACCOUNTS) {
        "answered 302 to Google's sign-in, the script did not run: deploy the web app with access for `Anyone`"
    } else {
        "answered 302, but not to the output of an Apps Script: check the deployment's address"
    };
    (Status::Failed(Failure::Redirect), Some(text.to_owned()))
}

/// What to do about a status, where there is something to say beside the number.
fn remedy(host: &str, status: u16) -> &'static str {
    match status {
        409 if is_within(host, "hubapi.com") => ": the contact exists, use the upsert address to update it",
        401 | 403 => {
            ": refused, check the credentials in the custom headers, the address, and the secret that it verifies by"
        }
        404 | 410 => ": nothing is there, check the address",
        405 => ": does not take POST, check the address",
        400 | 415 | 422 => ": the body was not accepted, check the template",
        413 => ": the body is too large for the receiver",
        429 => ": the receiver limits its rate",
        500..=599 => ": the receiver has a problem of its own",
        _ => "",
    }
}

/// The error code word of a known destination: HubSpot's `category` or `errorType`, the `errorType` of its forms,
/// Salesforce's `errorCode`, Slack's plain word. `None` for any other host, and for 2xx, whose body is not inspected.
///
/// Only a word of letters, digits and `_` that begins with a letter passes, so no address and no phone number.
/// (Pipedrive's `error` and `error_info` are sentences.)
pub fn error_code(host: &str, status: u16, body: &[u8]) -> Option<String> {
    let host = without_root(host);
    if (200..300).contains(&status) {
        return None;
    }
    if host == "hooks.slack.com" {
        return code_word(std::str::from_utf8(body).ok()?.trim());
    }
    let pointers: &[&str] = if is_within(host, "hubapi.com") {
        &["/category", "/errorType"]
    } else if is_within(host, "hsforms.com") {
        &["/errors/0/errorType"]
    } else if is_within(host, "salesforce.com") {
        &["/0/errorCode"]
    } else {
        return None;
    };
    let body: Value = serde_json::from_slice(body).ok()?;
    code_word(pointers.iter().find_map(|pointer| body.pointer(pointer))?.as_str()?)
}

/// Whether the answer's connection serves another request: not after a status without a body that announces one, which the
/// next answer would be taken for, nor where `Keep-Alive` says that it ends within the second for which it is kept.
pub fn leaves_connection(status: u16, length: Option<u64>, keep_alive: Option<&str>) -> bool {
    let is_clean = !matches!(status, 204 | 205 | 304) || length.is_none_or(|length| length == 0);
    let mut promises = keep_alive.into_iter().flat_map(|text| text.split(',')).filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        Some((name.trim(), value.trim().parse::<u64>().ok()?))
    });
    is_clean
        && promises.all(|(name, value)| match name.to_ascii_lowercase().as_str() {
            "timeout" => value > 1,
            "max" => value > 0,
            _ => true,
        })
}

fn code_word(word: &str) -> Option<String> {
    let is_word = word.len() <= MAX_ERROR_CODE
        && word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_word.then(|| word.to_owned())
}

/// Whether `host` is a name below `domain`.
fn is_within(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|name| name.ends_with('.'))
}

/// A `Content-Type` as it is kept: without parameters, one that is known by its name, else `other`.
pub fn content_type(raw: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(raw);
    let name = text.split(';').next().map(str::trim).filter(|name| !name.is_empty())?;
    let known = CONTENT_TYPES.into_iter().find(|known| known.eq_ignore_ascii_case(name));
    Some(known.unwrap_or("other").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::{Lists, Policy};

    const ECHO: &str = "https://script.googleusercontent.com/macros/echo?user_content_key=abc&lib=def";

    fn judged(host: &str, status: u16, location: Option<&str>) -> (Status, Option<String>) {
        judge(&Policy::new(Lists::default()).vet_url(&format!("https://{host}/hook")).unwrap(), status, location)
    }

    fn status(host: &str, status: u16, location: Option<&str>) -> Status {
        judged(host, status, location).0
    }

    #[test]
    fn every_status_has_one_meaning_that_the_log_table_accepts() {
        for code in 100..=999 {
            for host in ["example.com", APPS_SCRIPT] {
                for location in [None, Some(ECHO), Some("https://accounts.google.com/x")] {
                    let (status, error) = judged(host, code, location);
                    match status {
                        Status::Delivered => {
                            assert!((200..300).contains(&code) || (code == 302 && host == APPS_SCRIPT), "{code}");
                            assert_eq!(error, None);
                        }
                        Status::Failed(Failure::Redirect) => assert!((300..400).contains(&code), "{code}"),
                        Status::Failed(Failure::HttpStatus) => assert!(!(200..400).contains(&code), "{code}"),
                        other => panic!("{code}: {other:?}"),
                    }
                    assert_eq!(error.is_some(), status != Status::Delivered);
                    assert!(error.is_none_or(|text| text.len() < 200 && text.contains(&code.to_string())));
                }
            }
        }
    }

    #[test]
    fn an_apps_script_that_ran_is_delivered() {
        assert_eq!(status(APPS_SCRIPT, 302, Some(ECHO)), Status::Delivered);
        assert_eq!(
            status(APPS_SCRIPT, 302, Some("https://script.googleusercontent.com/macros/echo")),
            Status::Delivered
        );
    }

    #[test]
    fn an_apps_script_that_is_not_for_anyone_is_failed_with_the_hint() {
        let location =
            "https://accounts.google.com/ServiceLogin?continue=https://script.google.com/macros/s/SECRET/exec";
        let (status, error) = judged(APPS_SCRIPT, 302, Some(location));
        assert_eq!(status, Status::Failed(Failure::Redirect));
        let error = error.unwrap();
        assert!(error.contains("`Anyone`") && !error.contains("SECRET"), "{error}");
    }

    #[test]
    fn the_apps_script_rule_is_for_nothing_else() {
        let redirect = Status::Failed(Failure::Redirect);
        assert_eq!(status("example.com", 302, Some(ECHO)), redirect);
        assert_eq!(status("script.google.com.example.com", 302, Some(ECHO)), redirect);
        for code in [300, 301, 303, 304, 305, 307, 308] {
            assert_eq!(status(APPS_SCRIPT, code, Some(ECHO)), redirect, "{code}");
        }
        for location in [
            "http://script.googleusercontent.com/macros/echo",
            "https://script.googleusercontent.com.example.com/macros/echo",
            "https://script.googleusercontent.com:8443/macros/echo",
            "https://script.googleusercontent.com/macros/echo/",
            "https://script.googleusercontent.com/macros/echoes",
            "https://script.googleusercontent.com@example.com/macros/echo",
            "https://ann@script.googleusercontent.com/macros/echo",
            "//script.googleusercontent.com/macros/echo",
            "/macros/echo",
            "",
        ] {
            assert_eq!(status(APPS_SCRIPT, 302, Some(location)), redirect, "{location}");
        }
        assert_eq!(status(APPS_SCRIPT, 302, None), redirect);
    }

    #[test]
    fn a_known_contact_at_hubspot_points_to_the_upsert() {
        assert!(judged("api.hubapi.com", 409, None).1.unwrap().contains("upsert"));
        assert_eq!(judged("example.com", 409, None).1.unwrap(), "answered 409");
    }

    #[test]
    fn the_code_words_of_known_destinations_are_found() {
        for (host, body, expected) in [
            (
                "api.hubapi.com",
                r#"{"status":"error","message":"Contact already exists. Existing ID: 1","category":"CONFLICT"}"#,
                Some("CONFLICT"),
            ),
            ("api.hubapi.com", r#"{"status":"error","errorType":"RATE_LIMIT"}"#, Some("RATE_LIMIT")),
            (
                "api.hsforms.com",
                r#"{"status":"error","errors":[{"message":"m","errorType":"INVALID_EMAIL"}]}"#,
                Some("INVALID_EMAIL"),
            ),
            (
                "acme.my.salesforce.com",
                r#"[{"message":"Session expired","errorCode":"INVALID_SESSION_ID"}]"#,
                Some("INVALID_SESSION_ID"),
            ),
            ("hooks.slack.com", "no_service\n", Some("no_service")),
            ("hooks.slack.com", "anna@example.com", None),
            ("hooks.slack.com", "491234567890", None),
            ("hooks.slack.com", "two words", None),
            ("hooks.slack.com", "", None),
            ("api.hubapi.com", r#"{"category":"a@b.c"}"#, None),
            ("api.hubapi.com", r#"{"category":7}"#, None),
            ("api.hubapi.com", "<html>", None),
            ("hubapi.com.example.com", r#"{"category":"CONFLICT"}"#, None),
            ("nothubapi.com", r#"{"category":"CONFLICT"}"#, None),
            ("example.com", r#"{"category":"CONFLICT"}"#, None),
        ] {
            assert_eq!(error_code(host, 400, body.as_bytes()).as_deref(), expected, "{host} {body}");
        }
        assert_eq!(error_code("hooks.slack.com", 200, b"ok"), None);
        assert_eq!(error_code("hooks.slack.com", 400, "a".repeat(65).as_bytes()), None);
        assert_eq!(error_code("hooks.slack.com", 400, b"\xff"), None);
    }

    #[test]
    fn a_connection_serves_again_unless_the_answer_speaks_against_it() {
        for (status, length, keep_alive, serves) in [
            (200, Some(5), None, true),
            (200, None, Some("timeout=5, max=100"), true),
            (200, None, Some("Timeout = 1"), false),
            (200, None, Some("timeout=5, max=0"), false),
            (200, None, Some("timeout=soon, x=0, max"), true),
            (204, Some(0), None, true),
            (204, None, None, true),
            (204, Some(5), None, false),
            (205, Some(5), None, false),
            (304, Some(5), None, false),
        ] {
            assert_eq!(leaves_connection(status, length, keep_alive), serves, "{status} {length:?} {keep_alive:?}");
        }
    }

    #[test]
    fn a_content_type_is_kept_where_it_can_be_nothing_else() {
        for (raw, kept) in [
            (&b"application/json; charset=utf-8"[..], Some("application/json")),
            (b" TEXT/html ", Some("text/html")),
            (b"text/ann@example.com;p=+4930901820", Some("other")),
            (b"text/plain;ann@example.com", Some("text/plain")),
            (b"\xff\x00", Some("other")),
            (b" ", None),
            (b"", None),
        ] {
            assert_eq!(content_type(raw).as_deref(), kept);
        }
    }
}
