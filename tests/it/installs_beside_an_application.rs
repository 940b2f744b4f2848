//! Installing, upgrading and removing: by whomever, beside a busy application, once or again, and nothing is left over.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Answer, Application, Cluster, Database, Gate, Receiver, Setup, done, notes};

const INSERT: &str = "INSERT INTO leads (tenant_id, email) VALUES ('acme', 'a@b.c')";

/// What is ours outside of our schema, a line each; `$owner` and `$daemon` stand for the roles.
const LEFT_OVER: &str = "
    SELECT 'schema ' || nspname FROM pg_namespace
    WHERE nspname = 'lead_webhook' OR nspacl::text LIKE '%$owner%' OR nspacl::text LIKE '%$daemon%'
    UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname IN ('$owner', '$daemon')
    UNION ALL SELECT 'right on ' || attname FROM pg_attribute
    WHERE attrelid = 'public.leads'::regclass AND attacl <> '{}' AND NOT attisdropped";

/// Every object and right of ours with the transaction that wrote it last.
const WRITTEN: &str = "
    SELECT 'function ' || proname || ' ' || xmin FROM pg_proc WHERE pronamespace = 'lead_webhook'::regnamespace
    UNION ALL SELECT 'trigger ' || tgname || ' ' || xmin FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'table ' || relname || ' ' || xmin FROM pg_class WHERE relnamespace = 'lead_webhook'::regnamespace
    UNION ALL SELECT 'column ' || attname || ' ' || xmin FROM pg_attribute WHERE attacl IS NOT NULL
    UNION ALL SELECT 'role ' || rolname || ' ' || xmin FROM pg_authid WHERE rolname IN ('$owner', '$daemon')
    UNION ALL SELECT 'installation ' || installation_id || ' ' || xmin FROM lead_webhook.installation
    ORDER BY 1";

/// An application in whose server none of our roles exists yet.
async fn alone() -> Application {
    let application = Application::alone(Database::create(&Cluster::shared()).await).await;
    let name = &application.setup.db.name;
    application.setup.edit_config(&[
        ("database.owner_role", json!(format!("{name}_new_owner"))),
        ("database.daemon_role", json!(format!("{name}_new_daemon"))),
    ]);
    application
}

/// `sql` with the configured roles put in.
fn about_our_roles(application: &Application, sql: &str) -> String {
    let database = application.config().database;
    sql.replace("$owner", &database.owner_role).replace("$daemon", &database.daemon_role)
}

async fn assert_nothing_is_left(application: &Application) {
    let left = application.texts(&about_our_roles(application, LEFT_OVER)).await;
    assert_eq!(left, [""; 0]);
}

/// What is said where all of that goes.
const QUEUED_LEAD_GOES: [&str; 2] =
    ["pending events: 1, which will never be sent", "tenants whose endpoint goes, with its secret: 1"];

async fn assert_leads_are_queued(application: &Application) {
    application.setup.endpoint("acme").await;
    application.run(INSERT).await;
    assert_eq!(application.queued().await.len(), 1);
    assert_eq!(application.broken().await, []);
}

#[tokio::test]
async fn migrating_again_changes_nothing() {
    let application = alone().await;
    let written = about_our_roles(&application, WRITTEN);
    assert!(!application.migrate().await.is_empty());
    let before = application.texts(&written).await;
    let again = application.setup.run(&["migrate"]).await.ok();
    assert_eq!((done(&again), notes(&again)), (vec![], vec![]));
    assert_eq!(application.setup.run(&["migrate", "--dry-run"]).await.ok().stdout, "-- nothing to do\n");
    assert_eq!(application.texts(&written).await, before);
    assert_leads_are_queued(&application).await;
}

