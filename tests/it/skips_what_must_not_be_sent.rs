//! What is not sent is accounted for: off, removed, muted, too old, gone, unreadable.

use serde_json::json;

use crate::{
    audit::until_server_is_old,
    harness::{Cluster, Database, LogRow, Receiver, Setup},
};

fn words(row: &LogRow) -> (&str, Option<&str>) {
    (row.status.as_str(), row.reason.as_deref().or(row.failure.as_deref()))
}

async fn app(setup: &Setup, sql: &str) {
    setup.db.app().await.batch_execute(sql).await.unwrap();
}

#[tokio::test]
async fn a_tenant_without_an_endpoint_or_without_a_secret_costs_no_row() {
    let setup = Setup::new().await;
    setup.run(&["endpoint", "set", "half", "--url", &setup.receiver.url()]).await.ok();
    setup.db.insert_lead("nobody", "a@example.com").await;
    setup.db.insert_lead("half", "a@example.com").await;
    assert_eq!(setup.db.outbox_count().await, 0);
    setup.endpoint("acme").await;
    setup.db.insert_lead("acme", "a@example.com").await;
    assert_eq!(setup.db.outbox_count().await, 1);
}

#[tokio::test]
async fn what_is_captured_while_the_endpoint_is_off_is_never_sent_and_on_again_needs_nothing_re_entered() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    setup.run(&["endpoint", "disable", "acme"]).await.ok();
    setup.db.insert_lead("acme", "off@example.com").await;
    setup.run(&["endpoint", "enable", "acme"]).await.ok();
    setup.db.insert_lead("acme", "on@example.com").await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    assert_eq!(rows.iter().map(words).filter(|w| *w == ("skipped", Some("disabled"))).count(), 1);
    let requests = setup.receiver.wait_for(1).await;
    assert_eq!(requests[0].json()["email"], "on@example.com");
    requests[0].verify(&secret).unwrap();
}

#[tokio::test]
async fn an_endpoint_that_is_switched_off_or_removed_before_the_claim_gets_nothing() {
    let setup = Setup::new().await;
    for tenant in ["off", "removed"] {
        setup.endpoint(tenant).await;
        setup.db.insert_lead(tenant, "a@example.com").await;
    }
    setup.run(&["endpoint", "disable", "off"]).await.ok();
    setup.run(&["endpoint", "remove", "removed"]).await.ok();
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    let of = |tenant: &str| words(rows.iter().find(|row| row.tenant_id == tenant).unwrap());
    assert_eq!(of("off"), ("skipped", Some("disabled")));
    assert_eq!(of("removed"), ("skipped", Some("no_endpoint")));
    assert!(setup.receiver.requests().is_empty());
}

#[tokio::test]
async fn a_muted_session_sends_nothing_and_its_leads_are_noted() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    app(
        &setup,
        "SET lead_webhook.mute = 'on';
         INSERT INTO leads (tenant_id, email) VALUES ('acme', 'muted1@example.com'), ('acme', 'muted2@example.com');
         INSERT INTO leads (tenant_id, email) VALUES ('acme', NULL);
         UPDATE leads SET email = 'muted3@example.com' WHERE email IS NULL;
         SET lead_webhook.mute = 'off';
         INSERT INTO leads (tenant_id, email) VALUES ('acme', 'heard@example.com')",
    )
    .await;
    let _daemon = setup.daemon();
    setup.db.wait_for_log(1).await;
    assert_eq!(setup.receiver.requests()[0].json()["email"], "heard@example.com");
    let muted: i64 =
        setup.db.admin().await.query_one("SELECT count(*) FROM lead_webhook.muted", &[]).await.unwrap().get(0);
    assert_eq!(muted, 3);
}

