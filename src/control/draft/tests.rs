use super::*;
use crate::{egress::Lists, outcome::Failure};

const PREFIX: &str = "X-Wilow";
const SECRET: &str = "s3cr3t";

fn ring() -> KeyRing {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    KeyRing::write_new(&path).unwrap();
    KeyRing::read(&path).unwrap()
}

fn check(input: Input) -> Changes {
    Changes::check("acme", input, &Policy::new(Lists::default()), PREFIX)
}

fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

fn headers(lines: &[&str]) -> Input {
    Input { headers: lines.iter().copied().map(secret).collect(), ..Input::default() }
}

/// An endpoint with a URL, the headers and a template of its own.
fn stored(ring: &KeyRing, lines: &[&str]) -> Stored {
    let input = Input {
        url: Some(secret("https://old.example.org/hook")),
        template: Some(Some(secret(r#"{"old":"{{email}}"}"#))),
        timeout: Some(Some(Duration::from_secs(20))),
        omit_empty: Some(true),
        ..headers(lines)
    };
    let Sealed { endpoint, header_names } = check(input).apply(ring, "acme", PREFIX, Stored::nothing()).unwrap();
    Stored { headers: Ok(CustomHeaders::parse(lines, PREFIX).unwrap()), sealed: endpoint, header_names }
}

fn opened(ring: &KeyRing, column: Column, sealed: Option<&Vec<u8>>) -> String {
    let plain = ring.open(&Place { tenant: "acme", column }, sealed.unwrap()).unwrap();
    String::from_utf8(plain.expose().clone()).unwrap()
}

fn faults(input: Input, stored: Stored) -> Vec<Fault> {
    match check(input).apply(&ring(), "acme", PREFIX, stored) {
        Err(Refused::Faults(faults)) => faults,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_named_stays_as_it_is() {
    let ring = ring();
    let before = stored(&ring, &["Authorization: a"]);
    let kept = before.sealed.clone();
    let after = check(Input::default()).apply(&ring, "acme", PREFIX, before).unwrap();
    assert_eq!(after.endpoint.url_sealed, kept.url_sealed);
    assert_eq!(after.endpoint.headers_sealed, kept.headers_sealed);
    assert_eq!(after.endpoint.template.as_deref(), Some(r#"{"old":"{{email}}"}"#));
    assert_eq!((after.endpoint.omit_empty, after.endpoint.timeout_ms), (true, Some(20_000)));
    assert_eq!(after.header_names, ["Authorization"]);
}

#[test]
fn everything_can_be_changed_at_once_and_is_sealed() {
    let ring = ring();
    let input = Input {
        url: Some(secret("https://New.example.org:8443/hook#part")),
        clear_headers: true,
        template: Some(None),
        omit_empty: Some(false),
        timeout: Some(Some(Duration::from_millis(2_500))),
        ..headers(&["X-Token: b"])
    };
    let changes = check(input);
    assert_eq!(changes.named(), ["url", "headers", "template", "omit_empty", "timeout"]);
    let sealed = changes.apply(&ring, "acme", PREFIX, stored(&ring, &["Authorization: a"])).unwrap();
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
    let after = check(headers(&["X-New: c", "authorization: d"])).apply(&ring, "acme", PREFIX, before).unwrap();
    let json = opened(&ring, Column::EndpointHeaders, after.endpoint.headers_sealed.as_ref());
    assert_eq!(json, r#"[["authorization","d"],["X-Token","b"],["X-New","c"]]"#);
    assert_eq!(after.header_names, ["authorization", "X-Token", "X-New"]);
}

#[test]
fn a_header_is_dropped_by_its_name_and_the_others_stay() {
    let ring = ring();
    let before = || stored(&ring, &["Authorization: a", "X-Token: b"]);
    let drop = |names: &[&str], lines| {
        let dropped_headers = names.iter().map(|name| (*name).to_owned()).collect();
        check(Input { dropped_headers, ..headers(lines) }).apply(&ring, "acme", PREFIX, before()).unwrap().header_names
    };
    assert_eq!(drop(&["authorization", "X-Unknown"], &[]), ["X-Token"]);
    assert_eq!(drop(&["authorization"], &["X-New: c"]), ["X-Token", "X-New"]);
    assert_eq!(drop(&["x-token"], &["X-Token: c"]), ["Authorization", "X-Token"]);
    assert_eq!(drop(&["x-token", "authorization"], &[]), [""; 0]);
}

#[test]
fn cleared_headers_leave_nothing_sealed() {
    let ring = ring();
    let input = Input { clear_headers: true, ..Input::default() };
    let after = check(input).apply(&ring, "acme", PREFIX, stored(&ring, &["Authorization: a"])).unwrap();
    assert_eq!((after.endpoint.headers_sealed, after.header_names.len()), (None, 0));
}

#[test]
fn every_fault_is_found_at_once_with_its_part_and_no_value() {
    let input = Input {
        url: Some(secret(&format!("http://example.org/{SECRET}"))),
        template: Some(Some(secret(&format!(r#"{{"a":"{{{{emial}}}}","b":"{{{{email","t":"{SECRET}"}}"#)))),
        timeout: Some(Some(Duration::from_secs(61))),
        ..headers(&[&format!("Host: {SECRET}"), "X-Fine: x", &format!("Bearer {SECRET}")])
    };
    let found = faults(input, Stored::nothing());
    let begins = [
        (Part::Url, "the URL must begin with https://"),
        (Part::Header(Some(1)), "header 1 `Host`: set by the request itself"),
        (Part::Header(Some(3)), "header 3: no colon"),
        (Part::Template, "unknown placeholder `{{emial}}` at `$.a`"),
        (Part::Template, "unclosed placeholder at `$.b`"),
        (Part::Timeout, "1m 1s is out of range: at least 1s, at most 60s"),
    ];
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for (fault, (part, begin)) in found.iter().zip(begins) {
        assert_eq!(fault.part, part, "{fault:?}");
        assert!(fault.text.starts_with(begin) && !fault.text.contains(SECRET), "{fault:?}");
    }
}

#[test]
fn the_stored_headers_count_and_a_refused_line_does_not_hide_that() {
    let lines: Vec<String> = (0..19).map(|n| format!("X-{n}: a")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let ring = ring();
    assert!(check(headers(&["X-0: b", "X-New: c"])).apply(&ring, "acme", PREFIX, stored(&ring, &lines)).is_ok());
    let found = faults(headers(&["X-New: c", "X-Newer: "]), stored(&ring, &lines));
    assert_eq!(
        found,
        [
            Fault::new(Part::Header(Some(2)), "header 2 `X-Newer`: has no value"),
            Fault::new(Part::AllHeaders, "headers: 21 of them, at most 20 are allowed, those included that are stored"),
        ]
    );
}

#[test]
fn stored_headers_that_do_not_open_are_kept_until_a_header_is_given() {
    let ring = ring();
    let unreadable = || Stored {
        headers: Err(Unusable { failure: Failure::Headers, error: "sealed by another key".to_owned() }),
        ..stored(&ring, &["Authorization: a"])
    };
    assert!(check(Input::default()).apply(&ring, "acme", PREFIX, unreadable()).is_ok());
    let fresh = Input { clear_headers: true, ..headers(&["X-Token: b"]) };
    assert_eq!(check(fresh).apply(&ring, "acme", PREFIX, unreadable()).unwrap().header_names, ["X-Token"]);
    let why = "the stored ones cannot be kept (sealed by another key)";
    assert_eq!(faults(headers(&["X-Token: b"]), unreadable()), [Fault::new(Part::StoredHeaders, why)]);
}

#[test]
fn a_time_limit_lies_between_one_second_and_a_minute_and_can_go_back_to_the_default() {
    for ms in [1_000, 1_500, 60_000] {
        let timeout = Some(Some(Duration::from_millis(ms)));
        assert!(!check(Input { timeout, ..Input::default() }).are_refused(), "{ms}");
    }
    for ms in [999, 60_001, 0] {
        let timeout = Some(Some(Duration::from_millis(ms)));
        assert!(check(Input { timeout, ..Input::default() }).are_refused(), "{ms}");
    }
    let ring = ring();
    let input = Input { timeout: Some(None), ..Input::default() };
    let after = check(input).apply(&ring, "acme", PREFIX, stored(&ring, &[])).unwrap();
    assert_eq!(after.endpoint.timeout_ms, None);
}

#[test]
fn what_a_draft_names_itself_goes_before_its_preset() {
    let ring = ring();
    let preset = Preset::find("hubspot-upsert");
    let after = |input: Input| check(input).apply(&ring, "acme", PREFIX, Stored::nothing()).unwrap().endpoint;
    let all = after(Input { preset, ..Input::default() });
    assert!(all.omit_empty && all.template.is_some_and(|template| template.contains("idProperty")));
    let timeout = Some(Some(Duration::from_secs(9)));
    let own = after(Input { preset, template: Some(None), omit_empty: Some(false), timeout, ..Input::default() });
    assert_eq!((own.template, own.omit_empty, own.timeout_ms), (None, false, Some(9_000)));
}

#[test]
fn a_tenant_that_could_not_be_named_again_is_refused() {
    for tenant in ["acme", "big corp", "Zürich", "1", &"a".repeat(255)] {
        assert_eq!(tenant_fault(tenant), None, "{tenant}");
    }
    for tenant in ["", "a\nb", "a\tb", "\u{1b}[2J", "a\u{85}", "a\u{202e}b", "a\u{200b}", "\u{feff}a", &"a".repeat(256)]
    {
        assert!(tenant_fault(tenant).is_some(), "{tenant:?}");
    }
}

#[test]
fn changes_never_print_what_they_hold() {
    let input = Input {
        url: Some(secret(SECRET)),
        template: Some(Some(secret(&format!(r#"["{SECRET}"]"#)))),
        ..headers(&[SECRET])
    };
    assert!(!format!("{input:?}").contains(SECRET));
    assert!(!format!("{:?}", check(input)).contains(SECRET));
}
