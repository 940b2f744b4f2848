//! What the machine or the server lacks stops the daemon for as long as it is lacking, and costs no lead.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::Command,
};

use serde_json::json;
use tokio_postgres::Client;

use crate::{
    audit::Audit,
    harness::{Answer, Cluster, Database, Gate, Process, Receiver, Setup, patiently, until_true},
    own_world::{Everywhere, INTERNET, NameServer, Reply, World},
};

/// So small that it is soon full.
const DISK: World = World {
    what: "a disk of its own",
    namespaces: &["--mount"],
    make: "mount -t tmpfs -o size=150m tmpfs /tmp",
    files: &[],
};

/// A machine with one address, which is the receiver's as well; of IPv6 it has nothing.
const ADDRESS: World = World {
    what: "a network of its own",
    namespaces: &["--net", "--mount"],
    make: "ip link set lo up && ip address add 10.9.0.1/32 dev lo && mount --bind \"$1/hosts\" /etc/hosts",
    files: &[("hosts", "127.0.0.1 localhost\n10.9.0.1 hook.example.com\n2606:4700::1111 six.example.com\n")],
};

/// Nothing but itself.
const ALONE: World =
    World { what: "a network of its own", namespaces: &["--net"], make: "ip link set lo up", files: &[] };

/// How many lines the daemon has printed that hold this.
fn lines(daemon: &Process, text: &str) -> usize {
    daemon.log().iter().filter(|line| line.contains(text)).count()
}

/// The descriptor that a process would get next.
fn next_descriptor(process: u32) -> usize {
    let held = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let held: HashSet<usize> =
        held.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    (0..).find(|number| !held.contains(number)).unwrap()
}

/// The process gets descriptors below this one from here on.
fn allow_descriptors(process: u32, below: usize) {
    let limit = format!("--nofile={below}:");
    let status = Command::new("prlimit").args(["--pid", &process.to_string(), &limit]).status().unwrap();
    assert!(status.success(), "prlimit: {status}");
}

/// Waits until the daemon has the sessions that stay: what it does at its start takes some for a moment.
async fn started(setup: &Setup) {
    let three =
        "SELECT count(*) = 3 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until_true(&setup.db.admin().await, "listening, claims and records", three).await;
}

/// A daemon that can start no thread while there is a file.
struct Threadless {
    daemon: Process,
    file: PathBuf,
}

impl Threadless {
    /// Starts it; for now it can.
    fn start(setup: &Setup) -> Self {
        let [library, file] = [setup.path("no_threads.so"), setup.path("no_threads")];
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/survives_shortages/no_threads.c");
        let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
        assert!(compiled.unwrap().success());
        let [preload, switch] = [&library, &file].map(|path| path.to_str().unwrap());
        Self { daemon: setup.daemon_with(&[("LD_PRELOAD", preload), ("NO_THREADS", switch)]), file }
    }

    fn without_threads(&self) {
        fs::write(&self.file, "").unwrap();
    }

    fn with_threads(&self) {
        fs::remove_file(&self.file).unwrap();
    }
}

