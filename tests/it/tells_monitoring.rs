//! The admin listener: how the daemon does, for probes and Prometheus, on this host alone and without anything secret.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, Setup, Stop, environment, left_out, patiently, until, until_true};

/// An answer's status and body.
fn answered(mut stream: impl Read + Write, path: &str, host: &str) -> (u16, String) {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// An installation whose daemons listen on this port.
async fn listening(cluster: &std::sync::Arc<Cluster>) -> (Setup, u16) {
    let setup = Setup::on(cluster).await;
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    setup.edit_config(&[("admin.listen", json!(format!("127.0.0.1:{port}")))]);
    (setup, port)
}

fn get(port: u16, path: &str) -> (u16, String) {
    answered(TcpStream::connect(("127.0.0.1", port)).unwrap(), path, &format!("localhost:{port}"))
}

/// The value of a metric, by its name with its labels.
fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{name}: {text}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn what_happens_is_counted_and_what_waits_is_told() {
    let (setup, port) = listening(&Cluster::shared()).await;
    setup.endpoint("acme").await;
    setup.receiver.queue([Answer::status(200), Answer::status(503)]);
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    let app = setup.db.app().await;
    for n in 1..=3 {
        // The third is the first's visitor again.
        let email = if n == 2 { "b@example.com" } else { "a@example.com" };
        let insert = "INSERT INTO leads (tenant_id, email, visitor_id) VALUES ('acme', $1, 'v')";
        app.execute(insert, &[&email]).await.unwrap();
        setup.db.wait_for_log(n).await;
    }
    let (status, text) = get(port, "/metrics");
    assert_eq!(status, 200);
    let events = |labels: &str| value(&text, &format!("lead_webhook_events_total{{{labels}}}"));
    assert!(events(r#"status="delivered",cause="""#) == 1.0 && events(r#"status="failed",cause="http_status""#) == 1.0);
    assert!(events(r#"status="skipped",cause="duplicate""#) == 1.0 && events(r#"status="failed",cause="dns""#) == 0.0);
    assert_eq!(value(&text, "lead_webhook_attempt_duration_seconds_count"), 2.0);
    let round_trip = value(&text, "lead_webhook_notify_round_trip_seconds");
    assert!(round_trip.is_nan() || round_trip > 0.0, "{round_trip}");
    assert!(
        value(&text, "lead_webhook_clock_ahead_seconds").abs() < 60.0,
        "the server's clock is this machine's: {text}"
    );
    let up =
        ["database_up", "claims_up", "notifications_up", "pending_events", "oldest_pending_age_seconds", "in_flight"]
            .map(|name| value(&text, &format!("lead_webhook_{name}")));
    assert_eq!(up, [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    assert!(!text.contains("acme") && !text.contains('@'), "no tenant, and nobody's contact: {text}");
    assert_eq!(get(port, "/healthz"), (200, "ok\n".to_owned()));
    assert_eq!((get(port, "/").0, get(port, "/v1").0), (404, 404));
    let foreign = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(answered(foreign, "/metrics", "evil.example.com").0, 403, "a browser was sent here under another name");
}

#[tokio::test]
async fn it_is_ready_while_the_database_can_be_written_to_and_says_why_not() {
    let (setup, port) = listening(&Cluster::start(&[])).await;
    let _daemon = setup.daemon();
    let ready = || {
        let (status, body) = get(port, "/readyz");
        (status, serde_json::from_str::<Value>(&body).unwrap())
    };
    let answers = async |wanted: u16| {
        until("readiness", || TcpStream::connect(("127.0.0.1", port)).is_ok() && ready().0 == wanted).await;
    };
    answers(200).await;
    assert_eq!(ready().1["database"], "connected");
    setup.db.cluster.stop(Stop::Fast).await;
    answers(503).await;
    let (_, told) = ready();
    assert_eq!((&told["ready"], &told["database"]), (&json!(false), &json!("away")));
    until("the listener's end", || ready().1["notifications"] == "not heard, the daemon polls").await;
    assert!(told["why"].as_str().unwrap().contains("events and outcomes wait"), "{told}");
    let (_, text) = get(port, "/metrics");
    assert_eq!(value(&text, "lead_webhook_database_up"), 0.0);
    assert!(value(&text, "lead_webhook_clock_ahead_seconds").is_nan());
    assert!(
        value(&text, "lead_webhook_pending_events").is_nan() && value(&text, "lead_webhook_write_failures_total") > 0.0
    );
    assert_eq!(get(port, "/healthz").0, 200, "the process does well");
    setup.db.cluster.start_again().await;
    answers(200).await;
}

#[tokio::test]
async fn it_is_not_ready_while_no_event_can_be_claimed() {
    let (setup, port) = listening(&Cluster::shared()).await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    until("ready", || get(port, "/readyz").0 == 200).await;
    let admin = setup.db.admin().await;
    let role = &setup.db.daemon_role;
    admin.batch_execute(&format!("REVOKE SELECT (phone) ON leads FROM {role}")).await.unwrap();
    setup.db.insert_lead("acme", "ann@example.com").await;
    until("not ready", || get(port, "/readyz").0 == 503).await;
    let (_, told) = get(port, "/readyz");
    assert!(told.contains("no event can be claimed"), "{told}");
    assert_eq!(value(&get(port, "/metrics").1, "lead_webhook_claims_up"), 0.0);
    admin.batch_execute(&format!("GRANT SELECT (phone) ON leads TO {role}")).await.unwrap();
    until("ready", || get(port, "/readyz").0 == 200).await;
    daemon.wait_for_log(|line| line.contains("claiming again")).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
}

#[tokio::test]
async fn it_is_not_ready_while_triggers_fail_and_what_they_miss_cannot_be_looked_for() {
    let (setup, port) = listening(&Cluster::shared()).await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"swept\"")).await;
    // It has made its first claim, which reads the leads, and rests: it makes no other until something is queued.
    let (app, admin) = (setup.db.app().await, setup.db.admin().await);
    let rests = "SELECT count(*) > 0 FROM pg_stat_activity
                 WHERE datname = current_database() AND state = 'idle' AND query LIKE '-- bell::survey%'";
    until_true(&admin, "the daemon to rest", rests).await;
    app.batch_execute("ALTER TABLE leads RENAME email TO mail").await.unwrap();
    app.batch_execute("INSERT INTO leads (tenant_id, mail) VALUES ('acme', 'ann@example.com')").await.unwrap();
    until("not ready", || get(port, "/readyz").0 == 503).await;
    let (_, told) = get(port, "/readyz");
    assert!(told.contains("triggers fail and so does the search"), "{told}");
    assert!(value(&get(port, "/metrics").1, "lead_webhook_unswept_misses") >= 1.0);
    app.batch_execute("ALTER TABLE leads RENAME mail TO email").await.unwrap();
    until("ready", || get(port, "/readyz").0 == 200).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    assert_eq!(value(&get(port, "/metrics").1, "lead_webhook_unswept_misses"), 0.0);
}

#[tokio::test]
async fn it_is_not_ready_while_a_trigger_is_switched_off_or_gone_and_its_log_says_so() {
    let (setup, port) = listening(&Cluster::shared()).await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"swept\"")).await;
    let app = setup.db.app().await;
    for (off, on) in [
        (
            "ALTER TABLE leads DISABLE TRIGGER lead_webhook_update",
            "ALTER TABLE leads ENABLE ALWAYS TRIGGER lead_webhook_update",
        ),
        ("ALTER TABLE leads RENAME TO leads_before", "ALTER TABLE leads_before RENAME TO leads"),
    ] {
        app.batch_execute(off).await.unwrap();
        until("not ready", || get(port, "/readyz").0 == 503).await;
        assert!(get(port, "/readyz").1.contains("a trigger is missing or switched off"), "{off}");
        assert_eq!(value(&get(port, "/metrics").1, "lead_webhook_triggers_up"), 0.0, "{off}");
        app.batch_execute(on).await.unwrap();
        until("ready", || get(port, "/readyz").0 == 200).await;
    }
    let told = |what: &str| daemon.log().iter().filter(|line| line.contains(what)).count();
    assert_eq!((told("new leads are not queued"), told("the triggers fire again")), (2, 2));
    setup.db.insert_lead("acme", "ann@example.com").await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
}

#[tokio::test]
async fn it_listens_on_a_unix_socket_also_over_one_that_a_crash_left() {
    let setup = Setup::new().await;
    let socket = setup.path("admin.sock");
    setup.edit_config(&[("admin.listen", json!(format!("unix:{}", socket.display())))]);
    for _ in 0..2 {
        let mut daemon = setup.daemon();
        daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
        let answer = answered(UnixStream::connect(&socket).unwrap(), "/healthz", "whoever");
        assert_eq!(answer, (200, "ok\n".to_owned()));
        daemon.kill9();
    }
}

#[tokio::test]
async fn over_a_unix_socket_nothing_is_told_under_the_public_name() {
    let setup = Setup::new().await;
    let socket = setup.path("admin.sock");
    setup.edit_config(&[
        ("admin.listen", json!(format!("unix:{}", socket.display()))),
        ("admin.origin", json!("https://webhooks.example.com")),
    ]);
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let status = |host: &str| answered(UnixStream::connect(&socket).unwrap(), path, host).0;
        for host in ["webhooks.example.com", "Webhooks.Example.com:443", "webhooks.example.com."] {
            assert_eq!(status(host), 403, "{path} {host}");
        }
        assert_ne!(status("localhost"), 403, "{path}");
    }
}

#[tokio::test]
async fn a_monitor_that_names_no_host_is_told() {
    let (setup, port) = listening(&Cluster::shared()).await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    let asked = |head: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(asked("GET /healthz HTTP/1.0\r\n\r\n"), "200");
    assert_eq!(asked("GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n"), "403");
}

#[tokio::test]
async fn it_is_on_this_host_alone_and_a_port_that_is_taken_is_told() {
    let (setup, port) = listening(&Cluster::shared()).await;
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let refused = setup.run(&["run"]).await;
    assert_eq!(refused.code, Some(1), "systemd tries again");
    assert!(refused.stderr.contains(&format!("admin.listen: cannot listen on 127.0.0.1:{port}")), "{}", refused.stderr);
    for (listen, told) in [("0.0.0.0:9464", "can be reached from elsewhere"), ("unix:admin.sock", "no absolute path")] {
        setup.edit_config(&[("admin.listen", json!(listen))]);
        let refused = setup.run(&["run"]).await;
        assert!(refused.code == Some(78) && refused.stderr.contains(told), "{}", refused.stderr);
    }
    setup.edit_config(&[("admin.listen", json!(""))]);
}

#[tokio::test]
async fn what_is_unaccounted_is_counted_from_time_to_time() {
    let (setup, port) = listening(&Cluster::shared()).await;
    setup.endpoint("acme").await;
    setup.leaves_leads_unaccounted();
    let app = setup.db.app().await;
    // Two log rows get lost; nothing else is known of those leads but their keys, so that the sweep leaves them alone.
    app.batch_execute(
        "INSERT INTO leads (tenant_id, email) SELECT 'acme', n || '@example.com' FROM generate_series(1, 5) n",
    )
    .await
    .unwrap();
    let first = setup.daemon();
    setup.db.wait_for_log(5).await;
    drop(first);
    let lost = "DELETE FROM lead_webhook.deliveries WHERE delivery_id IN (SELECT delivery_id FROM lead_webhook.deliveries LIMIT 2)";
    setup.db.admin().await.batch_execute(lost).await.unwrap();
    let daemon = setup.daemon();
    let warning = daemon.wait_for_log(|line| line.contains("of which nothing became")).await;
    assert!(warning.contains("\"unaccounted\":2"), "{warning}");
    let text = get(port, "/metrics").1;
    assert_eq!(value(&text, "lead_webhook_unaccounted_leads"), 2.0);
    assert!(value(&text, "lead_webhook_reconciled_timestamp_seconds") > 1.7e9);
    let round_trip = patiently("a notification's round trip", async {
        loop {
            let seconds = value(&get(port, "/metrics").1, "lead_webhook_notify_round_trip_seconds");
            if !seconds.is_nan() {
                break seconds;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(round_trip.await > 0.0);
}

/// The files for Prometheus and Grafana.
fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/monitoring")
}

/// Every expression of the dashboard, with what Grafana fills in.
fn dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_slice(&fs::read(monitoring().join("dashboard.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    expressions.map(|text| text.replace("$job", "lead-webhook").replace("$__rate_interval", "5m")).collect()
}

/// The names of our metrics in it.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("lead_webhook_")).collect()
}

#[tokio::test]
async fn alerts_dashboard_and_manual_name_metrics_that_are_there_and_all_of_them_are_explained() {
    let (setup, port) = listening(&Cluster::shared()).await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    let text = get(port, "/metrics").1;
    let there: BTreeSet<&str> = metrics_in(&text);
    let (alerts, dashboard) = (fs::read_to_string(monitoring().join("alerts.yml")).unwrap(), dashboard().join("\n"));
    let manual = fs::read_to_string(monitoring().join("../operations.md")).unwrap();
    for (place, used) in [("alerts", &alerts), ("dashboard", &dashboard), ("manual", &manual)] {
        let strangers: Vec<_> = metrics_in(used).into_iter().filter(|name| !there.contains(name)).collect();
        assert!(strangers.is_empty(), "{place}: {strangers:?}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split(['{', ' ']).next());
    let parts = ["_bucket", "_sum", "_count"];
    let names = series.map(|name| parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name));
    let unexplained: BTreeSet<_> = names.filter(|name| !manual.contains(name)).collect();
    assert!(unexplained.is_empty(), "{unexplained:?}");
}

/// Runs Prometheus' own tool with this input; what it says where it is not content.
fn promtool(tool: &str, args: &[&str], input: &str) {
    let mut command = Command::new(tool);
    command.args(args).current_dir(monitoring()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    assert!(output.status.success(), "promtool {args:?}: {said}");
}

/// `promtool check metrics` reads the format that was there before `OpenMetrics`, where a counter's family has its whole name.
fn classic(text: &str) -> String {
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    families.fold(text.to_owned(), |text, family| {
        ["TYPE", "HELP"]
            .into_iter()
            .fold(text, |text, word| text.replace(&format!("# {word} {family} "), &format!("# {word} {family}_total ")))
    })
}

#[tokio::test]
async fn prometheus_own_tool_takes_metrics_alerts_and_dashboard() {
    let tool = environment("LEAD_WEBHOOK_PROMTOOL").unwrap_or_else(|| "promtool".to_owned());
    if Command::new(&tool).arg("--version").output().is_err() {
        return left_out("alert rules and metrics by promtool: it is not here");
    }
    promtool(&tool, &["check", "rules", "alerts.yml"], "");
    promtool(&tool, &["test", "rules", "alerts.test.yml"], "");
    let (setup, port) = listening(&Cluster::shared()).await;
    let rules = setup.path("dashboard.yml");
    let recorded: Vec<_> = dashboard().iter().map(|expr| json!({"record": "panel", "expr": expr})).collect();
    fs::write(&rules, json!({"groups": [{"name": "dashboard", "rules": recorded}]}).to_string()).unwrap();
    promtool(&tool, &["check", "rules", "--lint=none", rules.to_str().unwrap()], "");
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    promtool(&tool, &["check", "metrics"], &classic(&get(port, "/metrics").1));
}
