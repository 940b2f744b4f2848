//! A transaction pooler in between changes nothing of what is promised: PgBouncer with two server connections for all
//! sessions, which gives each transaction one of them.

use std::time::Duration;

use serde_json::json;

use crate::{
    audit::{Audit, age_heartbeats},
    harness::{
        Answer, Cluster, Database, Gate, Pooler, Process, Receiver, Setup, Stop, patiently, session, until_true,
    },
};

/// What the daemon says where notifications do not come through.
const DEAF: &str = "does not carry notifications";

/// Between two looks at a daemon's log.
const LOOK: Duration = Duration::from_millis(20);

/// An installation whose daemons and commands know no other way than through the pooler.
async fn pooled(settings: &[(&str, &str)]) -> Option<(Setup, Pooler)> {
    pooled_on(Setup::new().await, settings).await
}

async fn pooled_on(setup: Setup, settings: &[(&str, &str)]) -> Option<(Setup, Pooler)> {
    let pooler = Pooler::start(&setup.db, settings).await?;
    setup.edit_config(&[
        ("database.url", json!(pooler.url(&setup.db.daemon_login))),
        ("database.owner_url", json!(pooler.url("postgres"))),
        ("database.poll_interval", json!("200ms")),
    ]);
    setup.endpoint("acme").await;
    Some((setup, pooler))
}