#[tokio::test]
async fn a_session_in_replica_mode_fires_nothing() {
    let setup = Setup::new().await;
    setup.leaves_leads_unaccounted();
    setup.endpoint("acme").await;
    let admin = setup.db.admin().await;
    admin
        .batch_execute(
            "SET session_replication_role = replica;
             INSERT INTO leads (tenant_id, email) VALUES ('acme', 'restored@example.com')",
        )
        .await
        .unwrap();
    assert_eq!(setup.db.outbox_count().await, 0);
}

#[tokio::test]
async fn an_event_older_than_max_age_is_skipped_as_expired() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup.db.insert_lead("acme", "old@example.com").await;
    let admin = setup.db.admin().await;
    admin.batch_execute("UPDATE lead_webhook.outbox SET queued_at = queued_at - interval '73 hours'").await.unwrap();
    setup.db.insert_lead("acme", "new@example.com").await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    assert_eq!(rows.iter().map(words).filter(|w| *w == ("skipped", Some("expired"))).count(), 1);
    assert_eq!(setup.receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_lead_that_was_deleted_before_the_claim_is_gone() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup.db.insert_lead("acme", "deleted@example.com").await;
    app(&setup, "DELETE FROM leads").await;
    setup.db.insert_lead("acme", "kept@example.com").await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    assert_eq!(rows.iter().map(words).filter(|w| *w == ("skipped", Some("gone"))).count(), 1);
    assert_eq!(setup.receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_lead_that_was_gone_before_it_could_be_read_is_sent_when_it_is_there_again() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let insert = "INSERT INTO leads (id, tenant_id, email)
                  VALUES ('3a7d2f3e-4b0c-4d57-9f5f-0a5f0c1d2e3f', 'acme', 'ann@example.com')";
    app(&setup, &format!("{insert}; DELETE FROM leads")).await;
    let _daemon = setup.daemon();
    assert_eq!(words(&setup.db.wait_for_log(1).await[0]), ("skipped", Some("gone")));
    app(&setup, insert).await;
    assert_eq!(words(&setup.db.wait_for_log(2).await[1]), ("delivered", None));
}

#[tokio::test]
async fn a_row_that_moves_is_not_sent_where_it_was_muted_or_captured_while_its_endpoint_was_off() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let insert = |n: u8| {
        format!(
            "INSERT INTO leads (id, tenant_id, email) VALUES ('00000000-0000-4000-8000-{n:012}', 'acme', '{n}@example.com')"
        )
    };
    app(&setup, &format!("SET lead_webhook.mute = 'on'; {}", insert(1))).await;
    setup.run(&["endpoint", "disable", "acme"]).await.ok();
    app(&setup, &insert(2)).await;
    setup.run(&["endpoint", "enable", "acme"]).await.ok();
    app(&setup, &format!("DELETE FROM leads; {}; {}", insert(1), insert(2))).await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(3).await;
    let mut outcomes: Vec<_> = rows.iter().map(words).collect();
    outcomes.sort_unstable();
    let [duplicate, disabled] = ["duplicate", "disabled"].map(|reason| ("skipped", Some(reason)));
    assert_eq!(outcomes, [disabled, duplicate, duplicate]);
}

#[tokio::test]
async fn blanks_of_any_kind_are_no_contact_and_what_comes_in_their_place_is_one() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    app(
        &setup,
        "INSERT INTO leads (tenant_id, email, phone)
         SELECT 'acme', blank, blank FROM unnest(ARRAY[E'\\u00a0', E'\\u3000 \\u2003\\t', E'\\u202f\\r\\n', E'\\u0085\\u2028\\u2029', ' ', '']) AS blank",
    )
    .await;
    let queued = "SELECT count(*) FROM lead_webhook.outbox";
    assert_eq!(setup.db.admin().await.query_one(queued, &[]).await.unwrap().get::<_, i64>(0), 0);
    app(&setup, "UPDATE leads SET phone = phone || '1' || phone").await;
    let _daemon = setup.daemon();
    assert!(setup.db.wait_for_log(6).await.iter().all(|row| row.status == "delivered"));
}

