//! What the commands look like on a terminal of 80 and of 140 columns, line by line: `tests/it/snapshots`. A change that is
//! meant is taken over with `INSTA_UPDATE=always`.

use std::{fmt::Write as _, process::Command};

use insta::assert_snapshot;

use crate::harness::{Setup, program};

/// A log of fixed deliveries, so that nothing but the endpoint's own times differs from run to run.
const LOG: &str = "
    INSERT INTO lead_webhook.deliveries (delivery_id, event_id, tenant_id, lead_id, event, status, failure, reason, http_status, error,
        response_content_type, response_length, response_error_code, host, port, address, captured_at, queued_at, sent_at, finished_at,
        dns_us, connect_us, first_byte_us, total_us)
    SELECT d::uuid, e::uuid, tenant, lead, event, status, failure, reason, code, error, type, length, error_code, host, port,
           '198.51.100.7'::inet, at, at + interval '20 ms', sent, at + interval '2 s', dns, connect, byte, total
    FROM (VALUES
      ('10000001-0000-4000-8000-000000000001', '20000001-0000-4000-8000-000000000001', 'acme', '4711', 'lead.created', 'delivered',
       NULL, NULL, 200, NULL, 'application/json', 17, NULL, 'crm.example.com', 443, 900, 21000, 98000, 99000),
      ('10000002-0000-4000-8000-000000000002', '20000002-0000-4000-8000-000000000002', 'acme', '4712', 'lead.created', 'failed',
       'http_status', NULL, 409, NULL, 'application/json', 211, 'CONFLICT', 'api.hubapi.com', 443, 1200, 31000, 640000, 640500),
      ('10000003-0000-4000-8000-000000000003', '20000003-0000-4000-8000-000000000003', 'globex', 'b3b1a3a0-5f0e-4f6c-9d9e-94b2a3f3d8f1',
       'lead.re_engaged', 'failed', 'timeout', NULL, NULL, 'the receiver has not answered within 15s', NULL, NULL, NULL,
       'hooks.a-rather-long-name.example.net', 8443, 800, 12000, NULL, 15000000),
      ('10000004-0000-4000-8000-000000000004', '20000004-0000-4000-8000-000000000004', 'globex', '4714', 'lead.created', 'skipped',
       NULL, 'duplicate', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
      ('10000005-0000-4000-8000-000000000005', '20000005-0000-4000-8000-000000000005', 'initech', '4715', 'lead.created', 'interrupted',
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL))
      AS v (d, e, tenant, lead, event, status, failure, reason, code, error, type, length, error_code, host, port, dns, connect, byte, total),
    LATERAL (SELECT '2026-04-22 10:15:00Z'::timestamptz + right(d, 1)::int * interval '7 min' AS at) t,
    LATERAL (SELECT CASE WHEN total IS NOT NULL THEN at + interval '50 ms' END AS sent) s";

/// What a command writes to a terminal of so many columns, without colours.
fn shown(setup: &Setup, columns: u16, args: &[&str]) -> String {
    let config = setup.config_file();
    let words = args.iter().map(|arg| format!("'{arg}'")).collect::<Vec<_>>().join(" ");
    let command = format!(
        "stty cols {columns} rows 50 -onlcr; exec '{}' --config '{}' {words}",
        program().display(),
        config.display()
    );
    let output = Command::new("script")
        .args(["-q", "-c", &command, "/dev/null"])
        .env("TERM", "xterm-256color")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    masked(&plain(&text).replace(&format!(":{}", setup.receiver.port()), ":40000"))
}

/// Without what sets colours.
fn plain(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Days, alone or with a time, that are not the log's as zeros, and how long ago the log's are.
fn masked(text: &str) -> String {
    let without_age = |line: &str| match line.strip_suffix(" ago\n").and_then(|line| line.split_once("Z, ")) {
        Some((time, _)) => format!("{time}Z, … ago\n"),
        None => line.to_owned(),
    };
    let text: String = text.split_inclusive('\n').map(without_age).collect();
    const DAY: &str = "0000-00-00";
    let is_days = |word: &str| word.strip_suffix('d').is_some_and(|n| n.parse::<u32>().is_ok());
    let mask = |word: &str| {
        if is_days(word.trim_end()) {
            return Some(word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect());
        }
        let day = word.get(..DAY.len()).filter(|day| *day != "2026-04-22")?;
        let is_day = day.bytes().zip(DAY.bytes()).all(|(c, shape)| c == shape || shape == b'0' && c.is_ascii_digit());
        let (value, rest) = word.split_at(word.find(char::is_whitespace).unwrap_or(word.len()));
        is_day.then(|| if value == day { format!("{DAY}{rest}") } else { format!("{DAY}T00:00:00.000Z{rest}") })
    };
    text.split_inclusive(char::is_whitespace).map(|word| mask(word).unwrap_or_else(|| word.to_owned())).collect()
}

async fn filled() -> Setup {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup
        .run(&["endpoint", "set", "globex", "--url", &setup.receiver.url(), "--header", "Authorization: Bearer 1"])
        .await
        .ok();
    setup.run(&["endpoint", "disable", "globex"]).await.ok();
    setup.db.admin().await.batch_execute(LOG).await.unwrap();
    setup
}

#[tokio::test]
async fn each_command_fits_80_and_140_columns() {
    let setup = filled().await;
    let period = ["--since", "2026-04-22T10:00:00Z", "--until", "2026-04-22T11:00:00Z"];
    let commands: [(&str, Vec<&str>); 12] = [
        ("list", vec!["deliveries", "list"]),
        ("list_more", vec!["deliveries", "list", "--limit", "2", "--after", "10000004-0000-4000-8000-000000000004"]),
        ("list_none", vec!["deliveries", "list", "--tenant", "nobody"]),
        ("show_refused", vec!["deliveries", "show", "20000002-0000-4000-8000-000000000002"]),
        ("show_timeout", vec!["deliveries", "show", "20000003-0000-4000-8000-000000000003"]),
        ("stats", [&["deliveries", "stats"][..], &period].concat()),
        ("redeliver", [&["deliveries", "redeliver", "--dry-run"][..], &period].concat()),
        ("prune", vec!["deliveries", "prune", "--dry-run", "--before", "2026-04-22T10:30:00Z"]),
        ("endpoints", vec!["endpoint", "list"]),
        ("endpoint", vec!["endpoint", "show", "globex"]),
        ("presets", vec!["preset", "list"]),
        ("preset", vec!["preset", "show", "hubspot-upsert"]),
    ];
    for (name, args) in commands {
        let mut both = String::new();
        for columns in [80, 140] {
            let shown = shown(&setup, columns, &args);
            let widest = shown.lines().map(|line| line.chars().count()).max().unwrap_or_default();
            assert!(widest <= usize::from(columns), "{name}: {widest} columns of {columns}\n{shown}");
            writeln!(both, "-- {columns} columns\n{shown}").unwrap();
        }
        assert_snapshot!(name, both);
    }
}

#[tokio::test]
async fn a_terminal_that_does_not_tell_its_size_has_80_columns() {
    let setup = filled().await;
    let stats = ["deliveries", "stats", "--since", "2026-04-22T10:00:00Z", "--until", "2026-04-22T11:00:00Z"];
    for args in [&["deliveries", "list"][..], &stats, &["endpoint", "show", "globex"]] {
        assert_eq!(shown(&setup, 0, args), shown(&setup, 80, args));
    }
}
