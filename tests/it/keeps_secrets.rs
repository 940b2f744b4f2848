//! Secrets and personal data stay where they belong: not in a log line, our schema or the process list.

use std::fs;

use serde_json::json;

use crate::harness::{Answer, Setup};

/// All rows of all tables of ours, with the functions and triggers, as text. Not by `pg_dump`: it does not come with
/// every server, and shows bytes in hexadecimal, in which nothing would be recognised.
async fn everything_in_our_schema(setup: &Setup) -> String {
    let admin = setup.db.admin().await;
    admin.batch_execute("SET bytea_output = 'escape'").await.unwrap();
    let parts = "SELECT format('SELECT concat(string_agg(t::text, '' '')) FROM %s AS t', oid::regclass)
                 FROM pg_class WHERE relnamespace = 'lead_webhook'::regnamespace AND relkind = 'r'
                 UNION ALL SELECT format('SELECT pg_get_functiondef(%s)', oid)
                 FROM pg_proc WHERE pronamespace = 'lead_webhook'::regnamespace
                 UNION ALL SELECT format('SELECT pg_get_triggerdef(%s)', oid) FROM pg_trigger WHERE NOT tgisinternal";
    let mut everything = String::new();
    for part in admin.query(parts, &[]).await.unwrap() {
        everything.push_str(admin.query_one(part.get::<_, &str>(0), &[]).await.unwrap().get(0));
        everything.push('\n');
    }
    everything
}

#[tokio::test]
async fn secrets_and_personal_data_are_in_no_log_line_nowhere_in_our_schema_and_in_no_process_list() {
    let setup = Setup::new().await;
    setup.edit_config(&[("log.level", json!("trace")), ("log.response_excerpt", json!(true))]);
    let secret = setup.endpoint("acme").await;
    let url = format!("{}/path-cr3dential?token=query-cr3dential", setup.receiver.url().trim_end_matches("/hook"));
    setup.run_with(&["endpoint", "set", "acme", "--url", "@-"], &[], &url).await.ok();
    setup
        .run_with(&["endpoint", "set", "acme", "--header", "@-"], &[], "Authorization: Bearer header-cr3dential")
        .await
        .ok();
    // The receiver sends everything back.
    setup.receiver.answer_with(|request| {
        let echo = format!("{} {:?} {}", request.path, request.headers, String::from_utf8_lossy(&request.body));
        let email = request.json()["email"].as_str().unwrap_or_default().to_owned();
        Answer::status(500).header("Content-Type", &format!("text/{email};p=901820")).body(echo)
    });
    let mut daemon = setup.daemon();
    let insert = "INSERT INTO leads (tenant_id, email, phone, first_name, visitor_id)
                  VALUES ('acme', 'ann.person@example.com', '+49 30 901820', 'Annegret', 'visitor-1')";
    setup.db.app().await.batch_execute(insert).await.unwrap();
    setup.db.wait_for_log(1).await;
    let shown = setup.run(&["test", "acme"]).await;
    let listed = setup.run(&["deliveries", "list", "--json"]).await.ok();
    let endpoint = setup.run(&["endpoint", "show", "acme"]).await.ok();
    let command_line = fs::read(format!("/proc/{}/cmdline", daemon.id())).unwrap();
    let processes = String::from_utf8_lossy(&command_line).into_owned();
    daemon.signal("TERM");
    daemon.wait().await;
    let schema = everything_in_our_schema(&setup).await;
    assert!(schema.contains("acme") && schema.contains("AFTER INSERT"), "{schema}");
    let keys = fs::read_to_string(setup.key_file()).unwrap();
    let key =
        keys.lines().rfind(|line| !line.starts_with('#')).and_then(|line| line.split_whitespace().last()).unwrap();
    let places = [
        ("log lines", daemon.log().join("\n")),
        ("schema", schema),
        ("test", shown.stdout + &shown.stderr),
        ("deliveries list", listed.stdout),
        ("endpoint show", endpoint.stdout),
        ("process list", processes),
    ];
    let bearer = "header-cr3dential";
    for (place, text) in &places {
        assert!(!text.is_empty(), "{place} is empty");
        for sensitive in [
            secret.as_str(),
            secret.trim_start_matches("whsec_"),
            bearer,
            "path-cr3dential",
            "query-cr3dential",
            "ann.person",
            "901820",
            "Annegret",
            key,
        ] {
            assert!(!text.contains(sensitive), "{place} holds {sensitive}:\n{text}");
        }
    }
}
