//! Bad input gets every problem at once, the right exit code, and changes nothing.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::json;

use crate::harness::{Cluster, Database, Receiver, Setup};

#[tokio::test]
async fn every_fault_of_an_endpoint_is_reported_at_once_and_nothing_is_saved() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let before = setup.run(&["endpoint", "show", "acme", "--json"]).await.ok().stdout;
    let output = setup
        .run(&[
            "endpoint",
            "set",
            "acme",
            "--url",
            "http://10.0.0.1/",
            "--header",
            "Host: example.com",
            "--header",
            "X-Wilow-Event: mine",
            "--header",
            "no colon",
            "--template",
            r#"{"a":"{{emial}}","a":"{{open"}"#,
            "--timeout",
            "2m",
        ])
        .await;
    assert_eq!(output.code, Some(2));
    for part in ["https", "Host", "X-Wilow", "colon", "emial", "{{email}}", "timeout"] {
        assert!(output.stderr.contains(part), "{part} is missing in:\n{}", output.stderr);
    }
    assert_eq!(setup.run(&["endpoint", "show", "acme", "--json"]).await.ok().stdout, before);
}

#[tokio::test]
async fn where_stored_headers_go_to_another_host_is_said() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let set = async |options: &[&str]| setup.run(&[&["endpoint", "set", "acme"], options].concat()).await.ok().stderr;
    let (one, other) = ("https://1.1.1.1/a", "https://8.8.8.8/b");
    assert!(!set(&["--url", one]).await.contains("another"), "nothing is stored");
    set(&["--header", "Authorization: Bearer t0ken"]).await;
    assert!(!set(&["--url", "https://1.1.1.1/b"]).await.contains("another"), "the same host");
    let said = set(&["--url", other]).await;
    assert!(said.contains("the headers stored for the one before go there too (Authorization)"), "{said}");
    assert!(!set(&["--url", one, "--clear-headers"]).await.contains("another"));
}

#[tokio::test]
async fn every_fault_of_the_configuration_is_reported_at_once_with_exit_code_78() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    setup.edit_config(&[
        ("delivery.timeout", json!("soon")),
        ("delivery.concurency", json!(8)),
        ("egress.allow_networks", json!(["10.0.0.0/33"])),
    ]);
    let output = setup.run(&["run"]).await;
    assert_eq!(output.code, Some(78));
    for part in ["delivery.timeout", "delivery.concurency", "delivery.concurrency", "egress.allow_networks"] {
        assert!(output.stderr.contains(part), "{part} is missing in:\n{}", output.stderr);
    }
}

#[tokio::test]
async fn the_daemon_refuses_to_start_with_a_bad_key_file() {
    let setup = Setup::new().await;
    let key_file = setup.key_file();
    let good = fs::read_to_string(&key_file).unwrap();
    let with_mode = |mode| fs::set_permissions(&key_file, fs::Permissions::from_mode(mode)).unwrap();
    with_mode(0o644);
    assert_eq!(setup.run(&["run"]).await.code, Some(78), "world-readable");
    with_mode(0o600);
    for bad in ["", "0011aabb AAAA\n", "no key at all\n"] {
        fs::write(&key_file, bad).unwrap();
        assert_eq!(setup.run(&["run"]).await.code, Some(78), "{bad:?}");
    }
    fs::remove_file(&key_file).unwrap();
    let missing = setup.run(&["run"]).await;
    assert_eq!(missing.code, Some(78));
    assert!(missing.stderr.contains("key generate"), "{}", missing.stderr);
    fs::write(&key_file, good).unwrap();
}

#[tokio::test]
async fn a_daemon_with_another_installations_key_file_claims_nothing_and_says_so() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup.db.insert_lead("acme", "ann@example.com").await;
    fs::remove_file(setup.key_file()).unwrap();
    setup.run(&["key", "generate", "--out", setup.key_file().to_str().unwrap()]).await.ok();
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("key file")).await;
    assert_eq!(setup.db.outbox_count().await, 1);
    assert!(setup.receiver.requests().is_empty());
}

