//! The triggers queue every lead that is new or comes back, once, whichever way the application writes it, and nothing
//! else. What the claim makes of it is told in `delivers_once`.

use lead_webhook::store::{bell, connect::connect_listening};
use tokio::sync::mpsc;

use crate::harness::{Application, patiently};

/// A table whose ids tests can choose.
const NUMBERED: &str = "CREATE TABLE leads (
    id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text, visitor_id text,
    conversation_id text, created_at timestamptz, last_conversation_at timestamptz)";

/// The same in partitions: INSERT triggers are per row there.
const PARTITIONED: &str = "CREATE TABLE leads (
        id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text, visitor_id text,
        conversation_id text, created_at timestamptz, last_conversation_at timestamptz) PARTITION BY RANGE (id);
    CREATE TABLE leads_low PARTITION OF leads FOR VALUES FROM (0) TO (100);
    CREATE TABLE leads_high PARTITION OF leads FOR VALUES FROM (100) TO (200)";

#[tokio::test]
async fn every_way_of_inserting_queues_each_lead_with_a_contact_once() {
    let application = Application::installed_beside(NUMBERED).await;
    application.setup.endpoint("off").await;
    application.setup.run(&["endpoint", "disable", "off"]).await.ok();
    let merge = if application.setup.db.has("MERGE", 15).await {
        "MERGE INTO leads USING (VALUES (1), (9)) AS v (id) ON leads.id = v.id
            WHEN MATCHED THEN UPDATE SET email = 'y'
            WHEN NOT MATCHED THEN INSERT (id, tenant_id, email) VALUES (v.id, 'acme', 'm')"
    } else {
        "UPDATE leads SET email = 'y' WHERE id = 1; INSERT INTO leads (id, tenant_id, email) VALUES (9, 'acme', 'm')"
    };
    for statement in [
        "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a@b.c')",
        r"INSERT INTO leads (id, tenant_id, phone) VALUES (2, 'acme', '1'), (3, 'acme', NULL), (4, 'acme', E' \t\n')",
        "INSERT INTO leads (id, tenant_id, email) VALUES (5, 'nobody', 'a@b.c'), (6, 'off', 'a'), (7, NULL, 'a@b.c')",
        "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'z'), (8, 'acme', 'z')
            ON CONFLICT (id) DO UPDATE SET email = 'z'",
        "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'z') ON CONFLICT DO NOTHING",
        merge,
        "WITH more AS (INSERT INTO leads (id, tenant_id, email) VALUES (10, 'acme', 'c') RETURNING id) TABLE more",
    ] {
        application.run(statement).await;
    }
    application.copy("id, tenant_id, email", "11\tacme\tx\n12\tacme\t\\N\n").await;
    let expected =
        ["1 inserted", "2 inserted", "6 inserted off", "8 inserted", "9 inserted", "10 inserted", "11 inserted"];
    assert_eq!(application.queued().await, expected);
    assert_eq!(application.missed().await, 0);
}

#[tokio::test]
async fn twenty_thousand_leads_in_one_statement_are_queued_once_each() {
    const LEADS: i64 = 20_000;
    for table in [NUMBERED.to_owned(), format!("{PARTITIONED}; CREATE TABLE leads_rest PARTITION OF leads DEFAULT")] {
        let application = Application::installed_beside(&table).await;
        let select = format!("SELECT n, 'acme', n || '@example.com' FROM generate_series(1, {LEADS}) AS n");
        application.run(&format!("INSERT INTO leads (id, tenant_id, email) {select}")).await;
        let lines = (LEADS + 1..=2 * LEADS).map(|n| format!("{n}\tacme\t{n}@example.com\n")).collect::<String>();
        application.copy("id, tenant_id, email", &lines).await;
        let queued = "SELECT ARRAY[count(*), count(DISTINCT lead_id), min(lead_id::bigint), max(lead_id::bigint)]
                      FROM lead_webhook.outbox WHERE kind = 'inserted'";
        assert_eq!(application.one::<Vec<i64>>(queued).await, [2 * LEADS, 2 * LEADS, 1, 2 * LEADS]);
        assert_eq!((application.missed().await, application.warnings().len()), (0, 0));
    }
}

