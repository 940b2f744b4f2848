//! The application's table may look as it likes: names and expressions are mapped, and every fault of a mapping is told
//! at once, before anything is installed.

use serde_json::{Value, json};

use crate::harness::{Application, Cluster, Database};

/// Nothing in it is called, or typed, as the default mapping would have it.
const CONTACTS: &str = "
    CREATE SCHEMA lib;
    CREATE FUNCTION lib.tidy(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
    REVOKE ALL ON FUNCTION lib.tidy FROM PUBLIC;
    CREATE TYPE lib.kind AS ENUM ('a', 'b');
    CREATE TABLE leads (id int PRIMARY KEY, org int, contact jsonb, at double precision, day date, secret text, kind text)";

const IN_PARTITIONS: (&str, &str) = (
    "secret text, kind text)",
    "secret text, kind text) PARTITION BY LIST (id); CREATE TABLE p PARTITION OF leads DEFAULT",
);

fn contacts() -> [(&'static str, Value); 8] {
    [
        ("leads.columns.tenant_id", json!("sql: 'org-' || lead.org")),
        ("leads.columns.email", json!("sql: lib.tidy(lead.contact->>'email')")),
        ("leads.columns.phone", json!(r"sql: regexp_replace(lead.contact->>'phone', '\D', '', 'g')")),
        ("leads.columns.first_name", json!("sql: lead.kind::lib.kind")),
        ("leads.columns.visitor_id", json!("")),
        ("leads.columns.conversation_id", json!("sql: to_char(now(), 'YYYY')")),
        ("leads.columns.captured_at", json!("sql: to_timestamp(lead.at)")),
        ("leads.columns.last_conversation_at", json!("day")),
    ]
}

/// A database in which the application may make schemas of its own.
async fn database(tables: &str) -> Database {
    let db = Database::create_with(&Cluster::shared(), "").await;
    let grant = format!("GRANT CREATE ON DATABASE {} TO {}", db.name, db.app_login);
    db.admin().await.batch_execute(&grant).await.unwrap();
    db.app().await.batch_execute(tables).await.unwrap();
    db
}

#[tokio::test]
async fn expressions_over_the_row_are_mapped_in_every_session() {
    let partitioned = CONTACTS.replace(IN_PARTITIONS.0, IN_PARTITIONS.1);
    for tables in [CONTACTS, &partitioned] {
        let application = Application::installed_in(database(tables).await, &contacts()).await;
        application.setup.endpoint("org-7").await;
        application.run("SET standard_conforming_strings = off; SET TimeZone = 'America/New_York'").await;
        application
            .run(
                r#"INSERT INTO leads VALUES (1, 7, '{"email": "A@B.C"}', 0, NULL), (2, 7, '{}', 0, NULL),
                    (3, 7, '{"phone": "--"}', 0, NULL), (4, 7, '{"phone": "-1"}', 0, NULL), (5, 7, '"no object"', 0, NULL)"#,
            )
            .await;
        assert_eq!(application.queued().await, ["1 inserted", "4 inserted"]);
        application.forget_queued().await;
        for change in ["day = '1970-01-31'", "day = '1970-03-01'", "day = '1970-04-01', at = 1"] {
            application.run(&format!("UPDATE leads SET {change} WHERE id = 1")).await;
        }
        let came_back = ["1 came_back 1970-01-01 00:00:00", "1 came_back 1970-03-01 00:00:00"];
        assert_eq!(application.queued().await, came_back);
        assert_eq!(application.missed().await, 0);
    }
}

/// Text of two collations is compared by neither's index, or not at all.
#[tokio::test]
async fn ids_of_text_are_read_by_their_index_and_reconciled_whatever_their_collation() {
    const LEADS: i64 = 100;
    for collation in ["", "COLLATE \"POSIX\""] {
        let table = format!(
            "CREATE TABLE leads (id text {collation} PRIMARY KEY, tenant_id text {collation}, email text, phone text,
                first_name text, visitor_id text, conversation_id text, created_at timestamptz DEFAULT clock_timestamp(),
                last_conversation_at timestamptz);
             CREATE INDEX ON leads (created_at)"
        );
        let application = Application::installed_in(database(&table).await, &[]).await;
        let setup = &application.setup;
        let insert = "INSERT INTO leads (id, tenant_id, email) SELECT 'lead-' || n, 'acme', n || '@example.com' FROM generate_series(1, ";
        application.run(&format!("{insert}{LEADS}) n")).await;
        // A session's figures are there when it has ended.
        let looked_up = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'leads_pkey'";
        let before: i64 = application.one(looked_up).await;
        let mut daemon = setup.daemon();
        let rows = setup.db.wait_for_log(LEADS.unsigned_abs().try_into().unwrap()).await;
        assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
        daemon.signal("TERM");
        assert!(daemon.wait().await.success());
        application.until("each lead's look-up", &format!("SELECT ({looked_up}) - {before} >= {LEADS}")).await;
        setup.run(&["reconcile"]).await.ok();
    }
}

#[tokio::test]
async fn the_daemon_may_read_the_columns_that_are_mapped_and_no_other() {
    let application = Application::installed_in(database(CONTACTS).await, &contacts()).await;
    assert_eq!(application.broken().await, []);
    let daemon = application.setup.db.daemon().await;
    daemon.query("SELECT id, org, contact, at, day, kind FROM public.leads", &[]).await.unwrap();
    for other in ["SELECT secret FROM public.leads", "DELETE FROM public.leads", "UPDATE public.leads SET kind = 'b'"] {
        assert_eq!(daemon.query(other, &[]).await.unwrap_err().code().unwrap().code(), "42501", "{other}");
    }
    application.setup.edit_config(&[("leads.columns.first_name", json!(""))]);
    application.migrate().await;
    let unmapped = daemon.query("SELECT kind FROM public.leads", &[]).await.unwrap_err();
    assert_eq!(unmapped.code().unwrap().code(), "42501", "what is no longer mapped is taken back");
}

#[tokio::test]
async fn times_of_any_type_are_utc_and_an_infinite_one_counts_as_absent() {
    let table =
        "CREATE TABLE leads (id int PRIMARY KEY, tenant_id text, email text, created_at timestamp, talked date)";
    let config = ["phone", "first_name", "visitor_id", "conversation_id"].map(|key| format!("leads.columns.{key}"));
    let mut config: Vec<_> = config.iter().map(|key| (key.as_str(), json!(""))).collect();
    config.push(("leads.columns.last_conversation_at", json!("talked")));
    let application = Application::installed_in(database(table).await, &config).await;
    application
        .run(
            "SET TimeZone = 'Asia/Tokyo';
             INSERT INTO leads VALUES (1, 'acme', 'a', '2026-04-22 10:15:00.0009', '2026-01-01'),
                (2, 'acme', 'b', 'infinity', '-infinity')",
        )
        .await;
    let setup = &application.setup;
    let _daemon = setup.daemon();
    let rows = setup.db.wait_for_log(2).await;
    application.run("UPDATE leads SET talked = '2026-03-01'").await;
    setup.db.wait_for_log(3).await;
    let requests = setup.receiver.requests();
    let sent = |event: &str, lead: &str| {
        let mut bodies = requests.iter().map(crate::harness::Request::json);
        bodies.find(|body| body["event"] == event && body["leadId"] == lead).expect("a request")
    };
    assert_eq!(sent("lead.created", "1")["capturedAt"], "2026-04-22T10:15:00.000Z");
    let queued_at = rows.iter().find(|row| row.lead_id == "2").unwrap().queued_at;
    assert_eq!(sent("lead.created", "2")["capturedAt"], format!("{queued_at:.3}"), "the queue's time stands in");
    assert_eq!(sent("lead.re_engaged", "1")["lastConversationAt"], "2026-01-01T00:00:00.000Z");
    assert_eq!(requests.len(), 3, "an absent time says nothing about a silence");
}

#[tokio::test]
async fn leads_that_are_mapped_anew_wait_for_a_daemon_that_knows_them() {
    let table = "CREATE TABLE leads (id bigint PRIMARY KEY, tenant_id text, email text, phone text, first_name text,
        visitor_id text, conversation_id text, created_at timestamptz DEFAULT now(), last_conversation_at timestamptz,
        mail text)";
    let application = Application::installed_beside(table).await;
    let mut daemon = application.setup.daemon();
    application.run("INSERT INTO leads (id, tenant_id, email) VALUES (1, 'acme', '1@example.com')").await;
    application.setup.db.wait_for_log(1).await;
    // Whether it meets such a lead first, or looks in time.
    for (id, email, is_first) in
        [(2, "sql: coalesce(lead.mail, lead.email)", true), (3, "sql: coalesce(lead.email, lead.mail)", false)]
    {
        application.setup.edit_config(&[("leads.columns.email", json!(email))]);
        assert!(application.migrate().await.contains(&"note what is mapped".to_owned()));
        let insert = format!("INSERT INTO leads (id, tenant_id, mail) VALUES ({id}, 'acme', '{id}@example.com')");
        let says_so = |line: &str| line.contains("the triggers go by another table") && line.contains("restart it");
        if is_first {
            application.run(&insert).await;
            daemon.wait_for_log(says_so).await;
        } else {
            daemon.wait_for_log(says_so).await;
            application.run(&insert).await;
        }
        assert_eq!(application.setup.db.log_rows().await.len(), id - 1, "nothing is gone");
        daemon.signal("TERM");
        daemon.wait().await;
        daemon = application.setup.daemon();
        let rows = application.setup.db.wait_for_log(id).await;
        assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    }
}

