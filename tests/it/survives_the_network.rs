//! A server that is frozen, lost or replaced holds nothing up for longer than its limit, and costs no lead.

use serde_json::json;
use tokio_postgres::Client;

use crate::{
    audit::Audit,
    harness::{Answer, Cluster, Gate, Process, Setup, Stop, patiently, signal},
};

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