#[tokio::test]
async fn a_command_that_needs_the_keys_ends_with_78_where_they_are_another_installations() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    fs::remove_file(setup.key_file()).unwrap();
    setup.run(&["key", "generate", "--out", setup.key_file().to_str().unwrap()]).await.ok();
    let commands = [
        &["test", "acme"][..],
        &["seed"],
        &["secret", "generate", "acme"],
        &["endpoint", "set", "acme", "--timeout", "2s"],
    ];
    for args in commands {
        let output = setup.run(args).await;
        assert_eq!(output.code, Some(78), "{args:?}: {}", output.stderr);
        assert!(output.stderr.contains("key file"), "{args:?}: {}", output.stderr);
    }
    assert!(setup.receiver.requests().is_empty());
}

#[tokio::test]
async fn data_that_stdout_does_not_take_is_an_error() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lead-webhook"));
        command.arg("--config").arg(setup.config_file()).args(args);
        command.stdout(fs::File::create("/dev/full").unwrap()).output().unwrap()
    };
    for args in [
        &["key", "generate"][..],
        &["endpoint", "list"],
        &["endpoint", "show", "acme", "--json"],
        &["check"],
        &["migrate", "--dry-run"],
        &["--help"],
    ] {
        let output = run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {stderr}");
        assert!(stderr.contains("stdout: "), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_value_that_begins_with_a_hyphen_is_judged_as_a_value() {
    let setup = Setup::new().await;
    for args in [
        &["endpoint", "set", "acme", "--timeout", "-1s"][..],
        &["deliveries", "list", "--since", "-1h"],
        &["deliveries", "list", "--until", "-1h"],
    ] {
        let output = setup.run(args).await;
        assert_eq!(output.code, Some(2), "{args:?}");
        assert!(output.stderr.contains("\"-1"), "{args:?}: {}", output.stderr);
    }
}

#[tokio::test]
async fn a_key_file_is_created_with_mode_0600_and_never_overwritten() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    let mode = fs::metadata(setup.key_file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = fs::read(setup.key_file()).unwrap();
    let again = setup.run(&["key", "generate", "--out", setup.key_file().to_str().unwrap()]).await;
    assert_eq!(again.code, Some(1));
    assert_eq!(fs::read(setup.key_file()).unwrap(), before);
}

#[tokio::test]
async fn commands_say_what_to_do_where_the_schema_is_missing() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    for args in [&["endpoint", "list"][..], &["secret", "generate", "acme"], &["deliveries", "list"]] {
        let output = setup.run(args).await;
        assert_eq!(output.code, Some(1), "{args:?}");
        assert!(output.stderr.contains("migrate"), "{args:?}: {}", output.stderr);
    }
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("migrate")).await;
}

#[tokio::test]
async fn a_reload_takes_a_new_egress_rule_and_a_bad_configuration_changes_nothing() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("starting")).await;
    setup.edit_config(&[("delivery.timeout", json!("never"))]);
    daemon.signal("HUP");
    daemon.wait_for_log(|line| line.contains("not reloaded")).await;
    setup.db.insert_lead("acme", "1@example.com").await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    setup.edit_config(&[
        ("delivery.timeout", json!("15s")),
        ("egress.deny_networks", json!(["127.0.0.0/8", "::1/128"])),
    ]);
    daemon.signal("HUP");
    daemon.wait_for_log(|line| line.contains("reloaded") && !line.contains("not reloaded")).await;
    // A connection that was kept from before the reload may not be used either.
    setup.db.insert_lead("acme", "2@example.com").await;
    let rows = setup.db.wait_for_log(2).await;
    assert_eq!(rows[1].failure.as_deref(), Some("blocked"));
}

