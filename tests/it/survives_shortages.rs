//! What the machine or the server lacks stops the daemon for as long as it is lacking, and costs no lead.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::Command,
};

use tokio_postgres::Client;

use crate::{
    audit::Audit,
    harness::{Answer, Cluster, Gate, Process, Setup},
    own_world::World,
};

/// So small that it is soon full.
const DISK: World = World {
    what: "a disk of its own",
    namespaces: &["--mount"],
    make: "mount -t tmpfs -o size=150m tmpfs /tmp",
    files: &[],
};

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

/// The process gets so many KiB of addresses beside what it has; `None`: as many as it likes.
fn allow_memory(process: u32, more: Option<u64>) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let size: u64 = size.trim().trim_end_matches(" kB").parse().unwrap();
    let limit = more.map_or_else(|| "unlimited".to_owned(), |more| ((size + more) * 1024).to_string());
    let status = Command::new("prlimit").args(["--pid", &process.to_string(), &format!("--as={limit}:")]).status();
    assert!(status.unwrap().success());
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
    allow_descriptors(daemon.id(), next_descriptor(daemon.id()) + 3);
    setup.db.insert_leads("acme", LEADS).await;
    let rows = setup.db.wait_for_log(LEADS + 1).await;
    let other: Vec<_> = rows.iter().filter(|row| row.status != "delivered").collect();
    assert!(other.is_empty(), "{other:?}");
    assert_eq!(lines(&daemon, "cannot send"), 1, "it is said once");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn without_threads_for_look_ups_nothing_fails_and_everything_is_sent_when_there_are_some() {
    const LEADS: usize = 20;
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    // No room for a thread's stack.
    allow_memory(daemon.id(), Some(1024));
    setup.db.insert_leads("acme", LEADS).await;
    let said = daemon.wait_for_log(|line| line.contains("cannot send")).await;
    assert!(said.contains("no thread can be started") && said.contains("TasksMax"), "{said}");
    assert_eq!(setup.receiver.requests().len(), 0);
    allow_memory(daemon.id(), None);
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
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