#[tokio::test]
async fn each_lead_costs_one_probe_of_the_endpoints_however_few_they_are() {
    for table in [NUMBERED.to_owned(), format!("{PARTITIONED}; CREATE TABLE leads_rest PARTITION OF leads DEFAULT")] {
        let application = Application::installed_beside(&table).await;
        application.administer("VACUUM ANALYZE lead_webhook.endpoints").await;
        let probes = "DO $$ BEGIN
            INSERT INTO leads (id, tenant_id, email) SELECT n, 'acme', 'a@b.c' FROM generate_series(1, 3) AS n;
            ASSERT (SELECT (seq_scan, idx_scan) = (0, 3) FROM pg_stat_xact_user_tables
                    WHERE relid = 'lead_webhook.endpoints'::regclass);
        END $$";
        application.administer(probes).await;
    }
}

#[tokio::test]
async fn what_is_rolled_back_or_written_in_replica_mode_queues_nothing() {
    let application = Application::installed().await;
    application.setup.leaves_leads_unaccounted();
    let insert = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a@b.c')";
    application.run(&format!("BEGIN; {insert}; ROLLBACK")).await;
    application.run(&format!("BEGIN; SAVEPOINT s; {insert}; ROLLBACK TO s; COMMIT")).await;
    application
        .administer(&format!("SET session_replication_role = replica; SET search_path = public; {insert}"))
        .await;
    assert_eq!(application.queued().await, [""; 0]);
    assert_eq!(application.missed().await, 0);
}

#[tokio::test]
async fn an_update_is_read_by_its_bytes_whatever_its_columns_take_for_equal() {
    // To the collation ' ' and '-' are equal, and json has no equality at all.
    let table = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ka-shifted', deterministic = false);
        CREATE TABLE leads (id bigint PRIMARY KEY, tenant_id text, email text COLLATE loose, phone json, first_name text,
            visitor_id text, conversation_id text, created_at timestamptz, last_conversation_at timestamptz)";
    let application = Application::installed_beside(table).await;
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', ' '), (2, 'acme', NULL)").await;
    for change in ["first_name = 'Ann'", "email = '-' WHERE id = 1", "first_name = 'Bob'", "phone = '1' WHERE id = 2"] {
        application.run(&format!("UPDATE leads SET {change}")).await;
    }
    assert_eq!(application.queued().await, ["1 contact_added", "2 contact_added"]);
    assert_eq!((application.missed().await, application.warnings().len()), (0, 0));
}

#[tokio::test]
async fn a_lead_comes_back_at_exactly_the_silence_and_not_a_microsecond_before() {
    let application = Application::installed_beside(NUMBERED).await;
    application
        .run(
            "SET TimeZone = 'Europe/Berlin';
             INSERT INTO leads (id, tenant_id, email, last_conversation_at, created_at) VALUES
                (1, 'acme', 'a', '2026-03-01T00:00Z', NULL), (2, 'acme', 'a', '2026-03-01T00:00Z', NULL),
                (3, 'acme', NULL, '2026-03-01T00:00Z', NULL), (4, 'acme', 'a', NULL, '2026-03-01T00:00Z'),
                (5, 'acme', 'a', 'infinity', NULL), (6, 'acme', 'a', NULL, NULL), (7, 'acme', 'a', '-infinity', NULL)",
        )
        .await;
    application.forget_queued().await;
    // Across a change of the clocks in the session's zone.
    for change in [
        "UPDATE leads SET last_conversation_at = '2026-03-31T00:00Z' WHERE id = 1",
        "UPDATE leads SET last_conversation_at = '2026-03-30T23:59:59.999999Z' WHERE id = 2",
        "UPDATE leads SET last_conversation_at = '2026-03-31T00:00Z' WHERE id IN (3, 4, 5, 6, 7)",
        "UPDATE leads SET last_conversation_at = 'infinity' WHERE id = 1",
        "UPDATE leads SET last_conversation_at = NULL, phone = '1' WHERE id = 2",
        "UPDATE leads SET last_conversation_at = '2020-01-01' WHERE id = 1",
    ] {
        application.run(change).await;
    }
    assert_eq!(application.queued().await, ["1 came_back 2026-03-01 00:00:00", "4 came_back 2026-03-01 00:00:00"]);
    assert_eq!(application.missed().await, 0);
}

