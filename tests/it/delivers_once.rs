//! Each lead that is new, or that comes back, is one request and one log row, whichever way it was written.

use std::collections::HashSet;

use serde_json::json;
use tokio_postgres::types::ToSql;

use crate::harness::{Cluster, Database, LogRow, Receiver, Request, Setup, until_true};

/// An installation with one endpoint for tenant `acme`, and a daemon that runs.
struct Story {
    setup: Setup,
    secret: String,
    _daemon: crate::harness::Process,
}

impl Story {
    async fn begin() -> Self {
        Self::with(Setup::new().await).await
    }

    async fn with(setup: Setup) -> Self {
        let secret = setup.endpoint("acme").await;
        let daemon = setup.daemon();
        Self { setup, secret, _daemon: daemon }
    }

    /// Runs SQL as the application.
    async fn app(&self, sql: &str) {
        self.setup.db.app().await.batch_execute(sql).await.unwrap();
    }

    /// The log once it has `n` rows, and the requests by then, each with good signatures.
    async fn after(&self, n: usize) -> (Vec<LogRow>, Vec<Request>) {
        let rows = self.setup.db.wait_for_log(n).await;
        let requests = self.setup.receiver.requests();
        for request in &requests {
            request.verify(&self.secret).unwrap();
        }
        assert_eq!(rows.len(), n);
        (rows, requests)
    }
}

fn words(rows: &[LogRow]) -> Vec<(&str, &str, Option<&str>)> {
    rows.iter().map(|row| (row.event.as_str(), row.status.as_str(), row.reason.as_deref())).collect()
}

const CREATED: (&str, &str, Option<&str>) = ("lead.created", "delivered", None);
const RE_ENGAGED: (&str, &str, Option<&str>) = ("lead.re_engaged", "delivered", None);
const DUPLICATE: (&str, &str, Option<&str>) = ("lead.created", "skipped", Some("duplicate"));

#[tokio::test]
async fn a_new_lead_is_one_signed_request_with_the_default_body_and_one_log_row() {
    let story = Story::begin().await;
    story
        .app(
            "INSERT INTO leads (id, tenant_id, email, phone, first_name, visitor_id, conversation_id, created_at)
             VALUES ('00000000-0000-4000-8000-000000000001', 'acme', 'jürgen@example.de', '+491234567890', 'Jürgen', 'v1',
                     'c1', '2026-04-22T12:15:00.0009+02')",
        )
        .await;
    let (rows, requests) = story.after(1).await;
    assert_eq!(
        String::from_utf8(requests[0].body.clone()).unwrap(),
        r#"{"event":"lead.created","tenantId":"acme","leadId":"00000000-0000-4000-8000-000000000001","email":"jürgen@example.de","phone":"+491234567890","conversationId":"c1","capturedAt":"2026-04-22T10:15:00.000Z"}"#
    );
    let request = &requests[0];
    assert_eq!((request.method.as_str(), request.header("content-type")), ("POST", Some("application/json")));
    assert_eq!(request.header("user-agent"), Some("Wilow-Webhook/1.0"));
    assert_eq!(request.header("x-wilow-event"), Some("lead.created"));
    assert_eq!(request.header("x-wilow-delivery-id"), Some(rows[0].delivery_id.to_string().as_str()));
    assert_eq!(request.header("webhook-id"), Some(rows[0].event_id.to_string().as_str()));
    let row = &rows[0];
    assert_eq!(words(&rows), [CREATED]);
    assert_eq!(
        (row.http_status, row.host.as_deref(), row.port),
        (Some(200), Some("localhost"), Some(i32::from(story.setup.receiver.port())))
    );
    assert!(row.sent_at.is_some() && row.instance_id.is_some() && !row.is_test);
    assert_eq!(story.setup.db.outbox_count().await, 0);
}

#[tokio::test]
async fn a_lead_without_a_contact_is_sent_when_an_update_adds_one() {
    let story = Story::begin().await;
    story.app("INSERT INTO leads (tenant_id, email, phone) VALUES ('acme', ' ', NULL)").await;
    story.app("UPDATE leads SET first_name = 'Ann'").await;
    story.app("UPDATE leads SET phone = '+49 1'").await;
    story.app("UPDATE leads SET email = 'ann@example.com'").await;
    let (rows, requests) = story.after(1).await;
    assert_eq!(words(&rows), [CREATED]);
    assert_eq!(requests[0].json()["phone"], "+49 1");
}