#[tokio::test]
async fn one_lead_whose_mapping_fails_holds_no_other_up() {
    let leads =
        "CREATE TABLE leads (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text, email text, seen text)";
    let setup = Setup::prepare(Database::create_with(&Cluster::shared(), leads).await, Receiver::start()).await;
    setup.edit_config(&[
        ("leads.columns.tenant_id", json!("tenant")),
        ("leads.columns.phone", json!("sql: lead.seen::jsonb->>'phone'")),
        ("leads.columns.first_name", json!("sql: (1 / (lead.email <> 'broken@example.com')::int)::text")),
        // What these raise for a value, others raise for the table, and it quotes the value.
        (
            "leads.columns.conversation_id",
            json!("sql: CASE lead.seen WHEN '0' THEN lead.email::tsquery::text WHEN '1' THEN lead.email::regrole::text END"),
        ),
        ("leads.columns.visitor_id", json!("")),
        ("leads.columns.captured_at", json!("")),
        ("leads.columns.last_conversation_at", json!("")),
    ]);
    setup.run(&["migrate"]).await.ok();
    setup.endpoint("acme").await;
    app(
        &setup,
        "INSERT INTO leads (tenant, email) SELECT 'acme', n || '@example.com' FROM generate_series(1, 10) n;
         INSERT INTO leads (tenant, email) VALUES ('acme', 'broken@example.com');
         INSERT INTO leads (tenant, email, seen) VALUES ('acme', 'no query@example.com', '0'), ('acme', 'role@example.com', '1');
         ALTER TABLE leads DISABLE TRIGGER lead_webhook_update;
         INSERT INTO leads (tenant, email) VALUES ('acme', 'deep@example.com');
         UPDATE leads SET seen = repeat('[', 100000) WHERE email = 'deep@example.com';
         INSERT INTO leads (tenant, email) SELECT 'acme', n || '@example.com' FROM generate_series(11, 20) n",
    )
    .await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(24).await;
    let broken: Vec<&LogRow> = rows.iter().filter(|row| row.status != "delivered").collect();
    assert_eq!(broken.len(), 4);
    for row in broken {
        assert_eq!(words(row), ("failed", Some("lead")));
        assert!(!row.error.as_deref().unwrap().contains("@example.com"));
    }
    assert_eq!(setup.receiver.requests().len(), 20);
}

#[tokio::test]
async fn a_lead_that_cannot_be_read_fails_no_other_tenants_lead_of_the_same_id() {
    let leads = "CREATE TABLE leads (id int, tenant text, email text, PRIMARY KEY (tenant, id))";
    let setup = Setup::prepare(Database::create_with(&Cluster::shared(), leads).await, Receiver::start()).await;
    setup.edit_config(&[
        ("leads.columns.tenant_id", json!("tenant")),
        ("leads.columns.phone", json!("")),
        ("leads.columns.first_name", json!("sql: (1 / (lead.email <> 'broken@example.com')::int)::text")),
        ("leads.columns.visitor_id", json!("")),
        ("leads.columns.conversation_id", json!("")),
        ("leads.columns.captured_at", json!("")),
        ("leads.columns.last_conversation_at", json!("")),
    ]);
    setup.run(&["migrate"]).await.ok();
    setup.endpoint("acme").await;
    setup.endpoint("bolt").await;
    app(&setup, "INSERT INTO leads VALUES (1, 'acme', 'ann@example.com'), (1, 'bolt', 'broken@example.com')").await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    for row in &rows {
        let expected = if row.tenant_id == "acme" { ("delivered", None) } else { ("failed", Some("lead")) };
        assert_eq!(words(row), expected);
    }
}

#[tokio::test]
async fn a_time_beyond_what_can_be_written_and_an_id_beyond_measure_hold_no_other_up() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    app(
        &setup,
        "INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'far@example.com', '20000-01-01Z');
         UPDATE leads SET last_conversation_at = '20001-01-01Z';
         UPDATE leads SET last_conversation_at = now()",
    )
    .await;
    setup.db.insert_lead("acme", "near@example.com").await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(3).await;
    assert!(rows.iter().all(|row| row.status == "delivered" || row.reason.is_some()), "{rows:?}");
    assert!(setup.receiver.requests().iter().any(|request| request.json()["email"] == "near@example.com"));
}

