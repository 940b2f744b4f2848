//! The log is for people: every table and column says what it is, and contradictory rows are impossible.

use serde_json::{Value, json};

use crate::harness::{Answer, Setup};

#[tokio::test]
async fn every_table_and_column_of_ours_has_a_comment() {
    let setup = Setup::new().await;
    let silent = "
        SELECT c.relname || coalesce('.' || a.attname, '')
        FROM pg_class c
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'v')
        WHERE c.relnamespace = 'lead_webhook'::regnamespace AND c.relkind IN ('r', 'S', 'v')
          AND c.relname <> 'migrations'
          AND (obj_description(c.oid, 'pg_class') IS NULL
               OR a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL)
        UNION ALL
        SELECT proname || '()' FROM pg_proc p
        WHERE pronamespace = 'lead_webhook'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL";
    let rows = setup.db.admin().await.query(silent, &[]).await.unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert!(names.is_empty(), "{names:?}");
}

#[tokio::test]
async fn contradictory_rows_are_impossible() {
    let setup = Setup::new().await;
    let admin = setup.db.admin().await;
    let insert = |columns: &str| {
        let base = "delivery_id uuid, event_id uuid, tenant_id text, lead_id text, event text, queued_at timestamptz, finished_at timestamptz";
        let names = base.replace(" uuid", "").replace(" text", "").replace(" timestamptz", "");
        let (extra_names, extra_values) = columns.split_once(" = ").unwrap();
        format!(
            "INSERT INTO lead_webhook.deliveries ({names}, {extra_names})
             VALUES (gen_random_uuid(), gen_random_uuid(), 't', 'l', 'lead.created', now(), now(), {extra_values})"
        )
    };
    let sent = "sent_at, total_us, host, port";
    let at = "now() - interval '1 second', 5, 'h', 443";
    for good in [
        format!("status, http_status, {sent} = 'delivered', 200, {at}"),
        format!("status, failure, http_status, {sent} = 'failed', 'redirect', 302, {at}"),
        format!("status, failure, {sent} = 'failed', 'timeout', {at}"),
        "status, failure = 'failed', 'secret'".to_owned(),
        "status, reason = 'skipped', 'duplicate'".to_owned(),
        "status = 'interrupted'".to_owned(),
    ] {
        admin.batch_execute(&insert(&good)).await.unwrap_or_else(|error| panic!("{good}: {error:?}"));
    }
    for bad in [
        "status = 'delivered'".to_owned(),
        "status = 'sending'".to_owned(),
        "status, http_status = 'delivered', 200".to_owned(),
        format!("status, http_status, {sent} = 'delivered', 500, {at}"),
        format!("status, http_status, {sent} = 'delivered', 302, {at}"),
        format!("status, failure, http_status, {sent} = 'delivered', 'timeout', 200, {at}"),
        format!("status, {sent} = 'failed', {at}"),
        format!("status, failure, {sent} = 'failed', 'http_status', {at}"),
        format!("status, failure, http_status, {sent} = 'failed', 'http_status', 200, {at}"),
        format!("status, failure, http_status, {sent} = 'failed', 'redirect', 404, {at}"),
        format!("status, failure, {sent} = 'failed', 'secret', {at}"),
        "status, failure = 'failed', 'bad luck'".to_owned(),
        "status, reason, failure = 'skipped', 'duplicate', 'timeout'".to_owned(),
        "status = 'skipped'".to_owned(),
        format!("status, reason, {sent} = 'skipped', 'gone', {at}"),
        "status, sent_at = 'interrupted', now()".to_owned(),
        "status, total_us = 'interrupted', 5".to_owned(),
        "status, response_excerpt = 'interrupted', 'x'".to_owned(),
        "status, host = 'interrupted', 'h'".to_owned(),
    ] {
        let refused = admin.batch_execute(&insert(&bad)).await.expect_err(&bad);
        assert_eq!(refused.code().map(|code| code.code()), Some("23514"), "{bad}");
    }
}

