//! With a log of many rows the commands stay quick: a page reads its own rows, whatever stands before and behind it, and
//! `reconcile` reads each lead and each row once. `LEAD_WEBHOOK_TEST_ROWS=5000000` takes so many.

use std::{process::Command, time::Instant};

use serde_json::Value;
use uuid::Uuid;

use crate::harness::{Setup, environment, program};

/// So many leads with a delivery each, of a hundred tenants, over thirty days; many deliveries end in the same moment.
async fn filled(rows: u32) -> Setup {
    let setup = Setup::new().await;
    setup.endpoint("t7").await;
    setup
        .db
        .admin()
        .await
        .batch_execute(&format!(
            "SET session_replication_role = replica;
             SET synchronous_commit = off;
             UPDATE lead_webhook.installation SET leads_since = now() - interval '31 days';
             INSERT INTO leads (tenant_id, email, created_at)
             SELECT 't' || n % 100, n || '@example.com', now() - interval '30 days' * n / {rows} FROM generate_series(1, {rows}) n;
             INSERT INTO lead_webhook.deliveries (delivery_id, event_id, tenant_id, lead_id, event, status, failure, http_status,
                 host, port, captured_at, queued_at, sent_at, finished_at, total_us)
             SELECT gen_random_uuid(), gen_random_uuid(), tenant_id, id, 'lead.created',
                    CASE WHEN hash < 0.02 THEN 'failed' ELSE 'delivered' END, CASE WHEN hash < 0.02 THEN 'http_status' END,
                    CASE WHEN hash < 0.02 THEN 500 ELSE 200 END, 'crm.example.com', 443, created_at, created_at, created_at,
                    date_trunc('minute', created_at) + interval '1 minute', 5000
             FROM (SELECT *, abs(hashtext(id::text)) / 2147483647.0 AS hash FROM leads) l;
             ANALYZE leads;
             ANALYZE lead_webhook.deliveries",
        ))
        .await
        .unwrap();
    setup
}

/// What was read of the log until now: blocks, and rows by a scan of the whole table.
async fn read(setup: &Setup) -> [i64; 2] {
    let sql = "SELECT heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit, seq_tup_read
               FROM pg_statio_user_tables JOIN pg_stat_user_tables USING (relid) WHERE relid = 'lead_webhook.deliveries'::regclass";
    let row = setup.db.admin().await.query_one(sql, &[]).await.unwrap();
    [row.get(0), row.get(1)]
}

#[tokio::test]
async fn a_page_reads_its_own_rows_and_reconcile_each_row_once() {
    let rows: u32 = environment("LEAD_WEBHOOK_TEST_ROWS").map_or(100_000, |rows| rows.parse().unwrap());
    let setup = filled(rows).await;
    let middle = "SELECT delivery_id FROM lead_webhook.deliveries WHERE tenant_id = 't7' AND status = 'delivered'
                  ORDER BY finished_at OFFSET (SELECT count(*) / 200 FROM lead_webhook.deliveries) LIMIT 1";
    let admin = setup.db.admin().await;
    // A session's own scans are counted when it comes to that, which would be while another is looked at.
    admin.batch_execute("SET enable_seqscan = off").await.unwrap();
    let middle: Uuid = admin.query_one(middle, &[]).await.unwrap().get(0);
    let middle = middle.to_string();
    let event = "SELECT event_id FROM lead_webhook.deliveries ORDER BY finished_at LIMIT 1";
    let event: Uuid = admin.query_one(event, &[]).await.unwrap().get(0);
    let event = event.to_string();
    for options in [
        &["list"][..],
        &["list", "--after", &middle],
        &["list", "--tenant", "t7"],
        &["list", "--tenant", "t7", "--after", &middle],
        &["list", "--tenant", "t7", "--status", "failed", "--after", &middle],
        &["list", "--since", "48h", "--until", "24h"],
        &["show", &middle],
        &["show", &event],
    ] {
        let before = read(&setup).await;
        let began = Instant::now();
        let output = setup.run(&[&["deliveries"][..], options, &["--json"]].concat()).await.ok();
        let took = began.elapsed();
        assert!(!output.stdout.is_empty(), "{options:?}");
        let [blocks, scanned] = read(&setup).await;
        let (blocks, scanned) = (blocks - before[0], scanned - before[1]);
        println!("deliveries {options:?}: {blocks} blocks, {took:?}");
        // A failed one stands among fifty others, each in a block of its own.
        assert!(blocks < 10_000 && scanned == 0, "{options:?}: {blocks} blocks, {scanned} rows of a scan");
    }
    let began = Instant::now();
    // However long it takes.
    let output = Command::new(program())
        .arg("--config")
        .arg(setup.config_file())
        .args(["reconcile", "--json"])
        .output()
        .unwrap();
    println!("reconcile: {rows} leads, {:?}", began.elapsed());
    let counts: Value = serde_json::from_slice(output.stdout.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(counts["delivered"].as_u64().unwrap() + counts["failed"].as_u64().unwrap(), u64::from(rows), "{counts}");
}

#[tokio::test]
async fn pages_show_each_delivery_once_also_where_many_end_in_the_same_moment() {
    let setup = filled(1_000).await;
    setup
        .db
        .admin()
        .await
        .batch_execute(
            "UPDATE lead_webhook.deliveries SET finished_at = date_trunc('day', finished_at) + interval '1 day'",
        )
        .await
        .unwrap();
    let listed = |options: Vec<String>| {
        let setup = &setup;
        async move {
            let mut args = vec!["deliveries", "list", "--json"];
            args.extend(options.iter().map(String::as_str));
            let output = setup.run(&args).await.ok();
            let id =
                |line: &str| serde_json::from_str::<Value>(line).unwrap()["delivery_id"].as_str().unwrap().to_owned();
            (output.stdout.lines().map(id).collect::<Vec<_>>(), output.stderr)
        }
    };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let (all, _) = listed(words(&["--limit", "1000"])).await;
    assert_eq!(all.len(), 1_000);
    let mut paged: Vec<String> = Vec::new();
    loop {
        let mut options = words(&["--limit", "300"]);
        if let Some(last) = paged.last() {
            options.extend(words(&["--after", last]));
        }
        let (page, said) = listed(options).await;
        paged.extend(page);
        // The way to the next page is said, as it is to be typed.
        let next = format!("--after {}", paged.last().unwrap());
        if !said.contains(&next) {
            break;
        }
    }
    assert_eq!(paged, all);
    let nobody = setup.run(&["deliveries", "list", "--after", "00000000"]).await;
    assert_eq!((nobody.code, nobody.stderr.contains("no delivery has this id")), (Some(1), true), "{nobody:?}");
    let wrong = setup.run(&["deliveries", "list", "--after", "xyz", "--status", "gone"]).await;
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.stderr.contains("--after") && wrong.stderr.contains("--status"), "{wrong:?}");
}
