//! Secrets and personal data stay where they belong: not in a log line, the log table, a dump or the process list.

use std::{fs, process::Command};

use serde_json::json;

use crate::harness::{Answer, Setup};

#[tokio::test]
async fn secrets_and_personal_data_are_in_no_log_line_no_dump_of_our_schema_and_no_process_list() {
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
    let dump = Command::new(setup.db.cluster.binary("pg_dump"))
        .args(["--schema=lead_webhook", &setup.db.admin_url()])
        .output()
        .unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    let keys = fs::read_to_string(setup.key_file()).unwrap();
    let key =
        keys.lines().rfind(|line| !line.starts_with('#')).and_then(|line| line.split_whitespace().last()).unwrap();
    let places = [
        ("log lines", daemon.log().join("\n")),
        ("dump", String::from_utf8_lossy(&dump.stdout).into_owned()),
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
