use std::fs;

use super::*;
use crate::egress::Lists;

const SECRET: &str = "s3cr3t";

fn read(options: &args::Draft) -> Draft {
    Draft::read("acme", options, &Policy::new(Lists::default()), "X-Wilow", std::io::empty())
}

fn headers(lines: &[&str]) -> args::Draft {
    args::Draft {
        headers: lines.iter().map(|line| Secret::new((*line).to_owned())).collect(),
        ..args::Draft::default()
    }
}

fn problems(options: &args::Draft) -> Vec<String> {
    match read(options).body(None) {
        Err(Failure::Arguments(text)) => text.lines().map(str::to_owned).collect(),
        other => panic!("{other:?}"),
    }
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
        preset: Some("hubspot".to_owned()),
        ..headers(&[&format!("Host: {SECRET}"), &format!("@{file}"), "@/no/such/file"])
    };
    let said = problems(&options);
    let begins = [
        "--url: the URL must begin with https://",
        "--header @/no/such/file: the file cannot be opened",
        "--header: header 1 `Host`: set by the request itself",
        "--header: header 3: no colon",
        "--template: unknown placeholder `{{emial}}` at `$.a`",
        "--template: unclosed placeholder at `$.b`",
        "--preset \"hubspot\" is no preset",
        "--timeout: 1m 1s is out of range: at least 1s, at most 60s",
    ];
    assert_eq!(said.len(), begins.len(), "{said:#?}");
    for (line, begin) in said.iter().zip(begins) {
        assert!(line.starts_with(begin) && !line.contains(SECRET), "{line}");
    }
    assert!(said[3].ends_with(&format!(" (line 3 of @{file})")), "{}", said[3]);
}

#[test]
fn an_empty_file_is_no_header_and_no_url_and_drops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("empty");
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
                problems(&options),
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
fn a_problem_of_a_file_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let [url, template] = ["url", "template"].map(|name| directory.path().join(name));
    fs::write(&url, "http://example.org/").unwrap();
    fs::write(&template, r#"{"a":"{{emial}}"}"#).unwrap();
    let options = args::Draft {
        url: Some(format!("@{}", url.display()).into()),
        template: Some(template.display().to_string().into()),
        ..args::Draft::default()
    };
    let said = problems(&options);
    assert!(said[0].starts_with(&format!("--url @{}: the URL must", url.display())), "{said:?}");
    assert!(said[1].starts_with(&format!("--template @{}: unknown", template.display())), "{said:?}");
}

#[test]
fn a_time_limit_is_a_duration_or_the_default() {
    for text in ["1s", "1s 500ms", "1m", "default"] {
        assert!(
            !read(&args::Draft { timeout: Some(text.to_owned()), ..args::Draft::default() }).is_refused(),
            "{text}"
        );
    }
    for text in ["999ms", "60s 1ms", "0s", "15", "", "-1s", "soon"] {
        let said = problems(&args::Draft { timeout: Some(text.to_owned()), ..args::Draft::default() });
        assert!(said[0].starts_with("--timeout: "), "{text}: {said:?}");
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
