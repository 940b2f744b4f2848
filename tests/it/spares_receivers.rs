//! How many connections a receiver sees.

use serde_json::json;

use crate::harness::{Answer, Connections, Gate, LogRow, Setup};

/// `delivery.per_endpoint`, in each of these tests.
const PER_ENDPOINT: usize = 16;

/// Endpoints of these tenants at one receiver. Nothing times out as long as a test waits.
async fn setup(tenants: &[&str]) -> Setup {
    let setup = Setup::new().await;
    setup.edit_config(&[
        ("delivery.per_endpoint", json!(PER_ENDPOINT)),
        ("delivery.connect_timeout", json!("60s")),
        ("delivery.timeout", json!("60s")),
    ]);
    for tenant in tenants {
        setup.endpoint(tenant).await;
    }
    setup
}

async fn insert_leads(setup: &Setup, tenant: &str, wave: &str, n: usize) {
    let insert =
        "INSERT INTO leads (tenant_id, email) SELECT $1, $2 || i || '@example.com' FROM generate_series(1, $3) i";
    setup.db.app().await.execute(insert, &[&tenant, &wave, &i32::try_from(n).unwrap()]).await.unwrap();
}

fn all_delivered(rows: &[LogRow]) -> bool {
    rows.iter().all(|row| row.status == "delivered")
}

/// A tenth more than were in flight are allowed: the receiver may notice an end after the beginning that followed it.
fn assert_few(connections: Connections, in_flight: usize) {
    assert!(connections.most <= in_flight + in_flight / 10, "{connections:?}");
}

#[tokio::test]
async fn while_some_handshakes_take_long_what_is_open_serves_and_nothing_is_opened_in_vain() {
    const LEADS: usize = 200;
    const QUICK: usize = 4;
    let setup = setup(&["acme"]).await;
    let gate = Gate::closed();
    setup.receiver.hold_handshakes(QUICK..PER_ENDPOINT, &gate);
    setup.receiver.answer(Answer::status(200).body("thank you"));
    insert_leads(&setup, "acme", "a", LEADS).await;
    let _daemon = setup.daemon();
    setup.receiver.wait_for(LEADS - (PER_ENDPOINT - QUICK)).await;
    gate.open();
    let rows = setup.db.wait_for_log(LEADS).await;
    assert!(all_delivered(&rows));
    assert_few(setup.receiver.connections(), PER_ENDPOINT);
}

#[tokio::test]
async fn wave_after_wave_of_several_tenants_shares_the_connections_that_the_first_one_opened() {
    const TENANTS: [&str; 4] = ["acme", "bolt", "core", "dune"];
    const IN_FLIGHT: usize = TENANTS.len() * PER_ENDPOINT;
    let setup = setup(&TENANTS).await;
    let gates = [(); 4].map(|()| Gate::closed());
    for gate in &gates {
        setup.receiver.queue(vec![Answer::status(200).body("thank you").behind(gate); IN_FLIGHT]);
    }
    for tenant in TENANTS {
        insert_leads(&setup, tenant, "a", gates.len() * PER_ENDPOINT).await;
    }
    let _daemon = setup.daemon();
    for (wave, gate) in gates.iter().enumerate() {
        setup.receiver.wait_for((wave + 1) * IN_FLIGHT).await;
        gate.open();
    }
    let rows = setup.db.wait_for_log(gates.len() * IN_FLIGHT).await;
    assert!(all_delivered(&rows));
    assert_few(setup.receiver.connections(), IN_FLIGHT);
}

#[tokio::test]
async fn after_a_receiver_closed_every_connection_sending_goes_on() {
    let setup = setup(&["acme"]).await;
    let gate = Gate::closed();
    // Nothing in the answer says that the connection ends with it.
    let closing = Answer::raw("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").behind(&gate);
    setup.receiver.queue(vec![closing; PER_ENDPOINT]);
    let _daemon = setup.daemon();
    insert_leads(&setup, "acme", "a", PER_ENDPOINT).await;
    setup.receiver.wait_for(PER_ENDPOINT).await;
    gate.open();
    setup.receiver.quiet().await;
    insert_leads(&setup, "acme", "b", 4 * PER_ENDPOINT).await;
    let rows = setup.db.wait_for_log(5 * PER_ENDPOINT).await;
    assert!(all_delivered(&rows));
    let connections = setup.receiver.connections();
    assert!(connections.accepted > PER_ENDPOINT, "{connections:?}");
    assert_few(connections, PER_ENDPOINT);
}
