//! What the machine or the server lacks stops the daemon for as long as it is lacking, and costs no lead.

use std::{collections::HashSet, fs, process::Command};

use crate::{
    audit::Audit,
    harness::{Answer, Gate, Process, Setup},
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