#[tokio::test]
async fn a_time_beyond_what_can_be_written_is_absent_from_what_a_dead_daemon_leaves() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    app(
        &setup,
        "INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'far@example.com', '20000-01-01Z');
         UPDATE leads SET last_conversation_at = '20001-01-01Z'",
    )
    .await;
    let dies = "UPDATE lead_webhook.outbox SET event = 'lead.re_engaged', claimed_by = gen_random_uuid(),
                    claimed_at = now() - interval '1 hour', delivery_id = gen_random_uuid() WHERE kind = 'came_back'";
    let admin = setup.db.admin().await;
    admin.batch_execute(dies).await.unwrap();
    until_server_is_old(&admin).await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().any(|row| row.status == "interrupted"), "{rows:?}");
    let listed = setup.run(&["deliveries", "list", "--json"]).await.ok().stdout;
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

#[tokio::test]
async fn a_value_beyond_measure_fails_its_lead_and_holds_no_other_up() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    app(
        &setup,
        "INSERT INTO leads (tenant_id, email) VALUES
             ('acme', repeat('x', 262144)), ('acme', repeat('ü', 131073)), ('acme', 'ann@example.com')",
    )
    .await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(3).await;
    let mut outcomes: Vec<_> = rows.iter().map(|row| (words(row), row.error.as_deref())).collect();
    outcomes.sort_unstable();
    let too_long = (("failed", Some("lead")), Some("a mapped value has more than 262144 bytes"));
    assert_eq!(outcomes, [(("delivered", None), None), (("delivered", None), None), too_long]);
}

#[tokio::test]
async fn an_event_that_is_logged_already_holds_no_other_up() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    setup.db.insert_lead("acme", "ann@example.com").await;
    let daemon = setup.daemon();
    setup.db.wait_for_log(1).await;
    drop(daemon);
    // As a fail-over may leave it: the log has the event, the outbox too, and its lead is gone.
    let admin = setup.db.admin().await;
    let again = "DELETE FROM leads;
                 INSERT INTO lead_webhook.outbox (tenant_id, queued_at, event_id, lead_id, kind, was_enabled)
                 SELECT tenant_id, queued_at, event_id, lead_id, 'inserted', true FROM lead_webhook.deliveries";
    admin.batch_execute(again).await.unwrap();
    setup.db.insert_lead("acme", "bob@example.com").await;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    let left = "SELECT count(*) FROM lead_webhook.outbox";
    assert_eq!(admin.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn an_id_that_no_index_takes_is_marked_as_missed_and_the_write_goes_on() {
    let leads = "CREATE TABLE leads (id text PRIMARY KEY, tenant_id text, email text, phone text, first_name text,
                 visitor_id text, conversation_id text, created_at timestamptz DEFAULT now(), last_conversation_at timestamptz)";
    let setup = Setup::prepare(Database::create_with(&Cluster::shared(), leads).await, Receiver::start()).await;
    setup.run(&["migrate"]).await.ok();
    setup.leaves_leads_unaccounted();
    setup.endpoint("acme").await;
    app(&setup, "INSERT INTO leads (id, tenant_id, email) VALUES (repeat('x', 600), 'acme', 'long@example.com')").await;
    app(&setup, "INSERT INTO leads (id, tenant_id, email) VALUES ('short', 'acme', 'short@example.com')").await;
    let _daemon = setup.daemon();
    assert_eq!(setup.db.wait_for_log(1).await[0].lead_id, "short");
    let missed = "SELECT is_called FROM lead_webhook.missed";
    assert!(setup.db.admin().await.query_one(missed, &[]).await.unwrap().get::<_, bool>(0));
}