/// A line that says that something did not work.
fn is_trouble(line: &str) -> bool {
    (line.contains(r#""level":"WARN""#) || line.contains(r#""level":"ERROR""#)) && !line.contains(DEAF)
}

fn assert_no_trouble(daemon: &Process) {
    let trouble: Vec<_> = daemon.log().into_iter().filter(|line| is_trouble(line)).collect();
    assert_eq!(trouble, [""; 0]);
}

async fn until(setup: &Setup, what: &str, sql: &str) {
    until_true(&setup.db.admin().await, what, sql).await;
}

#[tokio::test]
async fn several_daemons_send_each_lead_once_while_server_sessions_come_and_go() {
    let Some((setup, pooler)) = pooled(&[]).await else { return };
    let daemons = [setup.daemon(), setup.daemon(), setup.daemon()];
    for round in 1..=10 {
        setup.db.insert_leads("acme", 20).await;
        // Each server session is given up once its transaction has ended.
        pooler.command("RECONNECT").await;
        setup.db.wait_for_log(round * 20).await;
    }
    daemons.iter().for_each(assert_no_trouble);
    let audit = Audit::of(&setup).await;
    audit.assert_sound();
    assert_eq!(audit.delivered, 200);
}

#[tokio::test]
async fn every_command_works_beside_daemons_of_the_same_pool() {
    let Some((setup, pooler)) = pooled(&[]).await else { return };
    setup.db.insert_leads("acme", 5).await;
    setup.run(&["seed"]).await.ok();
    let daemon = setup.daemon();
    let found = setup.db.wait_for_log(5).await;
    let delivery = found[0].delivery_id.to_string();
    for command in [
        &["endpoint", "show", "acme"][..],
        &["endpoint", "list"],
        &["endpoint", "disable", "acme"],
        &["endpoint", "enable", "acme"],
        &["endpoint", "set", "acme", "--timeout", "9s"],
        &["secret", "generate", "acme"],
        &["test", "acme"],
        &["deliveries", "list"],
        &["deliveries", "show", &delivery],
        &["reconcile"],
        &["adopt", "--keep-queue"],
        &["key", "rotate"],
    ] {
        setup.run(command).await.ok();
    }
    let check = setup.run(&["check"]).await.ok().stdout;
    assert!(
        check.contains("to a pooler with TLS where it has any, and from there without TLS to 127.0.0.1"),
        "{check}"
    );
    assert!(check.contains("did not come through") && check.contains("database.listen_url"), "{check}");
    assert_no_trouble(&daemon);
    assert!(!pooler.log().contains("prepared statement"), "{}", pooler.log());
    assert!(!setup.db.cluster.server_log().contains("prepared statement"), "{}", setup.db.cluster.server_log());
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn what_every_statement_relies_on_holds_in_each_transaction_and_nothing_of_it_is_left_to_others() {
    let Some((setup, pooler)) = pooled(&[]).await else { return };
    let admin = setup.db.admin().await;
    // A database that would have claims not durable, lead names to others, and the clock of a place.
    let settings =
        ["synchronous_commit = off", "search_path = public", "TimeZone = 'Asia/Kolkata'", "lock_timeout = 0"];
    for setting in settings {
        admin.batch_execute(&format!("ALTER DATABASE {} SET {setting}", setup.db.name)).await.unwrap();
    }
    let names = "synchronous_commit, search_path, TimeZone, lock_timeout, row_security, idle_in_transaction_session_timeout, \
                 enable_seqscan, statement_timeout, transaction_isolation";
    // Whoever writes one of our tables is noted with the settings that it has.
    let watch = format!(
        "CREATE TABLE public.held (writer text, settings text);
         CREATE FUNCTION public.hold() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
             INSERT INTO public.held SELECT TG_TABLE_NAME,
                 (SELECT string_agg(current_setting(trim(name)), ' ') FROM unnest(string_to_array('{names}', ',')) AS name);
             RETURN NULL;
         END $$;
         CREATE TRIGGER hold AFTER UPDATE ON lead_webhook.outbox EXECUTE FUNCTION public.hold();
         CREATE TRIGGER hold AFTER INSERT ON lead_webhook.deliveries EXECUTE FUNCTION public.hold();
         CREATE TRIGGER hold AFTER INSERT OR UPDATE ON lead_webhook.instances EXECUTE FUNCTION public.hold();"
    );
    admin.batch_execute(&watch).await.unwrap();
    pooler.command("RECONNECT").await;
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 3).await;
    setup.db.wait_for_log(3).await;
    let held = "SELECT DISTINCT writer, settings FROM public.held ORDER BY 1, 2";
    let held: Vec<(String, String)> =
        admin.query(held, &[]).await.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
    let with = |lock: &str| format!("on pg_catalog, pg_temp UTC {lock} off 10s off 0 read committed");
    let expected = [("deliveries", with("10s")), ("instances", with("10s")), ("outbox", with("1s"))];
    assert_eq!(held, expected.map(|(writer, settings)| (writer.to_owned(), settings)));
    // Others of the same login, in the same pool, find the server's sessions as they were.
    let other = session(&pooler.url(&setup.db.daemon_login)).await;
    for _ in 0..20 {
        let sql = "SELECT current_setting('synchronous_commit') || current_setting('search_path') \
                   || current_setting('lock_timeout') || current_setting('enable_seqscan') \
                   || (SELECT count(*) FROM pg_prepared_statements)";
        let found = other.simple_query(sql).await.unwrap();
        let found: Vec<_> = found
            .iter()
            .filter_map(|message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        assert_eq!(found, ["offpublic0on0"]);
    }
    assert_no_trouble(&daemon);
}

/// Types and a function of the application's, which no session knows by itself.
const TYPED_LEADS: &str = "
    CREATE SCHEMA lib;
    CREATE DOMAIN lib.lead_id AS text;
    CREATE TYPE lib.tenant AS ENUM ('acme');
    CREATE FUNCTION lib.tidy(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
    CREATE TABLE leads (id lib.lead_id PRIMARY KEY, org lib.tenant, contact jsonb, at timestamptz DEFAULT now());
    CREATE INDEX ON leads (at)";

#[tokio::test]
async fn types_of_the_applications_are_mapped_and_what_its_triggers_missed_is_swept() {
    let db = Database::create_with(&Cluster::shared(), "").await;
    let grant = format!("GRANT CREATE ON DATABASE {} TO {}", db.name, db.app_login);
    db.admin().await.batch_execute(&grant).await.unwrap();
    db.app().await.batch_execute(TYPED_LEADS).await.unwrap();
    let receiver = Receiver::start_in(db.cluster.folder());
    let setup = Setup::prepare(db, receiver).await;
    setup.edit_config(&[
        ("leads.columns.tenant_id", json!("org")),
        ("leads.columns.email", json!("sql: lib.tidy(lead.contact->>'email')")),
        ("leads.columns.first_name", json!("org")),
        ("leads.columns.phone", json!("")),
        ("leads.columns.visitor_id", json!("")),
        ("leads.columns.conversation_id", json!("")),
        ("leads.columns.captured_at", json!("at")),
        ("leads.columns.last_conversation_at", json!("")),
    ]);
    setup.run(&["migrate"]).await.ok();
    let Some((setup, _pooler)) = pooled_on(setup, &[]).await else { return };
    setup.run(&["check"]).await.ok();
    let app = setup.db.app().await;
    let insert =
        "INSERT INTO leads (id, org, contact) SELECT n, 'acme', jsonb_build_object('email', n || '@EXAMPLE.com')
                  FROM generate_series";
    let admin = setup.db.admin().await;
    let owner = &setup.db.owner_role;
    admin.batch_execute(&format!("REVOKE INSERT ON lead_webhook.outbox FROM {owner}")).await.unwrap();
    app.batch_execute(&format!("{insert} (1, 5) AS n")).await.unwrap();
    admin.batch_execute(&format!("GRANT INSERT ON lead_webhook.outbox TO {owner}")).await.unwrap();
    let daemon = setup.daemon();
    setup.db.wait_for_log(5).await;
    app.batch_execute(&format!("{insert} (6, 10) AS n")).await.unwrap();
    let rows = setup.db.wait_for_log(10).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    let swept = |line: &String| line.contains("leads were queued that triggers had missed");
    assert!(daemon.log().iter().any(swept));
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn what_a_killed_daemon_had_in_flight_is_interrupted_by_another_and_never_sent_again() {
    let Some((setup, _pooler)) = pooled(&[]).await else { return };
    let gate = Gate::closed();
    setup.receiver.queue([Answer::status(200).behind(&gate), Answer::status(200).behind(&gate)]);
    let mut dying = setup.daemon();
    setup.db.insert_leads("acme", 2).await;
    setup.receiver.wait_for(2).await;
    dying.kill9();
    gate.open();
    age_heartbeats(&setup).await;
    let _daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    let rows = setup.db.wait_for_log(3).await;
    assert_eq!(rows.iter().filter(|row| row.status == "interrupted").count(), 2, "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 3);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_pooler_that_dies_and_a_server_that_restarts_behind_it_cost_nothing() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    let Some((setup, mut pooler)) = pooled_on(setup, &[]).await else { return };
    let daemons = [setup.daemon(), setup.daemon()];
    let mut sent = 0;
    for round in 0..4 {
        let gate = Gate::closed();
        setup.receiver.queue([Answer::status(200).behind(&gate), Answer::status(200).behind(&gate)]);
        setup.db.insert_leads("acme", 30).await;
        setup.receiver.wait_for(sent + 2).await;
        sent += 30;
        match round {
            0 | 2 => {
                pooler.kill9();
                gate.open();
                pooler.start_again().await;
            }
            _ => {
                setup.db.cluster.stop(Stop::Immediate).await;
                gate.open();
                setup.db.cluster.start_again().await;
            }
        }
        setup.db.wait_for_log(sent).await;
    }
    drop(daemons);
    let audit = Audit::of(&setup).await;
    audit.assert_sound();
    assert_eq!((audit.delivered, audit.requests), (sent, sent));
}

#[tokio::test]
async fn a_standby_that_takes_over_behind_the_pooler_is_met_before_anything_is_claimed() {
    let setup = Setup::on(&Cluster::start(&[])).await;
    let Some((setup, pooler)) = pooled_on(setup, &[]).await else { return };
    setup.db.insert_leads("acme", 3).await;
    setup.db.cluster.stop(Stop::Fast).await;
    setup.db.cluster.copy_to_standby().await;
    setup.db.cluster.start_again().await;
    let daemon = setup.daemon();
    // The standby knows of none of these.
    setup.db.wait_for_log(3).await;
    // The daemon's sessions stay while the pooler changes the server.
    pooler.command("PAUSE").await;
    setup.db.cluster.fail_over().await;
    setup.db.admin().await.execute("SELECT pg_promote()", &[]).await.unwrap();
    pooler.command("RESUME").await;
    daemon.wait_for_log(|line| line.contains("another server has taken over")).await;
    setup.db.insert_leads("acme", 1).await;
    let rows = setup.db.wait_for_log(4).await;
    assert_eq!(rows.iter().filter(|row| row.status == "interrupted").count(), 3, "{rows:?}");
    assert!(daemon.log().iter().any(|line| line.contains("the pooler leads to another server")), "the session stayed");
    assert_eq!(setup.receiver.requests().len(), 4);
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn where_notifications_do_not_come_through_it_says_so_once_and_commits_do_not_notify_for_it() {
    let Some((setup, mut pooler)) = pooled(&[]).await else { return };
    setup.edit_config(&[("log.level", json!("debug"))]);
    let daemon = setup.daemon();
    let line = daemon.wait_for_log(|line| line.contains(DEAF)).await;
    assert!(line.contains("polling every 200ms") && line.contains("database.listen_url"), "{line}");
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    until(&setup, "commits not to notify", "SELECT last_value >= 256 FROM lead_webhook.bell").await;
    // It tries again with a new pooler, and has said it already.
    pooler.kill9();
    pooler.start_again().await;
    patiently("another try", async {
        while daemon.log().iter().filter(|line| line.contains("no notification came through")).count() < 2 {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(2).await;
    assert_eq!(daemon.log().iter().filter(|line| line.contains(DEAF)).count(), 1);
    until(&setup, "commits not to notify", "SELECT last_value >= 256 FROM lead_webhook.bell").await;
}

#[tokio::test]
async fn once_notifications_come_through_again_it_hears_them() {
    let Some((setup, mut pooler)) = pooled(&[("default_pool_size", "20")]).await else { return };
    setup.edit_config(&[("database.poll_interval", json!("1h"))]);
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains(DEAF)).await;
    pooler.kill9();
    pooler.set("pool_mode", "session");
    pooler.start_again().await;
    daemon.wait_for_log(|line| line.contains("notifications come through now")).await;
    for n in 1..=3 {
        until(&setup, "commits to notify", "SELECT last_value < 128 FROM lead_webhook.bell").await;
        setup.db.insert_leads("acme", 1).await;
        setup.db.wait_for_log(n).await;
    }
}

#[tokio::test]
async fn with_a_listen_url_straight_to_the_server_it_hears_at_once() {
    let Some((setup, _pooler)) = pooled(&[]).await else { return };
    setup.edit_config(&[
        ("database.listen_url", json!(setup.db.url(&setup.db.daemon_login))),
        ("database.poll_interval", json!("1h")),
    ]);
    let daemon = setup.daemon();
    for n in 1..=5 {
        until(&setup, "commits to notify", "SELECT last_value < 128 FROM lead_webhook.bell").await;
        setup.db.insert_leads("acme", 1).await;
        setup.db.wait_for_log(n).await;
    }
    assert!(!daemon.log().iter().any(|line| line.contains(DEAF)));
    assert_no_trouble(&daemon);
    let check = setup.run(&["check"]).await.ok().stdout;
    assert!(check.contains("came through in"), "{check}");
}

#[tokio::test]
async fn a_pooler_in_session_mode_carries_notifications_and_lets_migrate_through() {
    let Some((setup, _pooler)) = pooled(&[("pool_mode", "session"), ("default_pool_size", "20")]).await else { return };
    setup.edit_config(&[("database.poll_interval", json!("1h"))]);
    setup.run(&["migrate"]).await.ok();
    let daemon = setup.daemon();
    for n in 1..=3 {
        until(&setup, "commits to notify", "SELECT last_value < 128 FROM lead_webhook.bell").await;
        setup.db.insert_leads("acme", 1).await;
        setup.db.wait_for_log(n).await;
    }
    assert!(!daemon.log().iter().any(|line| line.contains(DEAF)));
    assert_no_trouble(&daemon);
    drop(daemon);
    Audit::of(&setup).await.assert_sound();
    setup.run(&["uninstall"]).await.ok();
}

#[tokio::test]
async fn migrate_and_uninstall_need_a_session_of_their_own_and_say_how_they_get_it() {
    let Some((setup, pooler)) = pooled(&[]).await else { return };
    for command in [&["migrate"][..], &["migrate", "--dry-run"], &["uninstall"], &["uninstall", "--dry-run"]] {
        let refused = setup.run(command).await;
        assert_eq!(refused.code, Some(78), "{command:?} {refused:?}");
        assert!(refused.stderr.contains("Set database.owner_url to the server itself"), "{}", refused.stderr);
    }
    assert!(setup.run(&["endpoint", "list"]).await.ok().stdout.contains("acme"), "nothing was removed");
    drop(pooler);
    setup.edit_config(&[("database.owner_url", json!(setup.db.admin_url()))]);
    setup.run(&["migrate"]).await.ok();
}

#[tokio::test]
async fn a_pool_that_is_used_up_is_waited_for() {
    let Some((setup, pooler)) = pooled(&[("query_wait_timeout", "1"), ("server_check_delay", "0")]).await else {
        return;
    };
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    setup.db.wait_for_log(1).await;
    // Others of the same login hold both server connections.
    let url = pooler.url(&setup.db.daemon_login);
    let (first, second) = (session(&url).await, session(&url).await);
    first.batch_execute("BEGIN; SELECT 1").await.unwrap();
    second.batch_execute("BEGIN; SELECT 1").await.unwrap();
    setup.db.insert_leads("acme", 5).await;
    daemon.wait_for_log(|line| line.contains("query_wait_timeout") && line.contains("its own log says why")).await;
    drop((first, second));
    setup.db.wait_for_log(6).await;
    let audit = Audit::of(&setup).await;
    audit.assert_sound();
    assert_eq!(audit.delivered, 6);
}

#[tokio::test]
async fn a_pooler_that_takes_no_more_sessions_is_waited_for() {
    let Some((setup, pooler)) = pooled(&[]).await else { return };
    pooler.command("SET max_client_conn = 0").await;
    let daemon = setup.daemon();
    setup.db.insert_leads("acme", 1).await;
    daemon.wait_for_log(|line| line.contains("cannot claim") && line.contains("no more connections allowed")).await;
    pooler.command("SET max_client_conn = 200").await;
    setup.db.wait_for_log(1).await;
    Audit::of(&setup).await.assert_sound();
}

#[tokio::test]
async fn a_pooler_in_statement_mode_is_named_with_the_remedy() {
    let setup = Setup::new().await;
    let Some(pooler) = Pooler::start(&setup.db, &[("pool_mode", "statement")]).await else { return };
    setup.edit_config(&[("database.url", json!(pooler.url(&setup.db.daemon_login)))]);
    let daemon = setup.daemon();
    let line = daemon.wait_for_log(|line| line.contains("pooler in statement mode")).await;
    assert!(line.contains("pool_mode = transaction or session"), "{line}");
    let check = setup.run(&["check"]).await;
    assert_eq!(check.code, Some(1));
    assert!(check.stdout.contains("pooler in statement mode"), "{}", check.stdout);
}
