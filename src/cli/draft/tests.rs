use std::fs;

use super::*;
use crate::{egress::Lists, outcome};

const PREFIX: &str = "X-Wilow";
const SECRET: &str = "s3cr3t";

fn ring() -> KeyRing {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    KeyRing::write_new(&path).unwrap();
    KeyRing::read(&path).unwrap()
}

fn read(options: &args::Draft) -> Changes {
    Changes::read("acme", options, &Policy::new(Lists::default()), PREFIX, std::io::empty())
}

fn headers(lines: &[&str]) -> args::Draft {
    args::Draft { headers: secrets(lines), ..args::Draft::default() }
}

fn secrets(texts: &[&str]) -> Vec<Secret<String>> {
    texts.iter().map(|text| Secret::new((*text).to_owned())).collect()
}

/// An endpoint with a URL, the headers and a template of its own.
fn stored(ring: &KeyRing, lines: &[&str]) -> Stored {
    let options = args::Draft {
        url: Some("https://old.example.org/hook".to_owned().into()),
        template: Some(r#"{"old":"{{email}}"}"#.to_owned().into()),
        timeout: Some("20s".to_owned()),
        omit_empty: Some(true),
        ..headers(lines)
    };
    let Sealed { endpoint, header_names } = read(&options).apply(ring, "acme", PREFIX, Stored::nothing()).unwrap();
    Stored { headers: Ok(CustomHeaders::parse(lines, PREFIX).unwrap()), sealed: endpoint, header_names }
}

fn opened(ring: &KeyRing, column: Column, sealed: Option<&Vec<u8>>) -> String {
    let plain = ring.open(&Place { tenant: "acme", column }, sealed.unwrap()).unwrap();
    String::from_utf8(plain.expose().clone()).unwrap()
}

fn refusal(options: &args::Draft, stored: Stored) -> Vec<String> {
    match read(options).apply(&ring(), "acme", PREFIX, stored) {
        Err(Failure::Arguments(text)) => text.lines().map(str::to_owned).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_named_stays_as_it_is() {
    let ring = ring();
    let before = stored(&ring, &["Authorization: a"]);
    let kept = before.sealed.clone();
    let after = read(&args::Draft::default()).apply(&ring, "acme", PREFIX, before).unwrap();
    assert_eq!(after.endpoint.url_sealed, kept.url_sealed);
    assert_eq!(after.endpoint.headers_sealed, kept.headers_sealed);
    assert_eq!(after.endpoint.template.as_deref(), Some(r#"{"old":"{{email}}"}"#));
    assert_eq!((after.endpoint.omit_empty, after.endpoint.timeout_ms), (true, Some(20_000)));
    assert_eq!(after.header_names, ["Authorization"]);
}

#[test]
fn everything_can_be_changed_at_once_and_is_sealed() {
    let ring = ring();
    let options = args::Draft {
        url: Some("https://New.example.org:8443/hook#part".to_owned().into()),
        clear_headers: true,
        no_template: true,
        omit_empty: Some(false),
        timeout: Some("2500ms".to_owned()),
        ..headers(&["X-Token: b"])
    };
    let sealed = read(&options).apply(&ring, "acme", PREFIX, stored(&ring, &["Authorization: a"])).unwrap();
    let endpoint = &sealed.endpoint;
    let url = opened(&ring, Column::EndpointUrl, endpoint.url_sealed.as_ref());
    assert_eq!(url, "https://new.example.org:8443/hook");
    assert_eq!((endpoint.host.as_deref(), endpoint.port), (Some("new.example.org"), Some(8443)));
    let headers = opened(&ring, Column::EndpointHeaders, endpoint.headers_sealed.as_ref());
    assert_eq!(headers, r#"[["X-Token","b"]]"#);
    assert_eq!(sealed.header_names, ["X-Token"]);
    assert_eq!((endpoint.template.as_deref(), endpoint.omit_empty, endpoint.timeout_ms), (None, false, Some(2_500)));
}

#[test]
fn a_header_replaces_the_one_of_the_same_name_where_it_stands_and_others_are_added() {
    let ring = ring();
    let before = stored(&ring, &["Authorization: a", "X-Token: b"]);
    let after = read(&headers(&["X-New: c", "authorization: d"])).apply(&ring, "acme", PREFIX, before).unwrap();
    let json = opened(&ring, Column::EndpointHeaders, after.endpoint.headers_sealed.as_ref());
    assert_eq!(json, r#"[["authorization","d"],["X-Token","b"],["X-New","c"]]"#);
    assert_eq!(after.header_names, ["authorization", "X-Token", "X-New"]);
}

#[test]
fn cleared_headers_leave_nothing_sealed() {
    let ring = ring();
    let options = args::Draft { clear_headers: true, ..args::Draft::default() };
    let after = read(&options).apply(&ring, "acme", PREFIX, stored(&ring, &["Authorization: a"])).unwrap();
    assert_eq!((after.endpoint.headers_sealed, after.header_names.len()), (None, 0));
}

#[test]
fn every_problem_is_reported_at_once_with_its_option_and_no_value() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("headers");
    fs::write(&file, format!("X-Fine: x\r\n\r\nBearer {SECRET}\r\n")).unwrap();
    let file = file.to_str().unwrap();
    let options = args::Draft {
        url: Some(format!("http://example.org/{SECRET}").into()),
        template: Some(format!(r#"{{"a":"{{{{emial}}}}","b":"{{{{email","t":"{SECRET}"}}"#).into()),
        timeout: Some("61s".to_owned()),
        ..headers(&[&format!("Host: {SECRET}"), &format!("@{file}"), "@/no/such/file"])
    };
    let said = refusal(&options, Stored::nothing());
    let begins = [
        "--url: the URL must begin with https://".to_owned(),
        "--header @/no/such/file: the file cannot be opened".to_owned(),
        "--header: header 1 `Host`: set by the request itself".to_owned(),
        "--header: header 3: no colon".to_owned(),
        "--template: unknown placeholder `{{emial}}` at `$.a`".to_owned(),
        "--template: unclosed placeholder at `$.b`".to_owned(),
        "--timeout: \"61s\" is out of range: at least 1s, at most 60s".to_owned(),
    ];
    assert_eq!(said.len(), begins.len(), "{said:#?}");
    for (line, begin) in said.iter().zip(begins) {
        assert!(line.starts_with(&begin), "{line}");
        assert!(!line.contains(SECRET), "{line}");
    }
    assert!(said[3].ends_with(&format!(" (line 3 of @{file})")), "{}", said[3]);
}

#[test]
fn an_empty_file_is_no_header_and_no_url_and_drops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty");
    let ring = ring();
    for text in ["", "\n", " \r\n\r\n"] {
        fs::write(&file, text).unwrap();
        let given = format!("@{}", file.display());
        for clear_headers in [false, true] {
            let options = args::Draft {
                url: Some(given.clone().into()),
                clear_headers,
                ..headers(&[given.as_str(), "X-Token: b"])
            };
            assert_eq!(
                refusal(&options, stored(&ring, &["Authorization: a"])),
                [
                    format!("--url {given}: is empty: write the URL into it"),
                    format!("--header {given}: holds no header: one `Name: value` a line"),
                ],
                "{text:?}"
            );
        }
    }
}

#[test]
fn the_stored_headers_count_and_a_refused_line_does_not_hide_that() {
    let lines: Vec<String> = (0..19).map(|n| format!("X-{n}: a")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let ring = ring();
    assert!(read(&headers(&["X-0: b", "X-New: c"])).apply(&ring, "acme", PREFIX, stored(&ring, &lines)).is_ok());
    let said = refusal(&headers(&["X-New: c", "X-Newer: "]), stored(&ring, &lines));
    assert_eq!(
        said,
        [
            "--header: header 2 `X-Newer`: has no value",
            "--header: headers: 21 of them, at most 20 are allowed, those included that are stored; \
             --clear-headers drops them",
        ]
    );
}

#[test]
fn stored_headers_that_do_not_open_are_kept_until_a_header_is_given() {
    let ring = ring();
    let unreadable = || Stored {
        headers: Err(Unusable { failure: outcome::Failure::Headers, error: "sealed by another key".to_owned() }),
        ..stored(&ring, &["Authorization: a"])
    };
    assert!(read(&args::Draft::default()).apply(&ring, "acme", PREFIX, unreadable()).is_ok());
    let fresh = args::Draft { clear_headers: true, ..headers(&["X-Token: b"]) };
    assert_eq!(read(&fresh).apply(&ring, "acme", PREFIX, unreadable()).unwrap().header_names, ["X-Token"]);
    assert_eq!(
        refusal(&headers(&["X-Token: b"]), unreadable()),
        [
            "--header: the stored ones cannot be kept (sealed by another key): give --clear-headers and all of them again"
        ]
    );
}

#[test]
fn a_time_limit_lies_between_one_second_and_a_minute_and_can_go_back_to_the_default() {
    for (text, ms) in [("1s", 1_000), ("1s 500ms", 1_500), ("1m", 60_000)] {
        assert_eq!(timeout(text), Ok(Some(Duration::from_millis(ms))), "{text}");
    }
    assert_eq!(timeout("default"), Ok(None));
    for text in ["999ms", "60s 1ms", "0s", "15", "", "-1s", "soon"] {
        assert!(timeout(text).unwrap_err().starts_with("--timeout: "), "{text}");
    }
    let ring = ring();
    let options = args::Draft { timeout: Some("default".to_owned()), ..args::Draft::default() };
    let after = read(&options).apply(&ring, "acme", PREFIX, stored(&ring, &[])).unwrap();
    assert_eq!(after.endpoint.timeout_ms, None);
}

#[test]
fn a_tenant_that_could_not_be_named_again_is_refused() {
    for tenant in ["acme", "big corp", "Zürich", "1", &"a".repeat(255)] {
        assert_eq!(tenant_problem(tenant), None, "{tenant}");
    }
    for tenant in ["", "a\nb", "a\tb", "\u{1b}[2J", "a\u{85}", "a\u{202e}b", "a\u{200b}", "\u{feff}a", &"a".repeat(256)]
    {
        assert!(tenant_problem(tenant).is_some(), "{tenant:?}");
    }
}

#[test]
fn options_never_print_what_they_hold() {
    let options = args::Draft {
        url: Some(SECRET.to_owned().into()),
        template: Some(format!(r#"["{SECRET}"]"#).into()),
        ..headers(&[SECRET])
    };
    assert!(!format!("{options:?} {:?}", read(&options)).contains(SECRET));
}