#[tokio::test]
async fn the_same_visitor_and_contact_again_is_a_duplicate_and_another_visitor_or_contact_is_not() {
    let story = Story::begin().await;
    for (visitor, email) in [
        ("'v1'", "ann@example.com"),
        ("'v1'", " ANN@example.com "),
        ("'v2'", "ann@example.com"),
        ("'v1'", "bob@example.com"),
        ("NULL", "ann@example.com"),
        ("NULL", "ann@example.com"),
    ] {
        story
            .app(&format!("INSERT INTO leads (tenant_id, visitor_id, email) VALUES ('acme', {visitor}, '{email}')"))
            .await;
    }
    let (mut rows, requests) = story.after(6).await;
    rows.sort_by_key(|row| row.queued_at);
    assert_eq!(words(&rows), [CREATED, DUPLICATE, CREATED, CREATED, CREATED, CREATED]);
    assert_eq!(requests.len(), 5);
}

#[tokio::test]
async fn a_silence_of_exactly_30_days_re_engages_and_a_microsecond_less_does_not() {
    let story = Story::begin().await;
    story
        .app(
            "INSERT INTO leads (tenant_id, email, created_at, last_conversation_at) VALUES
             ('acme', 'less@example.com', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'),
             ('acme', 'full@example.com', '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'),
             ('acme', 'none@example.com', '2026-01-01T00:00:00Z', NULL)",
        )
        .await;
    story.after(3).await;
    story.app("UPDATE leads SET last_conversation_at = '2026-01-30T23:59:59.999999Z' WHERE email LIKE 'less%'").await;
    story.app("UPDATE leads SET last_conversation_at = '2026-01-31T00:00:00Z', conversation_id = 'c2' WHERE email LIKE 'full%'").await;
    story.app("UPDATE leads SET last_conversation_at = '2026-01-31T00:00:00Z' WHERE email LIKE 'none%'").await;
    let (rows, requests) = story.after(5).await;
    assert_eq!(words(&rows)[3..], [RE_ENGAGED, RE_ENGAGED]);
    let bodies: Vec<_> = requests[3..].iter().map(Request::json).collect();
    let full = bodies.iter().find(|body| body["email"] == "full@example.com").expect("the full silence is sent");
    assert_eq!(full["lastConversationAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(full["conversationId"], "c2");
    assert!(bodies.iter().any(|body| body["email"] == "none@example.com"), "the captured time stands in");
}

#[tokio::test]
async fn several_updates_of_one_come_back_are_one_request() {
    let story = Story::begin().await;
    story
        .app("INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'a@example.com', '2026-01-01Z')")
        .await;
    story.after(1).await;
    story
        .app(
            "UPDATE leads SET last_conversation_at = '2026-03-01Z';
             UPDATE leads SET last_conversation_at = '2026-01-01Z';
             UPDATE leads SET last_conversation_at = '2026-03-01T00:05Z'",
        )
        .await;
    let (rows, requests) = story.after(3).await;
    assert_eq!(words(&rows)[1..].iter().filter(|row| **row == RE_ENGAGED).count(), 1);
    assert_eq!(requests.len(), 2);
}

#[tokio::test]
async fn each_come_back_is_a_request_also_where_several_wait_for_a_daemon() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let app = setup.db.app().await;
    let insert =
        "INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'a@example.com', '2026-01-01Z')";
    let mut daemon = setup.daemon();
    app.batch_execute(insert).await.unwrap();
    setup.receiver.wait_for(1).await;
    daemon.signal("TERM");
    daemon.wait().await;
    for day in ["02-15", "05-15", "01-01", "05-16"] {
        app.batch_execute(&format!("UPDATE leads SET last_conversation_at = '2026-{day}Z'")).await.unwrap();
    }
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(4).await;
    assert_eq!(words(&rows[1..]).iter().filter(|row| **row == RE_ENGAGED).count(), 2, "{rows:?}");
    let mut before: Vec<String> =
        setup.receiver.requests()[1..].iter().map(|request| request.json()["lastConversationAt"].to_string()).collect();
    before.sort();
    assert_eq!(before, ["\"2026-01-01T00:00:00.000Z\"", "\"2026-02-15T00:00:00.000Z\""]);
}

#[tokio::test]
async fn created_and_re_engaged_in_one_transaction_is_only_created() {
    let story = Story::begin().await;
    story
        .app(
            "BEGIN;
             INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', 'a@example.com', '2026-01-01Z');
             UPDATE leads SET last_conversation_at = '2026-03-01Z';
             COMMIT",
        )
        .await;
    let (rows, requests) = story.after(2).await;
    assert!(words(&rows).contains(&CREATED));
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn a_known_visitor_who_leaves_the_contact_again_after_the_silence_is_re_engaged() {
    let setup = Setup::new().await;
    setup.edit_config(&[("leads.silence", json!("1s"))]);
    setup.run(&["migrate"]).await.ok();
    let story = Story::with(setup).await;
    let insert = "INSERT INTO leads (tenant_id, visitor_id, phone) VALUES ('acme', 'v1', '+49 (1) 2')";
    story.app(insert).await;
    story.after(1).await;
    // The silence is the server's time, so it is the server that waits.
    story.app("SELECT pg_sleep(1)").await;
    story.app(insert).await;
    let (rows, requests) = story.after(2).await;
    assert_eq!(words(&rows), [CREATED, RE_ENGAGED]);
    assert_ne!(requests[1].json()["leadId"], requests[0].json()["leadId"]);
    assert!(requests[1].json()["lastConversationAt"].is_string());
}

#[tokio::test]
async fn copy_upsert_merge_and_many_rows_at_once_count_as_inserts() {
    let story = Story::begin().await;
    let app = story.setup.db.app().await;
    story.app("INSERT INTO leads (tenant_id, email) VALUES ('acme', '1@example.com'), ('acme', '2@example.com'), ('acme', NULL)").await;
    let upsert = "INSERT INTO leads (id, tenant_id, email) VALUES ('00000000-0000-4000-8000-000000000003', 'acme', $1)
                  ON CONFLICT (id) DO UPDATE SET email = excluded.email";
    for email in ["3@example.com", "3b@example.com"] {
        app.execute(upsert, &[&email as &(dyn ToSql + Sync)]).await.unwrap();
    }
    let merge = if story.setup.db.has("MERGE", 15).await {
        "MERGE INTO leads l USING (VALUES ('4@example.com')) v (email) ON l.email = v.email
         WHEN NOT MATCHED THEN INSERT (tenant_id, email) VALUES ('acme', v.email)"
    } else {
        "INSERT INTO leads (tenant_id, email) VALUES ('acme', '4@example.com')"
    };
    story.app(merge).await;
    let sink = app.copy_in::<_, bytes::Bytes>("COPY leads (tenant_id, email) FROM STDIN").await.unwrap();
    let mut sink = Box::pin(sink);
    futures_util::SinkExt::send(&mut sink, bytes::Bytes::from_static(b"acme\t5@example.com\nacme\t6@example.com\n"))
        .await
        .unwrap();
    sink.as_mut().finish().await.unwrap();
    let (rows, requests) = story.after(6).await;
    assert_eq!(words(&rows), vec![CREATED; 6]);
    let emails: HashSet<String> = requests.iter().map(|r| r.json()["email"].as_str().unwrap().to_owned()).collect();
    assert_eq!(emails.len(), 6);
}

#[tokio::test]
async fn a_partitioned_table_sends_each_lead_once_also_when_its_row_moves() {
    let leads = "CREATE TABLE leads (
            id uuid NOT NULL DEFAULT gen_random_uuid(), tenant_id text NOT NULL, email text, phone text, first_name text,
            visitor_id text, conversation_id text, created_at timestamptz NOT NULL DEFAULT now(),
            last_conversation_at timestamptz, region text NOT NULL, PRIMARY KEY (id, region)
        ) PARTITION BY LIST (region);
        CREATE TABLE leads_eu PARTITION OF leads FOR VALUES IN ('eu');
        CREATE TABLE leads_us PARTITION OF leads FOR VALUES IN ('us');";
    let setup = Setup::prepare(Database::create_with(&Cluster::shared(), leads).await, Receiver::start()).await;
    setup.run(&["migrate"]).await.ok();
    let story = Story::with(setup).await;
    story.app("INSERT INTO leads (tenant_id, email, region) VALUES ('acme', '1@example.com', 'eu')").await;
    story.app("INSERT INTO leads_us (tenant_id, email, region) VALUES ('acme', '2@example.com', 'us')").await;
    story.after(2).await;
    story.app("UPDATE leads SET region = 'us' WHERE region = 'eu'").await;
    story.app("INSERT INTO leads (tenant_id, email, region) VALUES ('acme', '3@example.com', 'eu')").await;
    let (rows, requests) = story.after(4).await;
    assert_eq!(requests.len(), 3);
    assert_eq!(rows.iter().filter(|row| row.reason.as_deref() == Some("duplicate")).count(), 1, "the row that moved");
}

#[tokio::test]
async fn a_lead_under_an_id_that_was_used_before_is_another_one() {
    let story = Story::begin().await;
    let insert = |visitor: &str, captured_at: &str| {
        format!(
            "INSERT INTO leads (id, tenant_id, visitor_id, email, created_at)
             VALUES ('00000000-0000-0000-0000-000000000001', 'acme', '{visitor}', '{visitor}@example.com', {captured_at})"
        )
    };
    story.app(&insert("ann", "now()")).await;
    story.after(1).await;
    let admin = story.setup.db.admin().await;
    let a_minute_ago = "UPDATE lead_webhook.deliveries SET queued_at = queued_at - interval '1 min';
                        UPDATE lead_webhook.uniqueness SET seen_at = seen_at - interval '1 min'";
    admin.batch_execute(a_minute_ago).await.unwrap();
    story.app("TRUNCATE leads").await;
    story.app(&insert("bob", "now()")).await;
    let (rows, requests) = story.after(2).await;
    assert!(rows[0].lead_id == rows[1].lead_id && words(&rows) == vec![CREATED; 2], "{rows:?}");
    assert_eq!(requests[1].json()["email"], "bob@example.com");
    // One that was captured before is a row that moved, or was put back.
    story.app("TRUNCATE leads").await;
    story.app(&insert("cid", "now() - interval '1 h'")).await;
    let (rows, requests) = story.after(3).await;
    assert!(requests.len() == 2 && rows[2].reason.as_deref() == Some("duplicate"), "{rows:?}");
}

#[tokio::test]
async fn leads_captured_while_no_daemon_runs_are_sent_when_one_starts() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    setup
        .db
        .app()
        .await
        .batch_execute(
            "INSERT INTO leads (tenant_id, email) SELECT 'acme', n || '@example.com' FROM generate_series(1, 500) n",
        )
        .await
        .unwrap();
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(500).await;
    assert!(words(&rows).iter().all(|row| *row == CREATED));
    let requests = setup.receiver.requests();
    assert_eq!(requests.len(), 500);
    let leads: HashSet<String> = requests.iter().map(|r| r.json()["leadId"].as_str().unwrap().to_owned()).collect();
    assert_eq!(leads.len(), 500);
    requests.iter().for_each(|request| request.verify(&secret).unwrap());
}

#[tokio::test]
async fn two_daemons_share_the_work_and_send_each_lead_once() {
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.per_endpoint", json!(4))]);
    for tenant in ["acme", "globex", "initech"] {
        setup.endpoint(tenant).await;
    }
    let daemons = [setup.daemon(), setup.daemon()];
    let app = setup.db.app().await;
    for batch in 0..20 {
        let insert = format!(
            "INSERT INTO leads (tenant_id, email, visitor_id)
             SELECT (ARRAY['acme', 'globex', 'initech'])[1 + n % 3], {batch} || '-' || n || '@example.com', 'v' || n
             FROM generate_series(1, 30) n"
        );
        app.batch_execute(&insert).await.unwrap();
    }
    let rows = setup.db.wait_for_log(600).await;
    assert!(words(&rows).iter().all(|row| *row == CREATED));
    let leads: HashSet<&str> = rows.iter().map(|row| row.lead_id.as_str()).collect();
    assert_eq!((rows.len(), leads.len(), setup.receiver.requests().len()), (600, 600, 600));
    let instances: HashSet<_> = rows.iter().map(|row| row.instance_id).collect();
    assert_eq!(instances.len(), daemons.len(), "both took part");
}

#[tokio::test]
async fn two_daemons_agree_on_which_of_two_leads_is_the_duplicate() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let app = setup.db.app().await;
    app.batch_execute(
        "INSERT INTO leads (tenant_id, email, visitor_id)
         SELECT 'acme', 'a' || n % 100 || '@example.com', 'v' FROM generate_series(1, 400) n",
    )
    .await
    .unwrap();
    let _daemons = [setup.daemon(), setup.daemon(), setup.daemon()];
    let rows = setup.db.wait_for_log(400).await;
    assert_eq!(rows.iter().filter(|row| row.status == "delivered").count(), 100);
    assert_eq!(rows.iter().filter(|row| row.reason.as_deref() == Some("duplicate")).count(), 300);
    assert_eq!(setup.receiver.requests().len(), 100);
}

