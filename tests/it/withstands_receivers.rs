//! Whatever a receiver does, it gets one request at most, its outcome is in the log when its limit is over, and it takes
//! nothing from others.

mod cases;
mod hostile;

use std::{collections::HashSet, fs};

use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Duration, sleep, timeout},
};

use self::{
    cases::{BOMB, Case, Expected, KEPT, Limit, cases, say, worst},
    hostile::{Hostile, Seen, Step},
};
use crate::{
    audit::Audit,
    harness::{Answer, Gate, Identity, LogRow, Process, Setup, patiently},
};

/// The longest answer that is read, in bytes.
const MOST_READ: i64 = 16 * 1024;

/// What a flood may have written when it is cut off: an answer's head and beginning, and what sockets hold.
const MOST_FLOODED: usize = 8 * 1024 * 1024;

/// Makes an installation that trusts these authorities, beside the ordinary receiver's.
async fn trusting(authorities: &str) -> Setup {
    let setup = Setup::new().await;
    let file = setup.path("authorities.pem");
    fs::write(&file, fs::read_to_string(setup.receiver.ca_file()).unwrap() + authorities).unwrap();
    // What is expected to end by itself is not to be ended by a limit: none is below what a test waits.
    setup.edit_config(&[
        ("egress.ca_file", json!(file)),
        ("delivery.connect_timeout", json!("60s")),
        ("delivery.timeout", json!("60s")),
    ]);
    setup
}

/// Makes the tenant an endpoint at this port.
async fn endpoint(setup: &Setup, tenant: &str, port: u16, timeout: impl AsRef<str>) {
    let url = format!("https://localhost:{port}/hook");
    setup.run(&["endpoint", "set", tenant, "--url", &url, "--timeout", timeout.as_ref()]).await.ok();
    setup.run(&["secret", "generate", tenant]).await.ok();
}