#[tokio::test]
async fn two_migrates_at_once_do_it_once() {
    let application = alone().await;
    // The first cannot end before the second has come.
    application.run(&format!("BEGIN; {INSERT}")).await;
    let commit = async {
        let waits = "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_database AS d ON d.oid = database
                     WHERE d.datname = current_database() AND locktype = 'advisory' AND NOT granted)";
        application.until("the second migrate", waits).await;
        application.run("COMMIT").await;
    };
    let migrate = || application.setup.run(&["migrate"]);
    let (one, other, ()) = tokio::join!(migrate(), migrate(), commit);
    let (one, other) = (done(&one.ok()), done(&other.ok()));
    assert!(one.is_empty() != other.is_empty(), "{one:?} {other:?}");
    assert_leads_are_queued(&application).await;
}

#[tokio::test]
async fn a_busy_table_makes_the_triggers_wait_and_is_not_blocked_by_that() {
    let application = alone().await;
    application.run(&format!("BEGIN; {INSERT}")).await;
    let other = application.setup.db.app().await;
    let write = async {
        let mut least = Duration::MAX;
        for _ in 0..4 {
            let waits =
                "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'public.leads'::regclass AND NOT granted)";
            application.until("the migrate that waits for the table", waits).await;
            let started = Instant::now();
            other.batch_execute(INSERT).await.unwrap();
            least = started.elapsed().min(least);
        }
        // A fifth of a second at most, says the program; the quickest of some, on a machine that may be busy.
        assert!(least < Duration::from_millis(400), "{least:?}");
        application.run("COMMIT").await;
    };
    let (migrated, ()) = tokio::join!(application.migrate(), write);
    assert!(migrated.iter().any(|done| done.contains("install the triggers")), "{migrated:?}");
    assert_leads_are_queued(&application).await;
}

