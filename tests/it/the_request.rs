//! What a receiver gets, and what each of its answers becomes.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::future;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};

use crate::harness::{Admin, Answer, Gate, LogRow, Receiver, Request, Setup};

fn words(row: &LogRow) -> (&str, Option<&str>, Option<i16>) {
    (row.status.as_str(), row.failure.as_deref(), row.http_status)
}

/// Sends one lead to a receiver that answers so; its log row.
async fn outcome_of(answer: Answer) -> (LogRow, Vec<Request>) {
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.timeout", json!("2s"))]);
    setup.endpoint("acme").await;
    setup.receiver.answer(answer);
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    let row = setup.db.wait_for_log(1).await.remove(0);
    (row, setup.receiver.requests())
}

#[tokio::test]
async fn every_2xx_is_delivered_and_everything_else_failed_after_one_request() {
    for (status, expected) in [
        (200, ("delivered", None)),
        (204, ("delivered", None)),
        (299, ("delivered", None)),
        (302, ("failed", Some("redirect"))),
        (307, ("failed", Some("redirect"))),
        (400, ("failed", Some("http_status"))),
        (409, ("failed", Some("http_status"))),
        (421, ("failed", Some("http_status"))),
        (429, ("failed", Some("http_status"))),
        (500, ("failed", Some("http_status"))),
        (503, ("failed", Some("http_status"))),
    ] {
        let answer = Answer::status(status).header("Location", "/elsewhere").header("Retry-After", "0");
        let (row, requests) = outcome_of(answer).await;
        assert_eq!(words(&row), (expected.0, expected.1, Some(i16::try_from(status).unwrap())));
        assert_eq!(requests.len(), 1, "{status}: nothing is repeated or followed");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_request_is_failed_protocol_and_not_repeated() {
    for answer in
        [Answer::reset(), Answer::raw(""), Answer::raw("HTTP/1.1 200"), Answer::raw("SSH-2.0-OpenSSH_9.2\r\n")]
    {
        let (row, requests) = outcome_of(answer).await;
        assert_eq!(words(&row), ("failed", Some("protocol"), None), "{:?}", row.error);
        assert_eq!(requests.len(), 1);
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_is_failed_timeout() {
    let (row, requests) = outcome_of(Answer::status(200).behind(&Gate::closed())).await;
    assert_eq!(words(&row), ("failed", Some("timeout"), None));
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn a_body_that_stalls_after_a_2xx_status_line_is_still_delivered() {
    let begin = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf";
    let (row, _) = outcome_of(Answer::stall_after(begin)).await;
    assert_eq!(words(&row), ("delivered", None, Some(200)));
}

#[tokio::test]
async fn an_endless_answer_is_read_to_16_kib_and_dropped() {
    let mut endless = b"HTTP/1.1 500 Oops\r\n\r\n".to_vec();
    endless.resize(1024 * 1024, b'x');
    let (row, _) = outcome_of(Answer::stall_after(endless)).await;
    assert_eq!(words(&row), ("failed", Some("http_status"), Some(500)));
}

#[tokio::test]
async fn nobody_listening_is_failed_connect_and_a_silent_listener_failed_timeout() {
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.connect_timeout", json!("500ms"))]);
    for tenant in ["closed", "silent"] {
        setup.endpoint(tenant).await;
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for (tenant, port) in [("closed", closed), ("silent", silent.local_addr().unwrap().port())] {
        setup.run(&["endpoint", "set", tenant, "--url", &format!("https://127.0.0.1:{port}/")]).await.ok();
        setup.db.insert_lead(tenant, "ann@example.com").await;
    }
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    let of = |tenant: &str| words(rows.iter().find(|row| row.tenant_id == tenant).unwrap());
    assert_eq!(of("closed"), ("failed", Some("connect"), None));
    assert_eq!(of("silent"), ("failed", Some("timeout"), None));
}

#[tokio::test]
async fn a_certificate_of_another_name_or_an_unknown_authority_or_no_tls_at_all_is_failed_tls() {
    let setup = Setup::new().await;
    let stranger = Receiver::start();
    let other_name = Receiver::start_for(&["other.example.com"]);
    let authorities =
        fs::read_to_string(setup.receiver.ca_file()).unwrap() + &fs::read_to_string(other_name.ca_file()).unwrap();
    let both = setup.path("both.pem");
    fs::write(&both, authorities).unwrap();
    setup.edit_config(&[("egress.ca_file", json!(both))]);
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plain_port = plain.local_addr().unwrap().port();
    let answering = async {
        let (mut socket, _) = plain.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    };
    for (tenant, port) in [("stranger", stranger.port()), ("name", other_name.port()), ("plain", plain_port)] {
        setup.endpoint(tenant).await;
        setup.run(&["endpoint", "set", tenant, "--url", &format!("https://localhost:{port}/")]).await.ok();
        setup.db.insert_lead(tenant, "ann@example.com").await;
    }
    let _daemon = setup.daemon();
    let rows = tokio::select! {
        rows = setup.db.wait_for_log(3) => rows,
        () = answering => unreachable!(),
    };
    for row in &rows {
        assert_eq!(words(row), ("failed", Some("tls"), None), "{}: {:?}", row.tenant_id, row.error);
    }
    assert!(stranger.requests().is_empty() && other_name.requests().is_empty());
}

#[tokio::test]
async fn a_template_and_custom_headers_shape_the_request_and_values_cannot_break_it() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let template = r#"{"inputs":[{"idProperty":"email","id":"{{ email }}","properties":{"phone":"{{phone}}","firstname":"Hi {{firstName}}!","score":1.0}}]}"#;
    let file = setup.path("template.json");
    fs::write(&file, template).unwrap();
    setup
        .run_with(
            &[
                "endpoint",
                "set",
                "acme",
                "--template",
                file.to_str().unwrap(),
                "--omit-empty",
                "true",
                "--header",
                "@-",
            ],
            &[],
            "Authorization: Bearer pat-na1-123\nX-Api-Token: t0k3n\n",
        )
        .await
        .ok();
    let _daemon = setup.daemon();
    let hostile = r#"","admin":true,"x":"{{email}} \ "#.to_owned() + "\u{2028}\u{7}\u{1f600}\n";
    let insert = "INSERT INTO leads (tenant_id, email, first_name) VALUES ('acme', $1, $2)";
    setup.db.app().await.execute(insert, &[&"a\"b@example.com", &hostile]).await.unwrap();
    let request = setup.receiver.wait_for(1).await.remove(0);
    request.verify(&secret).unwrap();
    assert_eq!(
        request.json(),
        json!({"inputs": [{"idProperty": "email", "id": "a\"b@example.com",
                           "properties": {"firstname": format!("Hi {hostile}!"), "score": 1.0}}]})
    );
    assert!(String::from_utf8_lossy(&request.body).ends_with(r#""score":1.0}}]}"#), "numbers keep their spelling");
    assert_eq!(request.header("authorization"), Some("Bearer pat-na1-123"));
    assert_eq!(request.header("x-api-token"), Some("t0k3n"));
}

#[tokio::test]
async fn a_templates_body_of_more_than_a_mebibyte_is_not_sent_and_its_lead_is_accounted_for() {
    let setup = Setup::new().await;
    for tenant in ["repeats", "plain"] {
        setup.endpoint(tenant).await;
    }
    let template = setup.path("template.json");
    fs::write(&template, format!("[\"{}\"]", "{{firstName}}".repeat(4_000))).unwrap();
    setup.run(&["endpoint", "set", "repeats", "--template", template.to_str().unwrap()]).await.ok();
    let insert = "INSERT INTO leads (tenant_id, email, first_name, conversation_id) \
                  VALUES ($1, 'ann@example.com', repeat('x', 20000), repeat('y', 200000))";
    for tenant in ["repeats", "plain"] {
        setup.db.app().await.execute(insert, &[&tenant]).await.unwrap();
    }
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    let of = |tenant: &str| rows.iter().find(|row| row.tenant_id == tenant).unwrap();
    assert_eq!(words(of("repeats")), ("failed", Some("template"), None));
    assert!(of("repeats").error.as_ref().unwrap().contains("more than 1 MiB"), "{rows:?}");
    // The default body has what the lead has.
    assert_eq!(words(of("plain")), ("delivered", None, Some(200)));
    assert!(setup.receiver.wait_for(1).await[0].body.len() > 200_000);
    let preview = setup.run(&["preview", "repeats"]).await.ok();
    assert!(preview.stdout.contains("more than 1 MiB"), "{preview:?}");
}

#[tokio::test]
async fn header_prefix_and_user_agent_are_the_operators() {
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.header_prefix", json!("X-Acme")), ("delivery.user_agent", json!("Acme/2"))]);
    let secret = setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    let request = setup.receiver.wait_for(1).await.remove(0);
    request.verify_as("X-Acme", &secret).unwrap();
    assert_eq!((request.header("user-agent"), request.header("x-acme-event")), (Some("Acme/2"), Some("lead.created")));
    assert!(request.header("x-wilow-signature").is_none());
}

#[tokio::test]
async fn a_test_sends_a_synthetic_lead_at_the_draft_and_is_logged_as_a_test() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let args = ["test", "acme", "--header", "X-Draft: yes", "--json"];
    let shown: Value = serde_json::from_str(&setup.run(&args).await.ok().stdout).unwrap();
    assert_eq!((&shown["status"], &shown["http_status"]), (&json!("delivered"), &json!(200)));
    let request = setup.receiver.requests().remove(0);
    request.verify(&secret).unwrap();
    assert_eq!(request.header("x-draft"), Some("yes"));
    assert!(request.json()["leadId"].as_str().unwrap().starts_with("test_"));
    let row = setup.db.log_rows().await.remove(0);
    assert!(row.is_test);
    setup.receiver.answer(Answer::status(500));
    let failed = setup.run(&["test", "acme"]).await;
    assert_eq!(failed.code, Some(1));
    assert!(failed.stdout.contains("500"), "{}", failed.stdout);
    assert!(setup.receiver.requests().get(1).unwrap().header("x-draft").is_none(), "the draft was not saved");
}

#[tokio::test]
async fn a_tenant_is_tested_ten_times_a_minute_by_however_many_processes_and_then_told_when_to_try_again() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup.endpoint("globex").await;
    // All of them at once, and none ends before all that are let through have been sent.
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let tests = future::join_all((0..14).map(|_| setup.run(&["test", "acme"])));
    let (tests, ()) = tokio::join!(tests, async {
        setup.receiver.wait_for(10).await;
        gate.open();
    });
    let refused: Vec<_> = tests.into_iter().filter(|test| test.code != Some(0)).collect();
    assert_eq!((refused.len(), setup.receiver.requests().len()), (4, 10));
    for test in refused {
        assert_eq!((test.code, test.stdout.as_str()), (Some(1), ""));
        assert!(
            test.stderr.contains("10 times in the last 1m") && test.stderr.contains("try again in"),
            "{}",
            test.stderr
        );
    }
    setup.run(&["test", "globex"]).await.ok();
    // Without waiting for it: the oldest of them is a minute old.
    let admin = setup.db.admin().await;
    let age = "UPDATE lead_webhook.deliveries SET queued_at = queued_at - interval '1 minute'
               WHERE delivery_id = (SELECT delivery_id FROM lead_webhook.deliveries WHERE tenant_id = 'acme'
                                    ORDER BY queued_at LIMIT 1)";
    admin.batch_execute(age).await.unwrap();
    setup.run(&["test", "acme"]).await.ok();
    assert_eq!(setup.run(&["test", "acme"]).await.code, Some(1));
    assert!(setup.db.log_rows().await.iter().all(|row| row.is_test && row.status == "delivered"));
}

#[tokio::test]
async fn a_test_that_is_killed_counts_and_stands_in_the_log_as_interrupted() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let mut test = setup.start(&["test", "acme"], &[], "");
    setup.receiver.wait_for(1).await;
    test.kill9();
    let row = setup.db.log_rows().await.remove(0);
    assert_eq!((words(&row), row.is_test), (("interrupted", None, None), true));
    gate.open();
}

#[tokio::test]
async fn a_lead_that_cannot_be_read_takes_no_other_out_of_the_preview() {
    let setup = Setup::new().await;
    let name = "sql: (case when lead.email like 'bad%' then 'x' else '1' end)::int::text";
    setup.edit_config(&[("leads.columns.first_name", json!(name))]);
    setup.endpoint("acme").await;
    let admin = Admin::start(&setup).await;
    let mut ids = Vec::new();
    for email in ["first@example.com", "bad@example.com", "last@example.com"] {
        ids.push(setup.db.insert_lead("acme", email).await.to_string());
    }
    let shown =
        setup.run(&["preview", "acme", "--json", "--template", r#"{"who":"{{email}} {{firstName}}"}"#]).await.ok();
    let lines: Vec<Value> = shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let answer = admin.operator("POST", "/v1/tenants/acme/endpoint/preview", None).with(200);
    for bodies in [&lines[..3], &answer.body["bodies"].as_array().unwrap()[..]] {
        let of = |nth: usize| bodies.iter().find(|body| body["lead_id"] == ids[nth].as_str()).unwrap();
        assert!(of(0)["body"].is_object() && of(2)["body"].is_object(), "{bodies:?}");
        assert!(of(1)["body"].is_null(), "{bodies:?}");
        assert!(of(1)["problem"].as_str().unwrap().contains("22P02"), "{bodies:?}");
    }
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[3..].iter().all(|line| line["empty"] == 0), "{lines:?}");
    let shown = setup.run(&["preview", "acme"]).await.ok().stdout;
    assert!(shown.contains("22P02") && shown.contains("last@example.com"), "{shown}");
}

#[tokio::test]
async fn a_lead_whose_contact_cannot_be_read_takes_no_other_out_of_the_preview() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let app = setup.db.app().await;
    let insert = "INSERT INTO leads (tenant_id, email, phone) VALUES ('acme', $1, $2) RETURNING id::text";
    let mut ids: Vec<String> = Vec::new();
    for (email, phone) in [("first@example.com", "1"), ("bad@example.com", "x"), ("", "")] {
        ids.push(app.query_one(insert, &[&email, &phone]).await.unwrap().get(0));
    }
    // Mapped so before any trigger reads it so: what they would make of it is another matter.
    setup.edit_config(&[("leads.columns.phone", json!("sql: nullif(lead.phone, '')::int::text"))]);
    let shown = setup.run(&["preview", "acme", "--json"]).await.ok();
    let lines: Vec<Value> = shown.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bodies: Vec<_> = lines.iter().filter(|line| line["kind"] == "body").collect();
    let told: Vec<_> =
        bodies.iter().map(|body| (body["lead_id"].as_str().unwrap(), body["body"].is_object())).collect();
    assert_eq!(told.len(), 2, "{bodies:?}");
    assert!(told.contains(&(ids[0].as_str(), true)) && told.contains(&(ids[1].as_str(), false)), "{bodies:?}");
}

/// Verifiers that others wrote: `@octokit/webhooks-methods` and `standardwebhooks`.
#[tokio::test]
async fn a_preview_is_byte_for_byte_what_is_sent_and_tells_which_placeholders_are_empty() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let app = setup.db.app().await;
    for (email, phone) in [("ann@example.com", Some("+49 1")), ("bob@example.com", None), ("cy@example.com", None)] {
        let insert = "INSERT INTO leads (tenant_id, email, phone) VALUES ('acme', $1, $2)";
        app.execute(insert, &[&email, &phone]).await.unwrap();
    }
    setup.db.insert_lead("other", "dan@example.com").await;
    let template = r#"{"who": "{{email}} / {{phone}}", "phone": "{{phone}}", "first": "{{firstName}}", "n": 1.50}"#;
    let draft = ["--template", template, "--omit-empty", "true"];
    let preview = async |options: &[&str]| setup.run(&[&["preview", "acme"], options].concat()).await;
    let shown = preview(&[&draft[..], &["--json"]].concat()).await.ok().stdout;
    let default = preview(&["--last", "1"]).await.ok().stdout;
    assert!(
        default.contains("cy@example.com") && !default.contains("bob@"),
        "the latest, by the default body: {default}"
    );
    setup.run(&[&["endpoint", "set", "acme"], &draft[..]].concat()).await.ok();
    assert_eq!(preview(&["--json"]).await.ok().stdout, shown, "the stored one");
    let _daemon = setup.daemon();
    let sent: HashSet<String> = setup
        .receiver
        .wait_for(3)
        .await
        .iter()
        .map(|request| String::from_utf8(request.body.clone()).unwrap())
        .collect();
    let lines: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).collect::<Vec<_>>();
    let previewed: HashSet<String> =
        preview(&[]).await.ok().stdout.lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect();
    assert_eq!(previewed, sent);
    let empty: Vec<_> =
        of_kind("placeholder").iter().map(|line| (line["name"].clone(), line["empty"].clone())).collect();
    assert_eq!(empty, [(json!("email"), json!(0)), (json!("phone"), json!(2)), (json!("firstName"), json!(3))]);
    let nobody = setup.run(&["preview", "nobody", "--template", "{{"]).await;
    assert_eq!(nobody.code, Some(2), "{}", nobody.stderr);
    let nobody = setup.run(&["preview", "nobody"]).await;
    assert!(nobody.code == Some(1) && nobody.stderr.contains("has no lead with a contact"), "{}", nobody.stderr);
}

#[tokio::test]
async fn a_preset_is_its_template_with_what_else_to_know_and_other_options_come_on_top() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let set = async |options: &[&str]| setup.run(&[&["endpoint", "set", "acme"], options].concat()).await;
    let made = set(&["--preset", "hubspot-upsert", "--header", "X-Other: 1"]).await.ok();
    for told in
        ["its URL is https://api.hubapi.com/", "needs the header `Authorization: Bearer TOKEN`", "a phone alone"]
    {
        assert!(made.stderr.contains(told), "{told}: {}", made.stderr);
    }
    let made = set(&["--header", "authorization: Bearer x", "--preset", "hubspot-upsert"]).await.ok();
    assert!(!made.stderr.contains("needs the header"), "{}", made.stderr);
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    let request = setup.receiver.wait_for(1).await.remove(0);
    let upsert = r#"{"inputs":[{"idProperty":"email","id":"ann@example.com","properties":{}}]}"#;
    assert_eq!(String::from_utf8(request.body).unwrap(), upsert, "what is empty would clear what HubSpot has");
    let made = set(&["--preset", "google-sheets", "--timeout", "7s", "--json"]).await.ok();
    let made: Value = serde_json::from_str(&made.stdout).unwrap();
    assert_eq!(
        (&made["template"], &made["timeout_ms"], &made["omit_empty"]),
        (&Value::Null, &json!(7_000), &json!(false))
    );
    for (options, told) in [
        (&["--preset", "salesforce"][..], "\"salesforce\" is no preset: it is one of hubspot-upsert"),
        (&["--preset", "slack", "--no-template"][..], "cannot be used with"),
    ] {
        let refused = set(options).await;
        assert!(refused.code == Some(2) && refused.stderr.contains(told), "{}", refused.stderr);
    }
    let names = setup.run(&["preset", "list", "--json"]).await.ok().stdout;
    assert_eq!(names.lines().count(), 9);
    for line in names.lines() {
        let preset: Value = serde_json::from_str(line).unwrap();
        let shown = setup.run(&["preset", "show", preset["name"].as_str().unwrap()]).await.ok().stdout;
        assert!(shown.contains(preset["url"].as_str().unwrap()), "{shown}");
    }
}

#[tokio::test]
async fn what_was_received_verifies_at_the_command_line_and_what_became_of_it_is_told() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    let request = setup.receiver.wait_for(1).await.remove(0);
    let secret_file = setup.path("secret");
    // One a line, as receivers keep them while one takes another's place.
    fs::write(&secret_file, format!("whsec_YW5vdGhlciwgb2YgdGhpcnR5LXR3byBieXRlcyB0b28=\n\n  {secret}\n")).unwrap();
    let header = |name: &str| request.header(name).unwrap().to_owned();
    let body = String::from_utf8(request.body.clone()).unwrap();
    let ours = vec!["--signature".to_owned(), header("X-Wilow-Signature")];
    let standard = ["--signature", "webhook-signature", "--id", "webhook-id", "--timestamp", "webhook-timestamp"];
    let standard = standard.map(|word| if word.starts_with("--") { word.to_owned() } else { header(word) }).to_vec();
    let verify = async |signature: &[String], body: &str| {
        let mut args = vec!["verify", "--secret-file", secret_file.to_str().unwrap()];
        args.extend(signature.iter().map(String::as_str));
        setup.run_with(&args, &[], body).await
    };
    for signature in [&ours, &standard] {
        assert_eq!(verify(signature, &body).await.ok().stdout, "the signature fits\n");
        let parsed: Value = serde_json::from_str(&body).unwrap();
        for (received, told) in [
            (serde_json::to_string_pretty(&parsed).unwrap(), "verify the raw bytes"),
            (format!("{body}\n"), "a line break or a blank at its end"),
            (body.replace("ann", "bob"), "another secret, or over another body"),
        ] {
            let refused = verify(signature, &received).await;
            assert_eq!(refused.code, Some(1));
            assert!(refused.stderr.contains(told), "{told}: {}", refused.stderr);
        }
    }
    let other =
        standard.iter().map(|word| if *word == header("webhook-id") { "another".to_owned() } else { word.clone() });
    let refused = verify(&other.collect::<Vec<_>>(), &body).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("--id and --timestamp have to be of the same request"));
    let bad = setup.run_with(&["verify", "--secret-file", "/nowhere", "--signature", "00"], &[], "").await;
    assert_eq!((bad.code, bad.stderr.lines().count()), (Some(2), 2), "{}", bad.stderr);
}

