//! Secrets and personal data stay where they belong: not in a log line, our schema or the process list.

use std::{fs, os::unix::process::ExitStatusExt as _, process::Command};

use serde_json::json;

use crate::harness::{Answer, Setup, everything_in_our_schema, left_out};

#[tokio::test]
async fn secrets_and_personal_data_are_in_no_log_line_nowhere_in_our_schema_and_in_no_process_list() {
    let setup = Setup::new().await;
    setup.edit_config(&[("log.level", json!("trace")), ("log.response_excerpt", json!(true))]);
    let secret = setup.endpoint("acme").await;
    let url = format!("https://localhost:{}/path-cr3dential?token=query-cr3dential", setup.receiver.port());
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
    let schema = everything_in_our_schema(&setup.db.admin().await).await.unwrap();
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

#[tokio::test]
async fn a_crash_leaves_no_core_dump_also_where_the_system_would_keep_one() {
    const ALLOWED: [&str; 2] = ["prlimit", "--core=unlimited:unlimited"];
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let other = Command::new(ALLOWED[0])
        .args([ALLOWED[1], "sh", "-c", "kill -s ABRT $$"])
        .current_dir(setup.path(""))
        .status()
        .unwrap();
    if !other.core_dumped() {
        left_out("core dumps, which this system keeps of no process");
        return;
    }
    let mut daemon = setup.daemon_by(&ALLOWED);
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    daemon.signal("ABRT");
    let ended = daemon.wait().await;
    assert_eq!(ended.signal(), Some(6));
    assert!(!ended.core_dumped());
}