#[tokio::test]
async fn the_plan_that_is_printed_changes_nothing_and_its_statements_make_an_install() {
    let application = alone().await;
    let plan = application.setup.run(&["migrate", "--dry-run"]).await.ok().stdout;
    assert!(application.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NULL").await);
    // Three things are the program's alone and stand in for here: the sealed keys, its record of the migrations, and what its
    // daemon's login has found.
    let rights = "GRANT SELECT ON lead_webhook.migrations";
    assert!(plan.contains("($1, $2, $3, $4, $5, ") && plan.contains(rights), "{plan}");
    let by_hand = plan
        .replace("($1, $2, $3, $4, $5, ", "(gen_random_uuid(), NULL, current_database(), '', '', ")
        .replace(rights, &format!("CREATE TABLE lead_webhook.migrations (); {rights}"))
        .replace("$1::timestamptz", "NULL::timestamptz");
    application.administer(&by_hand).await;
    application
        .administer(
            "INSERT INTO lead_webhook.endpoints (tenant_id, url_sealed, host, port, secret_sealed, secret_set_at)
             VALUES ('acme', 'not sealed', 'localhost', 443, 'not sealed', now())",
        )
        .await;
    application.run(INSERT).await;
    assert_eq!((application.queued().await.len(), application.missed().await), (1, 0));
}

#[tokio::test]
async fn what_a_user_may_not_do_is_printed_once_for_the_administrator() {
    let application = alone().await;
    let db = &application.setup.db;
    let operator = format!("{}_operator", db.name);
    application.administer(&format!("CREATE ROLE {operator} LOGIN")).await;
    application.setup.edit_config(&[("database.owner_url", json!(db.url(&operator)))]);
    let refused = application.setup.run(&["migrate"]).await;
    assert_eq!((refused.code, done(&refused)), (Some(1), vec![]));
    let (_, sql) = refused.stderr.split_once("\n\n").expect("the SQL after an empty line");
    for statement in sql.lines() {
        application.administer(statement).await;
    }
    let report = application.setup.run(&["migrate"]).await.ok();
    assert_eq!(notes(&report), [""; 0], "the leads are looked at by the daemon's login");
    assert_leads_are_queued(&application).await;
    // Neither the roles nor the rights on the application's table are this user's to remove: it says so and goes on.
    let report = application.setup.run(&["uninstall"]).await.ok();
    assert!(notes(&report).iter().any(|note| note.contains("not possible")), "{}", report.stderr);
    assert!(application.one::<bool>("SELECT to_regnamespace('lead_webhook') IS NULL").await);
    assert_eq!(application.one::<i64>("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal").await, 0);
}

#[tokio::test]
async fn who_may_create_roles_and_no_schema_leaves_both_to_the_administrator_in_an_order_that_runs() {
    let application = alone().await;
    let db = &application.setup.db;
    application.administer(&format!("ALTER ROLE {} CREATEROLE", db.app_login)).await;
    application.setup.edit_config(&[("database.owner_url", json!(db.url(&db.app_login)))]);
    let refused = application.setup.run(&["migrate"]).await;
    assert_eq!((refused.code, done(&refused)), (Some(1), vec![]));
    let (_, sql) = refused.stderr.split_once("\n\n").expect("the SQL after an empty line");
    application.administer(sql).await;
    application.setup.run(&["migrate"]).await.ok();
    assert_leads_are_queued(&application).await;
}

#[tokio::test]
async fn a_creator_of_roles_who_owns_database_and_table_needs_no_administrator() {
    let application = alone().await;
    let db = &application.setup.db;
    let (name, login) = (&db.name, &db.app_login);
    application.administer(&format!("ALTER ROLE {login} CREATEROLE; ALTER DATABASE {name} OWNER TO {login}")).await;
    application.setup.edit_config(&[("database.owner_url", json!(db.url(login)))]);
    assert_eq!(notes(&application.setup.run(&["migrate"]).await.ok()), [""; 0]);
    assert_leads_are_queued(&application).await;
    assert_eq!(notes(&application.setup.run(&["uninstall"]).await.ok()), QUEUED_LEAD_GOES);
    assert_nothing_is_left(&application).await;
}

#[tokio::test]
async fn a_login_that_is_a_member_without_its_rights_gets_them_by_the_means_of_the_servers_version() {
    let application = alone().await;
    application.migrate().await;
    let login = &application.setup.db.daemon_login;
    let role = application.config().database.daemon_role;
    application.administer(&format!("REVOKE {role} FROM {login}; ALTER ROLE {login} NOINHERIT")).await;
    application.administer(&format!("GRANT {role} TO {login}")).await;
    assert_ne!(application.broken().await, []);
    let report = application.setup.run(&["migrate"]).await.ok();
    if application.setup.db.major_version().await >= 16 {
        assert_eq!(done(&report), [format!("make {login} a member of {role}")]);
    } else {
        let notes = notes(&report);
        let [note] = notes.as_slice() else { panic!("{notes:?}") };
        application.administer(note.split_once("its rights: ").unwrap().1).await;
    }
    assert_eq!(application.broken().await, []);
}

#[tokio::test]
async fn what_follows_all_tables_of_the_application_is_not_stopped_unasked() {
    let application = alone().await;
    application.administer("CREATE PUBLICATION \"All\" FOR ALL TABLES").await;
    let refused = application.setup.run(&["migrate"]).await;
    assert_eq!((refused.code, done(&refused)), (Some(1), vec![]));
    assert!(refused.stderr.contains("publication \"All\" is FOR ALL TABLES"), "{}", refused.stderr);
    assert_nothing_is_left(&application).await;
    let plan = application.setup.run(&["migrate", "--dry-run"]).await.ok().stdout;
    assert!(plan.contains("CREATE TABLE lead_webhook.outbox"), "{plan}");
    application.setup.run(&["migrate", "--published"]).await.ok();
    assert_leads_are_queued(&application).await;
    let told = application.setup.run(&["check"]).await.stdout;
    assert!(told.contains("publication \"All\" is FOR ALL TABLES: its subscribers need these too"), "{told}");
    assert_eq!(done(&application.setup.run(&["migrate"]).await.ok()), [""; 0], "nothing new would be published");
}

#[tokio::test]
async fn uninstalling_leaves_nothing_and_can_be_repeated() {
    let application = alone().await;
    application.migrate().await;
    let plan = application.setup.run(&["uninstall", "--dry-run"]).await.ok().stdout;
    assert!(plan.contains("DROP FUNCTION") && plan.contains("DROP SCHEMA lead_webhook"), "{plan}");
    assert_leads_are_queued(&application).await;
    // Rights on a column outlive it.
    application.run("ALTER TABLE leads ADD handle text").await;
    application.setup.edit_config(&[("leads.columns.first_name", json!("handle"))]);
    application.migrate().await;
    application.run("ALTER TABLE leads DROP handle").await;
    assert_eq!(notes(&application.setup.run(&["uninstall"]).await.ok()), QUEUED_LEAD_GOES);
    assert_nothing_is_left(&application).await;
    application.setup.edit_config(&[("leads.columns.first_name", json!("first_name"))]);
    let again = application.setup.run(&["uninstall"]).await.ok();
    assert_eq!((done(&again), notes(&again)), (vec![], vec![]));
    application.run(INSERT).await;
    assert_eq!(application.warnings(), [""; 0]);
    application.migrate().await;
    assert_leads_are_queued(&application).await;
}

#[tokio::test]
async fn uninstalling_leaves_all_as_it_is_while_the_application_has_a_view_of_ours() {
    let application = alone().await;
    application.migrate().await;
    application.administer("CREATE VIEW public.sent AS SELECT * FROM lead_webhook.delivery_log").await;
    for args in [&["uninstall"][..], &["uninstall", "--keep-log"]] {
        let refused = application.setup.run(args).await;
        assert_eq!((refused.code, done(&refused)), (Some(1), vec![]), "{}", refused.stderr);
        assert!(refused.stderr.contains("is used by view public.sent: drop that first"), "{}", refused.stderr);
    }
    assert_leads_are_queued(&application).await;
    application.administer("DROP VIEW public.sent").await;
    application.setup.run(&["uninstall"]).await.ok();
    assert_nothing_is_left(&application).await;
}

#[tokio::test]
async fn uninstalling_that_ends_in_the_middle_says_what_is_done() {
    let application = alone().await;
    application.migrate().await;
    // Nothing looks for functions over our rows.
    let uses = "CREATE FUNCTION public.uses(lead_webhook.deliveries) RETURNS int LANGUAGE sql AS 'SELECT 1'";
    application.administer(uses).await;
    let ended = application.setup.run(&["uninstall"]).await;
    assert_eq!(ended.code, Some(1));
    let done = done(&ended);
    assert!(matches!(&done[..], [one] if one.contains("remove the trigger functions and the triggers on")), "{done:?}");
    application.administer("DROP FUNCTION public.uses").await;
    application.setup.run(&["uninstall"]).await.ok();
    assert_nothing_is_left(&application).await;
}

#[tokio::test]
async fn a_kept_log_is_found_again_by_the_next_install() {
    let application = alone().await;
    application.migrate().await;
    application
        .administer(
            "INSERT INTO lead_webhook.deliveries
                 (delivery_id, event_id, tenant_id, lead_id, event, status, reason, queued_at, finished_at)
             VALUES (gen_random_uuid(), gen_random_uuid(), 'acme', '1', 'lead.created', 'skipped', 'gone', now(), now())",
        )
        .await;
    let owner = application.config().database.owner_role;
    for _ in 0..2 {
        let report = application.setup.run(&["uninstall", "--keep-log"]).await.ok();
        assert_eq!(notes(&report), [format!("role {owner} stays: it owns the kept log")]);
        let left = "SELECT relname::text FROM pg_class
                    WHERE relnamespace = 'lead_webhook'::regnamespace AND relkind IN ('r', 'S')";
        assert_eq!(application.texts(left).await, ["deliveries"]);
    }
    application.migrate().await;
    assert_eq!(application.setup.db.log_rows().await[0].lead_id, "1");
    assert_eq!(application.migrate().await, [""; 0]);
    assert_leads_are_queued(&application).await;
    application.setup.run(&["uninstall", "--keep-log"]).await.ok();
    assert_eq!(notes(&application.setup.run(&["uninstall"]).await.ok()), [""; 0]);
    assert_nothing_is_left(&application).await;
    assert_eq!(
        notes(&application.setup.run(&["uninstall", "--keep-log"]).await.ok()),
        [""; 0],
        "there is no log to keep"
    );
}

#[tokio::test]
async fn uninstalling_says_what_goes_and_who_still_runs() {
    let setup = Setup::new().await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    for tenant in ["acme", "other"] {
        setup.endpoint(tenant).await;
    }
    let mut daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.receiver.wait_for(1).await;
    let pid = daemon.id();
    daemon.kill9();
    // Its last heartbeat counts for as long as this test may take.
    let later = "UPDATE lead_webhook.instances SET renewed_at = clock_timestamp() + interval '1 hour'";
    setup.db.admin().await.batch_execute(later).await.unwrap();
    for n in 1..=3 {
        setup.db.insert_lead("other", &format!("lead{n}@example.com")).await;
    }
    let expected = [
        "pending events: 3, which will never be sent".to_owned(),
        "attempts in flight: 1, whose outcomes will not be logged".to_owned(),
        "tenants whose endpoint goes, with its secret: 2".to_owned(),
        format!("daemons that run, and are to be stopped: process {pid} on "),
    ];
    let planned = setup.run(&["uninstall", "--dry-run"]).await.ok();
    for line in &expected {
        assert!(planned.stdout.contains(&format!("-- note: {line}")), "{}", planned.stdout);
    }
    let notes = notes(&setup.run(&["uninstall"]).await.ok());
    assert_eq!(notes.len(), expected.len(), "{notes:?}");
    assert!(notes.iter().zip(&expected).all(|(note, line)| note.starts_with(line.as_str())), "{notes:?}");
}

#[tokio::test]
async fn uninstalling_leaves_a_role_alone_that_migrate_did_not_make_or_that_somebody_logs_in_by() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    let (admin, owner, daemon) = (setup.db.admin().await, &setup.db.owner_role, &setup.db.daemon_role);
    admin.batch_execute(&format!("CREATE ROLE {owner} NOLOGIN")).await.unwrap();
    setup.run(&["migrate"]).await.ok();
    admin.batch_execute(&format!("ALTER ROLE {daemon} LOGIN")).await.unwrap();
    let said = setup.run(&["uninstall"]).await.ok().stderr;
    for role in [owner, daemon] {
        assert!(said.contains(&format!("role {role} stays as it is")), "{said}");
    }
    let left = "SELECT count(*) FROM pg_roles WHERE rolname = ANY ($1)";
    assert_eq!(admin.query_one(left, &[&vec![owner, daemon]]).await.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test]
async fn where_not_everybody_may_connect_the_daemon_gets_the_right_and_gives_it_back() {
    let application = alone().await;
    let setup = &application.setup;
    let (name, app) = (&setup.db.name, &setup.db.app_login);
    application
        .administer(&format!(
            "GRANT CONNECT ON DATABASE {name} TO {app}; REVOKE CONNECT ON DATABASE {name} FROM PUBLIC"
        ))
        .await;
    let done = application.migrate().await;
    let daemon = application.config().database.daemon_role;
    assert!(done.contains(&format!("let {daemon} connect to the database")), "{done:?}");
    assert_eq!(application.migrate().await, [""; 0]);
    assert_leads_are_queued(&application).await;
    application.setup.run(&["uninstall"]).await.ok();
    assert_nothing_is_left(&application).await;
}