#[tokio::test]
#[ignore = "needs node, and `npm ci` in tests/verifiers"]
async fn verifiers_of_others_accept_what_is_sent_and_nothing_else() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/verifiers");
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    for name in ["Ann", "Jürgen 😀", "\"},{\u{2028}"] {
        let insert = "INSERT INTO leads (tenant_id, email, conversation_id) VALUES ('acme', $1, $2)";
        setup.db.app().await.execute(insert, &[&format!("{name}@example.com"), &name]).await.unwrap();
    }
    let mut lines = Vec::new();
    for request in setup.receiver.wait_for(3).await {
        let headers: HashMap<String, String> =
            request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
        let mut line = |body: &[u8]| {
            lines.push(json!({"secret": secret, "body_b64": STANDARD.encode(body), "headers": headers}).to_string());
        };
        line(&request.body);
        line(&[&request.body[..], b" "].concat());
    }
    let mut node = Command::new("node")
        .arg("verify.mjs")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    node.stdin.take().unwrap().write_all((lines.join("\n") + "\n").as_bytes()).unwrap();
    let output = node.wait_with_output().unwrap();
    let verdicts: Vec<(bool, bool)> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|verdict| (verdict["octokit"] == true, verdict["standardwebhooks"] == true))
        .collect();
    assert_eq!(verdicts, [(true, true), (false, false)].repeat(3));
}