/// Waits until the daemon has no connection to any of these ports, whatever the receiver thinks of that.
async fn until_let_go(ports: &HashSet<u16>) {
    patiently("the end of the daemon's connections", async {
        while fs::read_to_string("/proc/net/tcp").unwrap().lines().any(|line| is_connected_to(line, ports)) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Whether this line of the kernel's table is of an established connection whose far end has one of the ports.
fn is_connected_to(line: &str, ports: &HashSet<u16>) -> bool {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let port = columns[2].split_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    columns[3] == "01" && port.is_some_and(|port| ports.contains(&port))
}

fn words(row: &LogRow) -> (&str, Option<&str>, Option<i16>) {
    (row.status.as_str(), row.failure.as_deref(), row.http_status)
}

/// What does not fit of a case; empty where all does.
fn faults(case: &Case, row: &LogRow) -> Vec<String> {
    let Expected { status, failure, http_status, words: said } = case.expected;
    let error = row.error.as_deref().unwrap_or_default();
    let (outcome, seen) = (words(row), case.hostile.seen());
    let as_expected = outcome == (status, failure, http_status) && error.contains(said);
    let cut_off = case.limit != Limit::None || seen.flooded < MOST_FLOODED;
    let sound = as_expected && cut_off && seen.connections == 1 && seen.requests <= 1;
    let fault = (!sound).then(|| format!("{}: {outcome:?} {error}, {seen:?}", case.name));
    fault.into_iter().collect()
}

#[tokio::test]
async fn each_kind_of_trouble_has_its_outcome_after_one_connection_and_one_request_at_most() {
    let (cases, authorities) = cases();
    let setup = trusting(&authorities).await;
    join_all(cases.iter().map(|case| endpoint(&setup, case.name, case.hostile.port(), case.timeout()))).await;
    let _daemon = setup.daemon();
    let insert = "INSERT INTO leads (tenant_id, email, phone, conversation_id)
                  SELECT name, 'ann@example.com', repeat('x', size), repeat('x', size)
                  FROM unnest($1::text[], $2::integer[]) AS t (name, size)";
    let names: Vec<&str> = cases.iter().map(|case| case.name).collect();
    let sizes: Vec<i32> = cases.iter().map(|case| case.size).collect();
    setup.db.app().await.execute(insert, &[&names, &sizes]).await.unwrap();
    let rows = setup.db.wait_for_log(cases.len()).await;
    assert_eq!(rows.len(), cases.len());
    let row_of = |case: &Case| rows.iter().find(|row| row.tenant_id == case.name).unwrap();
    let faults: Vec<String> = cases.iter().flat_map(|case| faults(case, row_of(case))).collect();
    assert!(faults.is_empty(), "{faults:#?}");
    // Where much of a request was never read, only the kernel gives up, after the HTTP library's half minute.
    let small = cases.iter().filter(|case| case.size == 1);
    until_let_go(&small.map(|case| case.hostile.port()).collect()).await;
    assert_eq!(setup.db.log_rows().await, rows);
    let longest = "SELECT max(response_length) FROM lead_webhook.deliveries";
    let longest: i64 = setup.db.admin().await.query_one(longest, &[]).await.unwrap().get(0);
    assert_eq!(longest, MOST_READ);
}

#[tokio::test]
async fn an_answer_is_never_decompressed() {
    // A million zero bytes in gzip.
    const END: &[u8] = b"\xaf\x06\x9e\xcby\x12@B\x0f\0";
    let bomb = [BOMB, &[0; 968], END].concat();
    let setup = Setup::new().await;
    setup.edit_config(&[("log.response_excerpt", json!(true))]);
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    for (n, status) in [(1, 200), (2, 400)] {
        let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Encoding: gzip\r\n\r\n");
        setup.receiver.answer(Answer::raw([head.as_bytes(), &bomb].concat()));
        setup.db.insert_lead("acme", &format!("ann{n}@example.com")).await;
        assert_eq!(setup.db.wait_for_log(n).await[n - 1].http_status, Some(status));
    }
    let read = "SELECT bool_and(response_length = $1), count(response_excerpt) FROM lead_webhook.deliveries";
    let length = i64::try_from(bomb.len()).unwrap();
    let read = setup.db.admin().await.query_one(read, &[&length]).await.unwrap();
    assert_eq!((read.get::<_, bool>(0), read.get::<_, i64>(1)), (true, 0));
    assert!(setup.receiver.requests()[0].header("accept-encoding").is_none());
}

/// Sends two leads to a receiver with this script, the second when the first has ended; their log rows.
async fn one_after_the_other(script: Vec<Step>) -> (Vec<LogRow>, Seen) {
    let identity = Identity::of(&["localhost"]);
    let setup = trusting(&identity.ca).await;
    setup.edit_config(&[("delivery.per_endpoint", json!(1))]);
    let hostile = Hostile::tls(identity.acceptor(), script);
    endpoint(&setup, "acme", hostile.port(), "60s").await;
    let insert = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a@example.com'), ('acme', 'b@example.com')";
    setup.db.app().await.batch_execute(insert).await.unwrap();
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    (rows, hostile.seen())
}

#[tokio::test]
async fn a_kept_connection_that_breaks_on_the_next_request_fails_that_one_and_nothing_is_sent_twice() {
    let broken_on_the_second = |ending: &[Step]| [&[Step::Request, say(KEPT)], ending].concat();
    let runs = [vec![Step::Beginning, Step::Reset], vec![Step::Beginning], vec![Step::Request]];
    for (rows, seen) in join_all(runs.map(|ending| one_after_the_other(broken_on_the_second(&ending)))).await {
        let outcomes: Vec<_> = rows.iter().map(|row| (row.status.as_str(), row.failure.as_deref())).collect();
        assert_eq!(outcomes, [("delivered", None), ("failed", Some("protocol"))]);
        assert_eq!((seen.connections, seen.requests), (1, 2));
    }
}

#[tokio::test]
async fn what_comes_behind_an_answer_is_never_taken_for_the_next_one() {
    let forged = "HTTP/1.1 500 Forged\r\nContent-Length: 0\r\n\r\n";
    for first in [
        format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{forged}", forged.len()),
        format!("{KEPT}{forged}"),
    ] {
        let (rows, seen) = one_after_the_other(vec![Step::Request, say(first), Step::Hold]).await;
        assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:#?}");
        assert_eq!((seen.connections, seen.requests), (2, 2));
    }
}

#[tokio::test]
async fn where_connections_close_as_the_next_request_sets_out_each_lead_is_sent_once_at_most() {
    const LEADS: usize = 200;
    const PER_ENDPOINT: usize = 2;
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.per_endpoint", json!(PER_ENDPOINT))]);
    setup.endpoint("acme").await;
    // Nothing in the answer says that the connection ends with it.
    setup.receiver.answer(Answer::raw(KEPT));
    let insert = format!(
        "INSERT INTO leads (tenant_id, email) SELECT 'acme', i || '@example.com' FROM generate_series(1, {LEADS}) i"
    );
    setup.db.app().await.batch_execute(&insert).await.unwrap();
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(LEADS).await;
    for row in &rows {
        let words = (row.status.as_str(), row.failure.as_deref());
        assert!(matches!(words, ("delivered", None) | ("failed", Some("protocol"))), "{words:?}");
    }
    let lost = rows.iter().filter(|row| row.status == "failed").count();
    assert!(lost <= PER_ENDPOINT, "it is learnt from: {lost} of {LEADS} are lost");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn an_answer_is_awaited_as_long_as_the_limit_allows_and_a_full_backlog_no_longer() {
    let setup = Setup::new().await;
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    // Who comes when all places are taken hears nothing at all.
    let mut guests = Vec::new();
    while let Ok(guest) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        guests.push(guest.unwrap());
    }
    endpoint(&setup, "full", address.port(), "1s").await;
    setup.run(&["endpoint", "set", "slow", "--url", &setup.receiver.url(), "--timeout", "60s"]).await.ok();
    setup.run(&["secret", "generate", "slow"]).await.ok();
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let _daemon = setup.daemon();
    setup.db.insert_lead("slow", "ann@example.com").await;
    setup.receiver.wait_for(1).await;
    setup.db.insert_lead("full", "ann@example.com").await;
    let first = setup.db.wait_for_log(1).await.remove(0);
    assert_eq!((first.tenant_id.as_str(), first.failure.as_deref()), ("full", Some("timeout")), "{:?}", first.error);
    gate.open();
    let second = setup.db.wait_for_log(2).await.remove(1);
    assert_eq!((second.tenant_id.as_str(), second.status.as_str()), ("slow", "delivered"));
}

/// The most memory that the process has had since the last call, in KiB.
fn peak_since_last_asked(daemon: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    fs::write(format!("/proc/{}/clear_refs", daemon.id()), "5").unwrap();
    peak.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn insert_leads(setup: &Setup, tenants: &[&str], wave: &str, each: usize) {
    let insert = "INSERT INTO leads (tenant_id, email)
                  SELECT tenant, $2 || i || '@example.com' FROM unnest($1::text[]) tenant, generate_series(1, $3) i";
    setup.db.app().await.execute(insert, &[&tenants, &wave, &i32::try_from(each).unwrap()]).await.unwrap();
}

#[tokio::test]
async fn sixty_four_of_the_worst_at_once_take_no_more_memory_than_ordinary_ones_and_others_go_on() {
    const EACH: usize = 8;
    const ORDINARY: usize = 64;
    let identity = Identity::of(&["localhost"]);
    let setup = trusting(&identity.ca).await;
    setup.edit_config(&[("delivery.per_endpoint", json!(ORDINARY))]);
    let worst = worst(&identity.acceptor());
    join_all(worst.iter().map(|case| endpoint(&setup, case.name, case.hostile.port(), case.timeout()))).await;
    setup.endpoint("good").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).body([b'x'; 16 * 1024]).behind(&gate));
    let daemon = setup.daemon();
    insert_leads(&setup, &["good"], "before", ORDINARY).await;
    setup.receiver.wait_for(ORDINARY).await;
    gate.open();
    setup.db.wait_for_log(ORDINARY).await;
    let ordinary = peak_since_last_asked(&daemon);
    let tenants: Vec<&str> = worst.iter().map(|case| case.name).collect();
    assert_eq!(tenants.len() * EACH, ORDINARY);
    insert_leads(&setup, &tenants, "worst", EACH).await;
    for case in &worst {
        case.hostile.until(case.name, |seen| seen.connections == EACH).await;
    }
    insert_leads(&setup, &["good"], "meanwhile", ORDINARY).await;
    let rows = setup.db.wait_for_log(3 * ORDINARY).await;
    let peak = peak_since_last_asked(&daemon);
    assert!(peak < 2 * ordinary, "{peak} KiB after {ordinary} KiB");
    for case in &worst {
        let outcomes: Vec<_> = rows.iter().filter(|row| row.tenant_id == case.name).map(words).collect();
        assert_eq!(
            outcomes,
            [(case.expected.status, case.expected.failure, case.expected.http_status); EACH],
            "{}",
            case.name
        );
        assert_eq!(case.hostile.seen().connections, EACH, "{}", case.name);
    }
    let good: Vec<&LogRow> = rows.iter().filter(|row| row.tenant_id == "good").collect();
    assert!(good.iter().all(|row| row.status == "delivered") && good.len() == 2 * ORDINARY);
    assert_eq!(setup.receiver.requests().len(), 2 * ORDINARY);
    // It did not wait for the others to end: those that say nothing have more time than the others.
    let last_of_worst = rows.iter().rfind(|row| row.tenant_id != "good").unwrap();
    assert!(good[ORDINARY].finished_at < last_of_worst.finished_at);
}