#[tokio::test]
async fn the_shortest_and_the_longest_silence_are_as_exact_as_any() {
    let application = Application::installed_beside(NUMBERED).await;
    for (silence, before, back) in [
        ("1s", "2026-03-01 00:00:00.999999Z", "2026-03-01 00:00:01Z"),
        ("10years", "2036-02-29 11:59:59.999999Z", "2036-02-29 12:00:00Z"),
    ] {
        application.setup.edit_config(&[("leads.silence", serde_json::json!(silence))]);
        application.migrate().await;
        application.run("INSERT INTO leads VALUES (1, 'acme', 'a'), (2, 'acme', 'a')").await;
        application.run("UPDATE leads SET last_conversation_at = '2026-03-01 00:00Z'").await;
        application.forget_queued().await;
        application.run(&format!("UPDATE leads SET last_conversation_at = '{before}' WHERE id = 1")).await;
        application.run(&format!("UPDATE leads SET last_conversation_at = '{back}' WHERE id = 2")).await;
        assert_eq!(application.queued().await, ["2 came_back 2026-03-01 00:00:00"], "{silence}");
        application.run("DELETE FROM leads").await;
    }
    assert_eq!(application.missed().await, 0);
}

#[tokio::test]
async fn a_contact_that_is_added_is_a_new_lead_even_when_it_comes_back_too() {
    let application = Application::installed_beside(NUMBERED).await;
    application
        .run(
            "INSERT INTO leads (id, tenant_id, email, last_conversation_at) VALUES
                (1, 'acme', '  ', '2026-01-01'), (2, 'acme', 'a', '2026-01-01'), (3, 'nobody', NULL, NULL)",
        )
        .await;
    application.forget_queued().await;
    for change in [
        "UPDATE leads SET phone = '1', last_conversation_at = '2026-06-01' WHERE id = 1",
        "UPDATE leads SET phone = '1' WHERE id IN (2, 3)",
        "UPDATE leads SET email = 'other' WHERE id = 2",
        "UPDATE leads SET email = NULL, phone = NULL WHERE id = 2",
        "UPDATE leads SET email = 'b' WHERE id = 2",
    ] {
        application.run(change).await;
    }
    assert_eq!(application.queued().await, ["1 contact_added", "2 contact_added"]);
}

#[tokio::test]
async fn whatever_a_session_has_set_its_leads_are_queued_or_noted_as_muted() {
    const VALUES: [&str; 7] = ["abc", "NaN", "1e999999", "-1", "1.2.3", "999999999999", ""];
    for table in [NUMBERED, PARTITIONED] {
        let application = Application::installed_beside(table).await;
        for (id, value) in (1..).zip(VALUES) {
            let writes = format!(
                "SET lead_webhook.locked_until = '{value}';
                 INSERT INTO leads (id, tenant_id, email) VALUES ({id}, 'acme', 'a');
                 INSERT INTO leads (id, tenant_id) VALUES (10 + {id}, 'acme');
                 UPDATE leads SET email = 'a' WHERE id = 10 + {id};
                 SET lead_webhook.mute = 'on';
                 INSERT INTO leads (id, tenant_id, email) VALUES (20 + {id}, 'acme', 'a');
                 RESET lead_webhook.mute"
            );
            application.run(&writes).await;
        }
        assert_eq!((application.missed().await, application.queued().await.len()), (0, 2 * VALUES.len()));
        assert_eq!(application.texts("SELECT lead_id FROM lead_webhook.muted").await.len(), VALUES.len());
    }
}

#[tokio::test]
async fn a_muted_session_queues_nothing_and_its_leads_are_noted() {
    for table in [NUMBERED, PARTITIONED] {
        let application = Application::installed_beside(table).await;
        for statement in [
            "INSERT INTO leads (id, tenant_id) VALUES (9, 'acme')",
            "SET lead_webhook.mute = 'on'",
            "INSERT INTO leads (id, tenant_id, email, last_conversation_at) VALUES
                (1, 'acme', 'a', '2026-01-01'), (2, 'nobody', 'a', NULL), (3, 'acme', '', NULL), (4, NULL, 'a', NULL)",
            "UPDATE leads SET last_conversation_at = '2026-06-01' WHERE id = 1",
            "UPDATE leads SET email = 'a' WHERE id = 9",
        ] {
            application.run(statement).await;
        }
        assert_eq!(application.queued().await, [""; 0]);
        assert_eq!(application.texts("SELECT lead_id FROM lead_webhook.muted ORDER BY 1").await, ["1", "2", "3", "9"]);
        for (id, value) in (20..).zip(["ON", "true", "yes", "1", "onn"]) {
            let insert = format!("INSERT INTO leads (id, tenant_id, email) VALUES ({id}, 'acme', 'a')");
            application.run(&format!("SET lead_webhook.mute = '{value}'; {insert}")).await;
            assert_eq!(application.queued().await, [""; 0], "{value}");
        }
        application
            .run("RESET lead_webhook.mute; INSERT INTO leads (id, tenant_id, email) VALUES (5, 'acme', 'a')")
            .await;
        assert_eq!(application.queued().await, ["5 inserted"]);
        for (id, value) in (30..).zip(["off", "OFF", "false", "no", "0"]) {
            let insert = format!("INSERT INTO leads (id, tenant_id, email) VALUES ({id}, 'acme', 'a')");
            application.run(&format!("SET lead_webhook.mute = '{value}'; {insert}")).await;
            assert!(application.queued().await.contains(&format!("{id} inserted")), "{value}");
        }
        assert_eq!(application.missed().await, 0);
    }
}