#[tokio::test]
async fn every_fault_of_a_mapping_is_told_at_once_and_nothing_is_installed() {
    let application = Application::alone(Database::create(&Cluster::shared()).await).await;
    let faults = [
        ("id", "sql: (SELECT min(l.id::text) FROM public.leads AS l)", "has a subquery"),
        ("tenant_id", "sql: coalesce(lead.tenant_id, random()::text)", "calls random(), which is volatile"),
        ("email", "emial", "has no such column. Perhaps you meant to reference the column \"email\"."),
        ("phone", "sql: phone", "column reference \"phone\" is ambiguous: write lead.column"),
        ("first_name", "sql: max(lead.first_name)", "has an aggregate function"),
        ("visitor_id", "sql: regexp_split_to_table(lead.visitor_id, ',')", "makes more than one value"),
        ("conversation_id", "sql: lead.conversation_id || $1", "has parameters"),
        ("captured_at", "sql: extract(epoch FROM lead.created_at)", "for Unix seconds write \"sql: to_timestamp("),
        ("last_conversation_at", "sql: lead.last_conversation_at +", "syntax error"),
    ];
    for (key, value, _) in faults {
        application.setup.edit_config(&[(&format!("leads.columns.{key}"), json!(value))]);
    }
    let output = application.setup.run(&["migrate"]).await;
    assert_eq!(output.code, Some(1));
    for (key, _, part) in faults {
        let key = format!("leads.columns.{key} = ");
        assert!(output.stderr.lines().any(|line| line.contains(&key) && line.contains(part)), "{}", output.stderr);
    }
    assert_eq!(output.stderr.lines().count(), faults.len(), "{}", output.stderr);
    assert!(application.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NULL").await);
}

#[tokio::test]
async fn an_id_or_tenant_that_sessions_spell_variously_or_that_names_no_lead_is_refused() {
    let application = Application::alone(Database::create(&Cluster::shared()).await).await;
    let mut cases = vec![
        ("id", "convert_to(lead.id::text, 'UTF8')", "is bytea, whose text depends on a session's settings"),
        ("tenant_id", "convert_to(lead.tenant_id, 'UTF8')", "is bytea, whose text depends on a session's settings"),
        ("id", "lead.created_at", "is timestamp with time zone, whose text depends on a session's settings"),
        ("id", "to_json(lead.id)", "is json, and two of them cannot be compared"),
        ("id", "ARRAY[lead.id]", "is uuid[], and two of them cannot be compared"),
    ];
    let has_citext = "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citext')";
    if application.one::<bool>(has_citext).await {
        application.administer("CREATE EXTENSION citext WITH SCHEMA public").await;
        cases.push(("id", "lead.email::public.citext", "map \"sql: ((lead.email::public.citext))::text\""));
    }
    for (column, expression, fault) in cases {
        application.setup.edit_config(&[
            ("leads.columns.id", json!("id")),
            ("leads.columns.tenant_id", json!("tenant_id")),
            (&format!("leads.columns.{column}"), json!(format!("sql: {expression}"))),
        ]);
        let (output, key) = (application.setup.run(&["migrate"]).await, format!("leads.columns.{column} = "));
        assert_eq!(output.code, Some(1), "{expression}");
        assert!(output.stderr.contains(&key) && output.stderr.contains(fault), "{}", output.stderr);
    }
}

#[tokio::test]
async fn a_time_that_is_kept_as_text_is_read_alike_in_every_session() {
    let leads = CONTACTS.replace("day date", "day text");
    let mut mapping = contacts();
    mapping[7].1 = json!("sql: lead.day::timestamptz");
    let application = Application::installed_in(database(&leads).await, &mapping).await;
    application.setup.endpoint("org-7").await;
    application.run(r#"INSERT INTO leads VALUES (1, 7, '{"email": "A@B.C"}', 0, '2026-01-01 12:00')"#).await;
    application.forget_queued().await;
    application.run("SET TimeZone = 'America/New_York'; UPDATE leads SET day = '2026-03-01 12:00'").await;
    assert_eq!(application.queued().await, ["1 came_back 2026-01-01 12:00:00"]);
}

#[tokio::test]
async fn a_column_that_a_trigger_does_not_see_is_refused_where_it_would_lose_leads_and_noticed_where_it_comes_later() {
    let db = Database::create_with(&Cluster::shared(), "").await;
    if !db.has("virtual generated columns", 18).await {
        return;
    }
    let column = "text GENERATED ALWAYS AS (contact->>'email') VIRTUAL";
    let table = "CREATE TABLE leads (id int PRIMARY KEY, tenant_id text, contact jsonb, name $, email $)";
    db.app().await.batch_execute(&table.replace('$', column)).await.unwrap();
    let application = Application::alone(db).await;
    for key in ["phone", "visitor_id", "conversation_id", "captured_at", "last_conversation_at"] {
        application.setup.edit_config(&[(&format!("leads.columns.{key}"), json!(""))]);
    }
    application.setup.edit_config(&[("leads.columns.first_name", json!("name"))]);
    for email in ["email", "sql: lower(lead.email)"] {
        application.setup.edit_config(&[("leads.columns.email", json!(email))]);
        let refused = application.setup.run(&["migrate"]).await;
        assert_eq!(refused.code, Some(1));
        let told = format!("leads.columns.email = {email:?}: reads email, a virtual generated column, ");
        assert!(refused.stderr.contains(&told), "{}", refused.stderr);
        assert_eq!(refused.stderr.lines().count(), 1, "the name is read by the claim alone: {}", refused.stderr);
    }
    application.setup.edit_config(&[("leads.columns.email", json!("sql: lead.contact->>'email'"))]);
    application.migrate().await;
    application.setup.endpoint("acme").await;
    application.run(r#"INSERT INTO leads VALUES (1, 'acme', '{"email": "a@b.c"}')"#).await;
    assert_eq!(application.queued().await, ["1 inserted"]);
    assert_eq!(application.broken().await, []);
    application.setup.edit_config(&[("leads.columns.email", json!("email"))]);
    let broken = application.broken().await;
    assert!(broken.iter().any(|(text, _)| text.contains("a virtual generated column")), "{broken:?}");
}

#[tokio::test]
async fn a_table_that_cannot_have_the_triggers_is_told_with_the_remedy() {
    let application = Application::alone(Database::create(&Cluster::shared()).await).await;
    application.run("CREATE VIEW v AS SELECT 1; CREATE TABLE p (id int) PARTITION BY LIST (id)").await;
    application.run("CREATE TABLE p1 PARTITION OF p DEFAULT").await;
    for (table, part) in [
        ("Leads", "did you mean public.leads?"),
        ("v", "name the table behind it"),
        ("p1", "name the partitioned table"),
        ("nothing", "there is no such table"),
    ] {
        application.setup.edit_config(&[("leads.table", json!(format!("public.{table}")))]);
        let output = application.setup.run(&["migrate"]).await;
        assert_eq!(output.code, Some(1));
        let told = output.stderr.contains("leads.table = \"public.") && output.stderr.contains(part);
        assert!(told, "{table}: {}", output.stderr);
    }
    assert!(application.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NULL").await);
}
