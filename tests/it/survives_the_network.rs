//! A server that is frozen, lost or replaced holds nothing up for longer than its limit, and costs no lead.

use std::process::Command;

use serde_json::json;
use tokio_postgres::Client;

use crate::{
    audit::Audit,
    harness::{Answer, Cluster, Gate, Setup, Stop, patiently, signal},
    own_world::{Everywhere, World},
};

/// Server and receiver stand here at 10.9.0.1; the daemon stands behind a cable, in the network that is called `far`.
const CABLE: World = World {
    what: "networks of its own",
    namespaces: &["--net", "--mount"],
    make: "ip link set lo up && mount -t tmpfs tmpfs /run && mkdir /run/netns && ip netns add far &&
        ip link add near type veth peer name far netns far && ip address add 10.9.0.1/24 dev near && ip link set near up &&
        ip -n far address add 10.9.0.2/24 dev far && ip -n far link set far up && ip -n far link set lo up &&
        mount --bind \"$1/hosts\" /etc/hosts",
    files: &[("hosts", "10.9.0.1 localhost\n")],
};

fn cable(state: &str) {
    let done = Command::new("ip").args(["link", "set", "near", state]).status().unwrap();
    assert!(done.success(), "ip link set near {state}: {done}");
}

/// The server's process that serves the daemon's session whose latest statement begins so.
async fn backend(admin: &Client, statement: &str) -> u32 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '-- ' || $1 || '%'";
    patiently("a session of the daemon's", async {
        loop {
            if let Some(row) = admin.query_opt(sql, &[&statement]).await.unwrap() {
                return u32::try_from(row.get::<_, i32>(0)).unwrap();
            }
        }
    })
    .await
}

/// Waits until the server has ended a session.
async fn until_gone(admin: &Client, backend: u32) {
    let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";
    let backend = i32::try_from(backend).unwrap();
    patiently("the session's end", async {
        while admin.query_one(sql, &[&backend]).await.unwrap().get::<_, bool>(0) {}
    })
    .await;
}

#[tokio::test]
async fn a_session_that_the_server_does_not_answer_is_given_up_and_ended_and_outcomes_are_written_by_another() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 3).await;
    setup.receiver.wait_for(3).await;
    let admin = setup.db.admin().await;
    let frozen = backend(&admin, "instances::").await;
    signal(frozen, "STOP");
    gate.open();
    daemon
        .wait_for_log(|line| line.contains("cannot be written to") && line.contains("has not answered for 15 s"))
        .await;
    let rows = setup.db.wait_for_log(3).await;
    signal(frozen, "CONT");
    until_gone(&admin, frozen).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_daemon_that_may_reach_several_servers_works_with_the_one_that_takes_writes() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (login, name, port) = (&setup.db.daemon_login, &setup.db.name, setup.db.cluster.port());
    let url = format!("postgres://{login}@127.0.0.1:{nobody},127.0.0.1:{port}/{name}?target_session_attrs=read-write");
    setup.edit_config(&[("database.url", json!(url)), ("database.listen_url", json!(url))]);
    setup.endpoint("acme").await;
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    let cluster = &setup.db.cluster;
    cluster.stop(Stop::Fast).await;
    cluster.copy_to_standby().await;
    cluster.start_again().await;
    cluster.fail_over().await;
    daemon.wait_for_log(|line| line.contains("cannot claim") && line.contains("does not allow writes")).await;
    setup.db.admin().await.execute("SELECT pg_promote()", &[]).await.unwrap();
    setup.db.insert_leads("acme", 2).await;
    let rows = setup.db.wait_for_log(3).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_server_that_takes_connections_and_says_nothing_keeps_nobody_from_the_next() {
    let setup = Setup::new().await;
    // The system takes the connection; nobody ever answers.
    let frozen = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (login, name, port) = (&setup.db.daemon_login, &setup.db.name, setup.db.cluster.port());
    let first = frozen.local_addr().unwrap().port();
    let url = format!("postgres://{login}@127.0.0.1:{first},127.0.0.1:{port}/{name}");
    setup.endpoint("acme").await;
    setup.edit_config(&[("database.url", json!(url)), ("database.listen_url", json!(url))]);
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
}

/// A setup whose daemon reaches server and receiver by the cable alone.
async fn across_the_cable() -> Setup {
    let setup = Setup::on(&Cluster::start(&[("listen_addresses", "'127.0.0.1,10.9.0.1'")])).await;
    setup.db.cluster.allow("10.9.0.0/24").await;
    let everywhere = Everywhere::before(setup.receiver.port());
    setup.edit_config(&[
        ("egress.allow_networks", json!(["10.9.0.0/24"])),
        ("delivery.timeout", json!("3s")),
        ("delivery.connect_timeout", json!("1s")),
    ]);
    setup.endpoint("acme").await;
    let url = format!("https://localhost:{}/hook", everywhere.port);
    setup.run(&["endpoint", "set", "acme", "--url", &url]).await.ok();
    let (login, name, port) = (&setup.db.daemon_login, &setup.db.name, setup.db.cluster.port());
    let database = format!("postgres://{login}@10.9.0.1:{port}/{name}");
    setup.edit_config(&[("database.url", json!(database)), ("database.listen_url", json!(database))]);
    setup
}

#[tokio::test]
async fn a_session_that_listens_notices_by_itself_that_its_network_was_lost() {
    let name = "survives_the_network::a_session_that_listens_notices_by_itself_that_its_network_was_lost";
    if !CABLE.is_here(name) {
        return;
    }
    let setup = across_the_cable().await;
    let (login, name, port) = (&setup.db.daemon_login, &setup.db.name, setup.db.cluster.port());
    // As by default, but so quick that no other session notices anything.
    let impatient = "keepalives_idle=1&keepalives_interval=1&tcp_user_timeout=3";
    setup.edit_config(&[
        ("database.listen_url", json!(format!("postgres://{login}@10.9.0.1:{port}/{name}?{impatient}"))),
        ("database.poll_interval", json!("1h")),
    ]);
    let daemon = setup.daemon_by(&["ip", "netns", "exec", "far"]);
    daemon.wait_for_log(|line| line.contains("\"listening\"")).await;
    cable("down");
    daemon.wait_for_log(|line| line.contains("not listening, trying again")).await;
    cable("up");
    let again = async {
        while daemon.log().iter().filter(|line| line.contains("\"listening\"")).count() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    patiently("a session that listens", again).await;
    setup.db.insert_leads("acme", 1).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_daemon_whose_network_is_lost_says_so_and_goes_on_when_it_is_back() {
    let name = "survives_the_network::a_daemon_whose_network_is_lost_says_so_and_goes_on_when_it_is_back";
    if !CABLE.is_here(name) {
        return;
    }
    let setup = across_the_cable().await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon_by(&["ip", "netns", "exec", "far"]);
    setup.db.insert_leads("acme", 2).await;
    setup.receiver.wait_for(2).await;
    cable("down");
    gate.open();
    setup.db.insert_leads("acme", 3).await;
    daemon.wait_for_log(|line| line.contains("no answer within 3 s")).await;
    daemon.wait_for_log(|line| line.contains("cannot be written to")).await;
    assert_eq!(setup.receiver.requests().len(), 2);
    cable("up");
    let rows = setup.db.wait_for_log(5).await;
    let count = |status: &str| rows.iter().filter(|row| row.status == status).count();
    assert_eq!((count("delivered"), count("failed")), (3, 2), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 5);
    Audit::of(&setup).await.assert_sound();
}