#[tokio::test]
async fn an_event_has_one_row_and_a_redelivery_one_of_its_own() {
    let setup = Setup::new().await;
    let admin = setup.db.admin().await;
    let insert = |redelivery_of: &str| {
        format!(
            "INSERT INTO lead_webhook.deliveries
                 (delivery_id, event_id, tenant_id, lead_id, event, status, queued_at, finished_at, redelivery_of)
             VALUES (gen_random_uuid(), '00000000-0000-4000-8000-000000000001', 't', 'l', 'lead.created', 'interrupted',
                     '2026-04-22Z', now(), {redelivery_of})"
        )
    };
    admin.batch_execute(&insert("NULL")).await.unwrap();
    let refused = admin.batch_execute(&insert("NULL")).await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("23505"));
    admin.batch_execute(&insert("gen_random_uuid()")).await.unwrap();
}

#[tokio::test]
async fn an_event_is_found_by_its_id_whichever_day_it_was_queued() {
    let setup = Setup::new().await;
    let days = ["0001-01-01T00:00:00Z", "1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z", "2026-04-22T00:00:00Z"];
    let admin = setup.db.admin().await;
    for (n, day) in days.iter().enumerate() {
        for event in 2 * n..2 * n + 2 {
            let row = format!(
                "INSERT INTO lead_webhook.deliveries
                     (delivery_id, event_id, tenant_id, lead_id, event, status, queued_at, finished_at)
                 VALUES (gen_random_uuid(), '{event:08}-0000-4000-8000-000000000000', 't', '{event}', 'lead.created',
                         'interrupted', '{day}', now())"
            );
            admin.batch_execute(&row).await.unwrap();
        }
    }
    for event in 0..2 * days.len() {
        let shown = setup.run(&["deliveries", "show", &format!("{event:08}"), "--json"]).await.ok().stdout;
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!((&shown["lead_id"], &shown["queued_at"]), (&json!(event.to_string()), &json!(days[event / 2])));
    }
}

#[tokio::test]
async fn the_views_tell_an_application_what_it_was_granted_and_nothing_else() {
    let setup = Setup::new().await;
    for tenant in ["acme", "bolt"] {
        setup.endpoint(tenant).await;
    }
    setup.receiver.queue([Answer::status(200), Answer::status(503)]);
    {
        let _daemon = setup.daemon();
        for n in 1..=2 {
            setup.db.insert_leads("acme", 1).await;
            setup.db.wait_for_log(n).await;
        }
    }
    setup.db.insert_leads("bolt", 3).await;
    let (admin, app) = (setup.db.admin().await, setup.db.app().await);
    let grant = "DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA lead_webhook TO %1$I; GRANT SELECT ON
                 lead_webhook.delivery_log, lead_webhook.endpoint_health, lead_webhook.backlog TO %1$I', $1); END $$";
    let login: String = app.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    admin.batch_execute(&grant.replace("$1)", &format!("'{login}')"))).await.unwrap();
    let outcomes = "SELECT outcome, http_status, took_ms IS NOT NULL, waited >= '0' FROM lead_webhook.delivery_log ORDER BY finished_at";
    let rows = app.query(outcomes, &[]).await.unwrap();
    let outcomes: Vec<(String, i16, bool, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2), row.get(3))).collect();
    let expected = [("delivered".to_owned(), 200, true, true), ("failed / http_status".to_owned(), 503, true, true)];
    assert_eq!(outcomes, expected);
    let health = "SELECT tenant_id, takes_leads, delivered, failed, success_percent::text, pending
                  FROM lead_webhook.endpoint_health ORDER BY 1";
    let rows = app.query(health, &[]).await.unwrap();
    let health: Vec<(String, bool, i64, i64, Option<String>, i64)> =
        rows.iter().map(|r| (r.get(0), r.get(1), r.get(2), r.get(3), r.get(4), r.get(5))).collect();
    let acme = ("acme".to_owned(), true, 1, 1, Some("50.0".to_owned()), 0);
    assert_eq!(health, [acme, ("bolt".to_owned(), true, 0, 0, None, 3)]);
    let backlog = app.query_one("SELECT tenant_id, pending, in_flight FROM lead_webhook.backlog", &[]).await.unwrap();
    assert_eq!((backlog.get(0), backlog.get(1), backlog.get(2)), ("bolt", 3_i64, 0_i64));
    for table in ["endpoints", "deliveries", "outbox", "uniqueness"] {
        let refused = app.query(&format!("SELECT FROM lead_webhook.{table}"), &[]).await.unwrap_err();
        assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{table}");
    }
}
