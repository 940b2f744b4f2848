//! `receive`: a receiver for trying things out, with real requests of the daemon.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Process, Setup};

/// What `receive` has said of where it listens.
async fn port(receiver: &Process) -> String {
    let line = receiver.wait_for_log(|line| line.contains("listens on https://localhost:")).await;
    let (_, rest) = line.split_once("localhost:").unwrap();
    rest.split('/').next().unwrap().to_owned()
}

/// An installation whose tenant's leads go to `receive`, which runs with these options.
async fn receiving(setup: &Setup, secret: &str, options: &[&str]) -> Process {
    let (ca_file, secret_file) = (setup.path("receive.pem"), setup.path("secret"));
    fs::write(&secret_file, format!("{secret}\n")).unwrap();
    let (ca_file, secret_file) = (ca_file.to_str().unwrap(), secret_file.to_str().unwrap());
    let mut args = vec!["receive", "--listen", "127.0.0.1:0", "--ca-file", ca_file, "--secret-file", secret_file];
    args.extend(options);
    let receiver = setup.start(&args, &[], "");
    let url = format!("https://localhost:{}/{}", port(&receiver).await, "hooks?of=acme");
    setup.edit_config(&[("egress.ca_file", json!(ca_file)), ("egress.allow_hosts", json!(["localhost"]))]);
    setup.run(&["endpoint", "set", "acme", "--url", &url]).await.ok();
    receiver
}

#[tokio::test]
async fn a_leads_request_is_verified_and_shown() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let mut receiver = receiving(&setup, &secret, &[]).await;
    let _daemon = setup.daemon();
    let lead = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'ann@example.com')";
    setup.db.app().await.batch_execute(lead).await.unwrap();
    setup.db.wait_for_log(1).await;
    assert_eq!(setup.db.log_rows().await[0].status, "delivered");
    receiver.wait_for_log(|line| line.contains("ann@example.com")).await;
    let shown = receiver.log().join("\n");
    for part in [
        "POST /hooks?of=acme  lead.created  answered 200",
        "✓ x-wilow-signature fits",
        "✓ webhook-signature fits",
        "user-agent: Wilow-Webhook/1.0",
    ] {
        assert!(shown.contains(part), "{part} is missing in:\n{shown}");
    }
    receiver.signal("INT");
    assert!(receiver.wait().await.success());
    assert!(receiver.log().iter().any(|line| line == "1 request"));
}

#[tokio::test]
async fn it_answers_as_it_is_told_and_refuses_what_does_not_verify() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let receiver = receiving(&setup, &secret, &["--respond", "503", "--delay", "1500ms", "--json"]).await;
    let tested = |code: i32| {
        let setup = &setup;
        async move {
            let output = setup.run(&["test", "acme", "--json"]).await;
            assert_eq!(output.code, Some(code), "{output:?}");
            serde_json::from_str::<Value>(&output.stdout).unwrap()
        }
    };
    let outcome = tested(1).await;
    assert_eq!(outcome["http_status"], 503, "{outcome}");
    assert!(outcome["total_us"].as_i64().unwrap() >= 1_500_000, "{outcome}");
    let line = receiver.wait_for_log(|line| line.contains("\"number\":1")).await;
    let seen: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&seen["verified"], &seen["answered"]), (&json!(true), &json!(503)), "{seen}");
    assert_eq!(seen["signatures"], json!({"x-wilow-signature": "fits", "webhook-signature": "fits"}));
    // The tenant has another one now, which the receiver has not been told.
    setup.run(&["secret", "generate", "acme"]).await.ok();
    assert_eq!(tested(1).await["http_status"], 401);
    let line = receiver.wait_for_log(|line| line.contains("\"number\":2")).await;
    assert!(line.contains("another secret") && line.contains("\"verified\":false"), "{line}");
}

#[tokio::test]
async fn it_takes_all_that_a_daemon_has_in_flight_by_default() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let receiver = receiving(&setup, &secret, &["--delay", "1h"]).await;
    setup.edit_config(&[("delivery.per_endpoint", json!(256)), ("delivery.timeout", json!("60s"))]);
    let _daemon = setup.daemon();
    let leads =
        "INSERT INTO leads (tenant_id, email) SELECT 'acme', n || '@example.com' FROM generate_series(1, 256) n";
    setup.db.app().await.batch_execute(leads).await.unwrap();
    receiver.wait_for_log(|line| line.starts_with("#256 ")).await;
    assert!(setup.db.log_rows().await.is_empty(), "none had to wait until another one gave up");
}

#[tokio::test]
async fn it_listens_on_this_host_alone_and_names_every_problem() {
    let setup = Setup::new().await;
    let output = setup.run(&["receive", "--listen", "0.0.0.0:0", "--secret-file", "/nowhere"]).await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains("--listen 0.0.0.0:0: give 127.0.0.1"), "{}", output.stderr);
    assert!(output.stderr.contains("--secret-file /nowhere"), "{}", output.stderr);
}