#[tokio::test]
async fn without_descriptors_nothing_fails_and_everything_is_sent_when_there_are_some() {
    const LEADS: usize = 40;
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.receiver.wait_for(1).await;
    started(&setup).await;
    allow_descriptors(daemon.id(), next_descriptor(daemon.id()));
    setup.db.insert_leads("acme", LEADS).await;
    let said = daemon.wait_for_log(|line| line.contains("cannot send")).await;
    assert!(said.contains("no file descriptor is left") && said.contains("LimitNOFILE"), "{said}");
    assert_eq!(setup.receiver.requests().len(), 1);
    gate.open();
    allow_descriptors(daemon.id(), 1024);
    let rows = setup.db.wait_for_log(LEADS + 1).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(lines(&daemon, "cannot send"), 1, "it is said once");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn with_few_descriptors_it_is_slower_and_nothing_fails() {
    const LEADS: usize = 200;
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    started(&setup).await;
    allow_descriptors(daemon.id(), next_descriptor(daemon.id()) + 3);
    setup.db.insert_leads("acme", LEADS).await;
    let rows = setup.db.wait_for_log(LEADS + 1).await;
    let other: Vec<_> = rows.iter().filter(|row| row.status != "delivered").collect();
    assert!(other.is_empty(), "{other:?}");
    assert_eq!(lines(&daemon, "cannot send"), 1, "it is said once");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_start_without_descriptors_names_the_limit_and_blames_no_file() {
    let setup = Setup::new().await;
    for descriptors in 4.. {
        let limit = format!("--nofile={descriptors}");
        let mut daemon = setup.daemon_by(&["prlimit", &limit]);
        let said = daemon.wait_for_log(|_| true).await;
        if said.contains("\"starting\"") {
            assert!(descriptors > 5, "some were too few");
            break;
        }
        let code = daemon.wait().await.code();
        // With so few that not even its libraries can be opened it is the system that ends it.
        if code != Some(127) {
            assert_eq!(code, Some(1), "{descriptors}: systemd tries again: {said}");
            assert!(
                said.contains("no file descriptor is left") && said.contains("LimitNOFILE"),
                "{descriptors}: {said}"
            );
        }
    }
}

#[tokio::test]
async fn a_reload_without_descriptors_trusts_nobody_less() {
    let setup = Setup::new().await;
    // Trusted because the system trusts it; the setup's own is named in the configuration.
    let (other, authorities) = (Receiver::start(), setup.path("authorities"));
    fs::create_dir(&authorities).unwrap();
    fs::copy(other.ca_file(), authorities.join("00000000.0")).unwrap();
    let trusted = [("SSL_CERT_DIR", authorities.to_str().unwrap())];
    setup.run_with(&["endpoint", "set", "acme", "--url", &other.url()], &trusted, "").await.ok();
    setup.run(&["secret", "generate", "acme"]).await.ok();
    let daemon = setup.daemon_with(&trusted);
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    let mut refused = 0;
    for more in 0.. {
        allow_descriptors(daemon.id(), next_descriptor(daemon.id()) + more);
        daemon.signal("HUP");
        let answers = |line: &&String| line.contains("reloaded");
        patiently("an answer", async { while daemon.log().iter().filter(answers).count() <= more {} }).await;
        let answer = daemon.log().into_iter().rfind(|line| line.contains("reloaded")).unwrap();
        if answer.contains("\"reloaded\"") {
            break;
        }
        assert!(answer.contains("not reloaded") && answer.contains("LimitNOFILE"), "{more}: {answer}");
        refused += 1;
    }
    assert!(refused > 1, "at first the configuration could not be read, then the authorities");
    allow_descriptors(daemon.id(), 1024);
    setup.db.insert_leads("acme", 1).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
}

#[tokio::test]
async fn without_threads_for_look_ups_nothing_fails_and_everything_is_sent_when_there_are_some() {
    const LEADS: usize = 20;
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let threadless = Threadless::start(&setup);
    let daemon = &threadless.daemon;
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    threadless.without_threads();
    setup.db.insert_leads("acme", LEADS).await;
    let said = daemon.wait_for_log(|line| line.contains("cannot send")).await;
    assert!(said.contains("no thread can be started") && said.contains("TasksMax"), "{said}");
    assert_eq!(setup.receiver.requests().len(), 0);
    threadless.with_threads();
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(lines(daemon, "cannot send"), 1, "it is said once");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn without_threads_the_database_s_name_is_looked_up_when_there_are_some() {
    let setup = Setup::new().await;
    let (login, name, port) = (&setup.db.daemon_login, &setup.db.name, setup.db.cluster.port());
    let url = format!("postgres://{login}@localhost:{port}/{name}");
    setup.edit_config(&[("database.url", json!(url)), ("database.listen_url", json!(url))]);
    setup.endpoint("acme").await;
    let threadless = Threadless::start(&setup);
    let daemon = &threadless.daemon;
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    threadless.without_threads();
    end_sessions(&setup, &setup.db.admin().await).await;
    let said = daemon.wait_for_log(|line| line.contains("cannot claim") && line.contains("no thread")).await;
    assert!(said.contains("cannot connect to localhost") && said.contains("TasksMax"), "{said}");
    setup.db.insert_leads("acme", 1).await;
    threadless.with_threads();
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn attempts_at_a_name_that_is_being_looked_up_share_the_one_look_up() {
    let name = "survives_shortages::attempts_at_a_name_that_is_being_looked_up_share_the_one_look_up";
    if !INTERNET.is_here(name) {
        return;
    }
    let dns = NameServer::start();
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.connect_timeout", json!("1s"))]);
    let silent = "silent.example.com";
    dns.say(silent, &[Reply::NoSuchName]);
    setup.run(&["endpoint", "set", "acme", "--url", &format!("https://{silent}/hook")]).await.ok();
    setup.run(&["secret", "generate", "acme"]).await.ok();
    dns.say(silent, &[Reply::Silence]);
    setup.db.insert_leads("acme", 40).await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(40).await;
    assert!(rows.iter().all(|row| row.failure.as_deref() == Some("timeout")), "{rows:?}");
    assert_eq!(dns.asked(silent), 1);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn without_local_ports_nothing_fails_and_everything_is_sent_when_there_are_some() {
    const LEADS: usize = 40;
    let name = "survives_shortages::without_local_ports_nothing_fails_and_everything_is_sent_when_there_are_some";
    if !ALONE.is_here(name) {
        return;
    }
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    let app = setup.db.app().await;
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    let all = fs::read_to_string(range).unwrap();
    fs::write(range, "40000 40005").unwrap();
    let insert =
        format!("INSERT INTO leads (tenant_id, email) SELECT 'acme', n || '@b.c' FROM generate_series(1, {LEADS}) n");
    app.batch_execute(&insert).await.unwrap();
    let said = daemon.wait_for_log(|line| line.contains("cannot send")).await;
    assert!(said.contains("no local port is left") && said.contains("ip_local_port_range"), "{said}");
    fs::write(range, all).unwrap();
    gate.open();
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(lines(&daemon, "cannot send"), 1, "it is said once");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn without_a_network_nothing_fails_and_a_receiver_that_nobody_can_reach_from_here_holds_up_nobody() {
    const LEADS: usize = 20;
    let name = "survives_shortages::\
                without_a_network_nothing_fails_and_a_receiver_that_nobody_can_reach_from_here_holds_up_nobody";
    if !ADDRESS.is_here(name) {
        return;
    }
    let receiver = Receiver::start_for(&["hook.example.com"]);
    // No connection is kept: what is sent on one while there is no network may have left.
    receiver.answer(Answer::status(200).header("Connection", "close"));
    let everywhere = Everywhere::before(receiver.port());
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, receiver).await;
    setup.run(&["migrate"]).await.ok();
    setup.edit_config(&[("egress.allow_hosts", json!(["hook.example.com"]))]);
    for (tenant, host) in [("acme", "hook.example.com"), ("six", "six.example.com"), ("lost", "lost.example.com")] {
        let url = format!("https://{host}:{}/hook", everywhere.port);
        setup.run(&["endpoint", "set", tenant, "--url", &url]).await.ok();
        setup.run(&["secret", "generate", tenant]).await.ok();
    }
    let address = |change: &str| {
        assert!(Command::new("ip").args(["address", change, "10.9.0.1/32", "dev", "lo"]).status().unwrap().success());
    };
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    setup.db.insert_leads("six", 1).await;
    setup.db.insert_leads("lost", 1).await;
    let rows = setup.db.wait_for_log(3).await;
    let failure = |tenant: &str| rows.iter().find(|row| row.tenant_id == tenant).unwrap().failure.clone();
    assert_eq!((failure("six").as_deref(), failure("lost").as_deref()), (Some("connect"), Some("dns")));
    assert_eq!(lines(&daemon, "cannot send"), 0, "it is their receivers that are nowhere");
    address("del");
    setup.db.insert_leads("acme", LEADS).await;
    setup.db.insert_leads("lost", 1).await;
    let said = daemon.wait_for_log(|line| line.contains("cannot send")).await;
    assert!(said.contains("no route to any receiver"), "{said}");
    assert_eq!(setup.db.log_rows().await.len(), 3);
    address("add");
    let rows = setup.db.wait_for_log(LEADS + 4).await;
    let delivered = rows.iter().filter(|row| row.status == "delivered").count();
    assert_eq!(delivered, LEADS + 1, "{rows:?}");
    assert_eq!(lines(&daemon, "cannot send"), 1, "it is said once");
    Audit::of(&setup).await.assert_sound();
}

/// Ends the sessions of the daemon's login.
async fn end_sessions(setup: &Setup, admin: &Client) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1";
    admin.query_one(end, &[&setup.db.daemon_login]).await.unwrap();
}

#[tokio::test]
async fn where_the_server_takes_no_more_connections_leads_wait_and_the_operator_is_told() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let (admin, login) = (setup.db.admin().await, &setup.db.daemon_login);
    admin.batch_execute(&format!("ALTER ROLE {login} CONNECTION LIMIT 0")).await.unwrap();
    end_sessions(&setup, &admin).await;
    let said = daemon.wait_for_log(|line| line.contains("cannot claim") && line.contains("too many connections")).await;
    assert!(said.contains("CONNECTION LIMIT") && said.contains("max_connections"), "the remedy: {said}");
    let checked = setup.run(&["check"]).await;
    assert!(checked.stdout.contains("CONNECTION LIMIT"), "{}{}", checked.stdout, checked.stderr);
    setup.db.insert_leads("acme", 5).await;
    admin.batch_execute(&format!("ALTER ROLE {login} CONNECTION LIMIT -1")).await.unwrap();
    let rows = setup.db.wait_for_log(6).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn while_the_database_takes_no_writes_leads_wait_and_the_operator_is_told() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.receiver.wait_for(1).await;
    let (admin, name) = (setup.db.admin().await, &setup.db.name);
    admin.batch_execute(&format!("ALTER DATABASE {name} SET default_transaction_read_only = on")).await.unwrap();
    end_sessions(&setup, &admin).await;
    gate.open();
    let said = daemon.wait_for_log(|line| line.contains("takes no writes")).await;
    assert!(said.contains("default_transaction_read_only"), "the remedy: {said}");
    let app = setup.db.app().await;
    let insert = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'b@example.com')";
    app.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    app.batch_execute(insert).await.unwrap();
    admin.batch_execute(&format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await.unwrap();
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn where_the_servers_disk_is_full_leads_and_outcomes_wait_and_nothing_is_sent_twice() {
    let name = "survives_shortages::\
                where_the_servers_disk_is_full_leads_and_outcomes_wait_and_nothing_is_sent_twice";
    if !DISK.is_here(name) {
        return;
    }
    // What is claimed or written needs room in the log of the server at once.
    let setup = Setup::on(&Cluster::start(&[("fsync", "on"), ("synchronous_commit", "on")])).await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 40).await;
    setup.receiver.wait_for(16).await;
    let ballast = fill_the_disk(&setup.db.app().await).await;
    gate.open();
    let said = daemon.wait_for_log(|line| line.contains("cannot be written to")).await;
    fs::remove_file(ballast).unwrap();
    // One that cannot even write its own log ends.
    match setup.db.try_app().await {
        Some(_) => assert!(said.contains("disk is full: make room there"), "the remedy: {said}"),
        None => setup.db.cluster.start_again().await,
    }
    let rows = setup.db.wait_for_log(40).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

/// Leaves the server's disk without room, so that the application's next writes fail; the file that takes it.
async fn fill_the_disk(app: &Client) -> PathBuf {
    let path = PathBuf::from("/tmp/ballast");
    let mut ballast = File::create(&path).unwrap();
    while ballast.write_all(&[0; 4096]).is_ok() {}
    // What the server had in reserve.
    let write = "CREATE TABLE IF NOT EXISTS junk AS SELECT repeat('x', 100) FROM generate_series(1, 100000)";
    while app.batch_execute(write).await.is_ok() {
        let again = "INSERT INTO junk SELECT repeat('x', 100) FROM generate_series(1, 100000)";
        if app.batch_execute(again).await.is_err() {
            break;
        }
    }
    path
}