#[tokio::test]
async fn several_daemons_never_send_a_come_back_before_its_leads_creation() {
    let setup = Setup::new().await;
    setup.edit_config(&[("delivery.per_endpoint", json!(3))]);
    setup.endpoint("acme").await;
    let app = setup.db.app().await;
    for n in 0..150 {
        app.batch_execute(&format!(
            "BEGIN;
             INSERT INTO leads (tenant_id, email, last_conversation_at) VALUES ('acme', '{n}@example.com', '2026-01-01Z');
             UPDATE leads SET last_conversation_at = '2026-03-01Z' WHERE email = '{n}@example.com';
             COMMIT"
        ))
        .await
        .unwrap();
    }
    let _daemons = [setup.daemon(), setup.daemon(), setup.daemon()];
    let rows = setup.db.wait_for_log(300).await;
    assert_eq!(rows.iter().filter(|row| row.status == "delivered").count(), 150);
    assert!(setup.receiver.requests().iter().all(|request| request.json()["event"] == "lead.created"));
}

#[tokio::test]
async fn a_repeat_while_the_endpoint_is_off_moves_the_key_on() {
    let story = Story::begin().await;
    let insert = "INSERT INTO leads (tenant_id, visitor_id, email) VALUES ('acme', 'v1', 'ann@example.com')";
    story.app(insert).await;
    story.after(1).await;
    let admin = story.setup.db.admin().await;
    admin.batch_execute("UPDATE lead_webhook.uniqueness SET seen_at = seen_at - interval '31 days'").await.unwrap();
    story.setup.run(&["endpoint", "disable", "acme"]).await.ok();
    story.app(insert).await;
    story.after(2).await;
    story.setup.run(&["endpoint", "enable", "acme"]).await.ok();
    story.app(insert).await;
    let (rows, requests) = story.after(3).await;
    assert_eq!(words(&rows), [CREATED, ("lead.created", "skipped", Some("disabled")), DUPLICATE]);
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn an_older_lead_of_a_known_visitor_whose_row_moves_sends_nothing() {
    let story = Story::begin().await;
    let insert = "INSERT INTO leads (tenant_id, visitor_id, email, created_at) VALUES ('acme', 'v1', 'ann@example.com'";
    story.app(&format!("{insert}, now())")).await;
    story.after(1).await;
    let admin = story.setup.db.admin().await;
    admin.batch_execute("UPDATE lead_webhook.uniqueness SET seen_at = seen_at - interval '40 days'").await.unwrap();
    // As a move between partitions does: an insert of a lead that was captured long ago.
    story.app(&format!("{insert}, now() - interval '60 days')")).await;
    let (rows, requests) = story.after(2).await;
    assert_eq!(words(&rows), [CREATED, DUPLICATE]);
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn repeats_among_new_leads_are_duplicates_and_of_those_that_come_together_the_first_is_sent() {
    let story = Story::begin().await;
    let insert = |leads: &[(&str, &str)]| {
        let rows: Vec<_> = leads.iter().map(|(visitor, email)| format!("('acme', '{visitor}', '{email}')")).collect();
        format!("INSERT INTO leads (tenant_id, visitor_id, email) VALUES {}", rows.join(", "))
    };
    story.app(&insert(&[("known", "a@example.com")])).await;
    story.after(1).await;
    // In one claim: the second repeats what was sent, the last the third.
    let together = [("new", "b"), ("known", "a"), ("twice", "c"), ("other", "d"), ("twice", "c")];
    let emails = together.map(|(_, name)| format!("{name}@example.com"));
    let leads: Vec<_> = together.iter().zip(&emails).map(|((visitor, _), email)| (*visitor, email.as_str())).collect();
    story.app(&insert(&leads)).await;
    let (mut rows, requests) = story.after(6).await;
    rows.sort_by_key(|row| row.queued_at);
    assert_eq!(words(&rows), [CREATED, CREATED, DUPLICATE, CREATED, CREATED, DUPLICATE]);
    assert_eq!(requests.len(), 4);
    // Claims go on as before once repeats are known of.
    story.app(&insert(&[("later", "e@example.com"), ("later", "e@example.com")])).await;
    let (mut rows, _) = story.after(8).await;
    rows.sort_by_key(|row| row.queued_at);
    assert_eq!(words(&rows[6..]), [CREATED, DUPLICATE]);
}

#[tokio::test]
async fn a_queue_of_duplicates_waits_for_no_room_and_no_timer() {
    let setup = Setup::new().await;
    // So long a poll that nothing but the claims themselves can go on.
    setup.edit_config(&[("database.poll_interval", json!("1h")), ("delivery.per_endpoint", json!(2))]);
    setup.endpoint("acme").await;
    let insert = "INSERT INTO leads (tenant_id, email, visitor_id) SELECT 'acme', 'a@example.com', 'v' FROM generate_series(1, 100)";
    setup.db.app().await.batch_execute(insert).await.unwrap();
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(100).await;
    assert_eq!(rows.iter().filter(|row| row.reason.as_deref() == Some("duplicate")).count(), 99);
}

#[tokio::test]
async fn repeats_that_take_a_tenants_whole_room_wait_for_no_timer() {
    let setup = Setup::new().await;
    setup.edit_config(&[("database.poll_interval", json!("1h")), ("delivery.per_endpoint", json!(2))]);
    setup.endpoint("acme").await;
    let mut daemon = setup.daemon();
    let insert =
        "INSERT INTO leads (tenant_id, email, visitor_id) SELECT 'acme', 'a@example.com', 'v' FROM generate_series(1, ";
    setup.db.app().await.batch_execute(&format!("{insert}1)")).await.unwrap();
    setup.db.wait_for_log(1).await;
    daemon.signal("TERM");
    assert!(daemon.wait().await.success());
    // For this one no attempt has ended yet, which would have it look for what has room now.
    let _daemon = setup.daemon();
    // It rests: the looks that follow upon its first one are no further apart than 200 ms.
    let rests =
        "SELECT coalesce(clock_timestamp() - max(state_change) > '400 milliseconds', false) FROM pg_stat_activity
                 WHERE datname = current_database() AND pid <> pg_backend_pid()";
    until_true(&setup.db.admin().await, "a daemon at rest", rests).await;
    setup.db.app().await.batch_execute(&format!("{insert}2)")).await.unwrap();
    let rows = setup.db.wait_for_log(3).await;
    assert_eq!(words(&rows), [CREATED, DUPLICATE, DUPLICATE]);
}

#[tokio::test]
async fn a_lead_whose_row_stands_twice_is_sent_once() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    // A copy of the row, as where rows are copied into an archive: no trigger sees it.
    let copied = "ALTER TABLE leads DROP CONSTRAINT leads_pkey;
                  CREATE INDEX ON leads (id);
                  INSERT INTO leads (tenant_id, email) VALUES ('acme', 'ann@example.com');
                  SET session_replication_role = replica;
                  INSERT INTO leads SELECT * FROM leads;";
    setup.db.admin().await.batch_execute(copied).await.unwrap();
    let _daemon = setup.daemon();
    setup.db.wait_for_log(1).await;
    setup.db.insert_lead("acme", "next@example.com").await;
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:#?}");
    assert_eq!(setup.receiver.requests().len(), 2);
}

#[tokio::test]
async fn a_lead_that_is_forgotten_is_known_no_more() {
    let setup = Setup::new().await;
    for tenant in ["acme", "bolt"] {
        setup.endpoint(tenant).await;
    }
    let admin = setup.db.admin().await;
    let _daemon = setup.daemon();
    let visit =
        "INSERT INTO leads (tenant_id, email, visitor_id) VALUES ('acme', 'ann@example.com', 'v1') RETURNING id";
    let lead: uuid::Uuid = admin.query_one(visit, &[]).await.unwrap().get(0);
    setup.db.wait_for_log(1).await;
    admin.execute(visit, &[]).await.unwrap();
    let rows = setup.db.wait_for_log(2).await;
    assert_eq!(rows[1].reason.as_deref(), Some("duplicate"));
    // The key names the newest lead.
    let newest = rows[1].lead_id.clone();
    assert_eq!(setup.run(&["forget", &lead.to_string()]).await.code, Some(1));
    let same = "INSERT INTO lead_webhook.uniqueness (key, tenant_id, lead_id, seen_at)
                SELECT sha256('another'), 'bolt', $1::text, now()";
    admin.execute(same, &[&newest]).await.unwrap();
    let whose = setup.run(&["forget", &newest]).await;
    assert!(whose.code == Some(2) && whose.stderr.contains("(acme, bolt)"), "{}", whose.stderr);
    let forgotten = setup.run(&["forget", &newest, "--tenant", "acme"]).await.ok();
    assert!(forgotten.stderr.contains("1 key of lead"), "{}", forgotten.stderr);
    admin.execute(visit, &[]).await.unwrap();
    assert_eq!(setup.db.wait_for_log(3).await[2].status, "delivered");
    assert_eq!(setup.receiver.requests().len(), 2);
}