#[tokio::test]
async fn a_partitioned_table_queues_whatever_partition_is_written() {
    let application = Application::installed_beside(PARTITIONED).await;
    for statement in [
        "INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', 'a'), (101, 'acme', 'a'), (2, 'acme', '')",
        "INSERT INTO leads_high (id, tenant_id, email) VALUES (102, 'acme', 'a')",
        // With its columns in another order.
        "CREATE TABLE leads_new (tenant_id text, id bigint NOT NULL, created_at timestamptz, email text, phone text,
            first_name text, visitor_id text, conversation_id text, last_conversation_at timestamptz)",
        "ALTER TABLE leads ATTACH PARTITION leads_new FOR VALUES FROM (200) TO (300)",
        "INSERT INTO leads_new (id, tenant_id, email) VALUES (201, 'acme', 'a')",
        "CREATE TABLE leads_last PARTITION OF leads FOR VALUES FROM (300) TO (400)",
        "INSERT INTO leads (id, tenant_id, email) VALUES (301, 'acme', 'a')",
        "UPDATE leads SET email = 'b' WHERE id = 2",
    ] {
        application.run(statement).await;
    }
    let expected = ["1 inserted", "2 contact_added", "101 inserted", "102 inserted", "201 inserted", "301 inserted"];
    assert_eq!(application.queued().await, expected);
    application.forget_queued().await;
    // A row that moves is an INSERT to the trigger; the claim knows it.
    application.run("UPDATE leads SET id = 150 WHERE id = 1").await;
    assert_eq!(application.queued().await, ["150 inserted"]);
    assert_eq!(application.missed().await, 0);
    assert_eq!(application.migrate().await, [""; 0], "partitions made later need no migrate");
}

#[tokio::test]
async fn while_a_daemon_waits_it_is_rung_once_for_each_transaction_that_queued_something() {
    let application = Application::installed().await;
    let (config, (sender, mut rings)) = (application.config(), mpsc::channel(8));
    let session = connect_listening(&config.database.url, &config.database, sender).await.unwrap();
    session.client.batch_execute("LISTEN lead_webhook").await.unwrap();
    application.run("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'nobody waits yet')").await;
    application.arm_the_bell().await;
    for statement in [
        "INSERT INTO leads (tenant_id, email) VALUES ('nobody', 'a'), ('acme', '')",
        "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a'), ('acme', 'b')",
        "UPDATE leads SET first_name = 'A'",
        "UPDATE leads SET phone = '1' WHERE email = ''",
        "NOTIFY lead_webhook, 'the last'",
    ] {
        application.run(statement).await;
    }
    for payload in ["", "", "the last"] {
        assert_eq!(patiently("a ring", rings.recv()).await.unwrap().payload(), payload);
    }
}

#[tokio::test]
async fn a_daemon_that_died_costs_the_application_a_bounded_number_of_rings() {
    let application = Application::installed().await;
    let (config, (sender, mut rings)) = (application.config(), mpsc::channel(1024));
    let session = connect_listening(&config.database.url, &config.database, sender).await.unwrap();
    session.client.batch_execute("LISTEN lead_webhook").await.unwrap();
    application.arm_the_bell().await;
    for n in 0..bell::RINGS + 20 {
        application.run(&format!("INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a{n}')")).await;
    }
    application.run("NOTIFY lead_webhook, 'the last'").await;
    let mut rung = 0;
    while patiently("a ring", rings.recv()).await.unwrap().payload().is_empty() {
        rung += 1;
    }
    assert_eq!(rung, bell::RINGS - 1);
}