#[tokio::test]
async fn a_reload_names_what_waits_for_a_restart_and_nothing_that_a_daemon_does_not_use() {
    let setup = Setup::new().await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("starting")).await;
    let waits = |line: &str| line.contains("takes effect at a restart");
    setup.edit_config(&[("database.owner_url", json!("postgres://somebody@localhost/else"))]);
    daemon.signal("HUP");
    daemon.wait_for_log(|line| line.contains("reloaded")).await;
    setup.edit_config(&[("database.poll_interval", json!("7s")), ("delivery.concurrency", json!(3))]);
    daemon.signal("HUP");
    let said = daemon.wait_for_log(waits).await;
    assert!(
        said.contains("[database]") && said.contains("delivery.concurrency") && !said.contains("[leads]"),
        "{said}"
    );
    assert_eq!(daemon.log().iter().filter(|line| waits(line)).count(), 1, "the daemon never uses owner_url");
}

#[tokio::test]
async fn seed_makes_leads_from_before_the_install_known() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    let app = setup.db.app().await;
    let insert = "INSERT INTO leads (tenant_id, visitor_id, email) VALUES ('acme', 'v1', 'ann@example.com')";
    app.batch_execute(insert).await.unwrap();
    setup.run(&["migrate"]).await.ok();
    setup.endpoint("acme").await;
    app.batch_execute("INSERT INTO leads (tenant_id, email) VALUES (repeat('t', 9600), 'far@example.com')")
        .await
        .unwrap();
    let said = setup.run(&["seed"]).await.ok().stderr;
    assert!(said.contains("its tenant's id is longer") && said.contains("1 left out"), "{said}");
    app.batch_execute(insert).await.unwrap();
    let _daemon = setup.daemon();
    let row = setup.db.wait_for_log(1).await.remove(0);
    assert_eq!((row.status.as_str(), row.reason.as_deref()), ("skipped", Some("duplicate")));
}

#[tokio::test]
async fn seed_does_not_take_a_lead_that_still_waits_in_the_outbox_for_a_known_one() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.run(&["seed"]).await.ok();
    let _daemon = setup.daemon();
    let row = setup.db.wait_for_log(1).await.remove(0);
    assert_eq!(row.status, "delivered");
}

#[tokio::test]
async fn seed_takes_no_time_that_lies_ahead() {
    let setup = Setup::new().await;
    let insert =
        "INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'ann@example.com', '2999-01-01Z')";
    setup.db.app().await.batch_execute(insert).await.unwrap();
    setup.run(&["seed"]).await.ok();
    let seeded = "SELECT count(*) FILTER (WHERE seen_at <= clock_timestamp()) FROM lead_webhook.uniqueness";
    assert_eq!(setup.db.admin().await.query_one(seeded, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn check_finds_nothing_wrong_with_a_good_installation_and_names_what_is_wrong_with_a_bad_one() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let good = setup.run(&["check"]).await;
    assert_eq!(good.code, Some(0), "{}", good.stdout);
    let admin = setup.db.admin().await;
    admin.batch_execute("ALTER TABLE leads DISABLE TRIGGER lead_webhook_insert").await.unwrap();
    let bad = setup.run(&["check"]).await;
    assert_eq!(bad.code, Some(1), "{}", bad.stdout);
    assert!(bad.stdout.contains("lead_webhook_insert") && bad.stdout.contains("migrate"), "{}", bad.stdout);
    admin.batch_execute("ALTER TABLE leads ENABLE TRIGGER lead_webhook_insert").await.unwrap();
    let role = &setup.db.daemon_role;
    admin.batch_execute(&format!("REVOKE SELECT (phone) ON leads FROM {role}")).await.unwrap();
    let unread = setup.run(&["check"]).await.stdout;
    let of_leads: Vec<_> = unread.lines().filter(|line| line.contains(" leads: ") && !line.starts_with("ok")).collect();
    assert!(of_leads.len() == 1 && of_leads[0].contains("migrate"), "no lead is to be corrected: {unread}");
}
