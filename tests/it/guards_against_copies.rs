//! A restored or cloned database sends nothing, and nothing is written in it, until an operator says what it is. Then the
//! daemons that run go on by themselves.

use std::{fs, process::Command};

use serde_json::json;

use crate::harness::{Answer, Cluster, Database, Gate, Process, Setup};

/// A setup without a daemon, with `n` leads of tenant `acme` in the queue.
async fn with_pending(n: usize) -> Setup {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    for i in 0..n {
        setup.db.insert_lead("acme", &format!("pending{i}@example.com")).await;
    }
    setup
}

/// Lets the setup's configuration lead to `db`; the database before.
fn point_at(setup: &mut Setup, db: Database) -> Database {
    let before = std::mem::replace(&mut setup.db, db);
    setup.edit_config(&[
        ("database.url", json!(setup.db.url(&setup.db.daemon_login))),
        ("database.owner_url", json!(setup.db.admin_url())),
    ]);
    before
}

/// Waits until both parts of the daemon have looked: the dispatcher's line.
async fn guarded(daemon: &Process) -> String {
    daemon.wait_for_log(|line| line.contains("nothing is written, outcomes are kept")).await;
    daemon.wait_for_log(|line| line.contains("cannot claim")).await
}

async fn count(db: &Database, what: &str) -> i64 {
    db.admin().await.query_one(&format!("SELECT count(*) FROM lead_webhook.{what}"), &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_copy_sends_nothing_until_its_queue_is_discarded_and_then_the_same_daemon_goes_on() {
    let mut setup = with_pending(2).await;
    let copy = setup.db.copy().await;
    let original = point_at(&mut setup, copy);
    let daemon = setup.daemon();
    let said = guarded(&daemon).await;
    let name = format!("is called \\\"{}\\\", not \\\"{}\\\"", setup.db.name, original.name);
    assert!(said.contains("ERROR") && (said.contains(&name) || said.contains(&name.replace('\\', ""))), "{said}");
    assert!(said.contains("adopt --keep-queue") && said.contains("adopt --discard-queue"), "{said}");
    let check = setup.run(&["check"]).await;
    let line = check.stdout.lines().find(|line| line.contains("clone guard")).unwrap();
    assert!(line.starts_with("fail") && line.contains("adopt --discard-queue"), "{line}");
    assert_eq!(check.code, Some(1));
    setup.db.insert_lead("acme", "third@example.com").await;

    let adopted = setup.run(&["adopt", "--discard-queue"]).await.ok().stderr;
    assert!(adopted.contains("3 events logged as skipped / discarded (3 pending, 0 in flight"), "{adopted}");
    let rows = setup.db.log_rows().await;
    let discarded = |row: &&crate::harness::LogRow| row.reason.as_deref() == Some("discarded");
    assert_eq!(rows.iter().filter(discarded).count(), 3, "{rows:?}");
    setup.db.insert_lead("acme", "new@example.com").await;
    assert_eq!(setup.db.wait_for_log(4).await[3].status, "delivered");
    assert_eq!(setup.receiver.requests().len(), 1);
    assert_eq!(daemon.log().iter().filter(|line| line.contains("cannot claim")).count(), 1, "it is said once");
    let again = setup.run(&["adopt", "--discard-queue"]).await.ok().stderr;
    assert!(again.contains("nothing differs, and nothing is changed"), "{again}");
    let check = setup.run(&["check"]).await.stdout;
    assert!(check.lines().any(|line| line.starts_with("ok") && line.contains("clone guard")), "{check}");
}

#[tokio::test]
async fn what_the_original_missed_is_not_sent_from_an_adopted_copy_also_where_captured_times_are_ahead() {
    let mut setup = with_pending(0).await;
    let admin = setup.db.admin().await;
    let ahead = "CREATE INDEX ON leads (created_at);
                 INSERT INTO leads (tenant_id, email, created_at) VALUES ('acme', 'a', now()), ('acme', 'b', now() + interval '1 hour');
                 DELETE FROM lead_webhook.outbox";
    admin.batch_execute(ahead).await.unwrap();
    drop(admin);
    let copy = setup.db.copy().await;
    let _original = point_at(&mut setup, copy);
    setup.run(&["adopt", "--discard-queue"]).await.ok();
    setup.edit_config(&[("log.level", json!("debug"))]);
    let daemon = setup.daemon();
    daemon.wait_for_log(|line| line.contains("\"swept")).await;
    assert_eq!((count(&setup.db, "outbox").await, count(&setup.db, "deliveries").await), (0, 0));
}

#[tokio::test]
async fn what_is_pending_is_sent_once_where_the_queue_is_kept() {
    let mut setup = with_pending(2).await;
    let copy = setup.db.copy().await;
    let _original = point_at(&mut setup, copy);
    let daemon = setup.daemon();
    guarded(&daemon).await;
    assert_eq!((count(&setup.db, "deliveries").await, count(&setup.db, "instances").await), (0, 0));
    let adopted = setup.run(&["adopt", "--keep-queue"]).await.ok().stderr;
    assert!(adopted.contains("kept: the queue, 2 pending, 0 in flight"), "{adopted}");
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    assert_eq!(setup.receiver.requests().len(), 2);
}

/// The whole database under the same name on a server of its own, by `pg_dump` with these arguments, with the roles that
/// it needs. `None`, and said: a program is not here.
fn restored_elsewhere(db: &Database, arguments: &str) -> Option<Database> {
    if !db.cluster.has_programs(&["pg_dump", "pg_dumpall", "createdb", "psql"]) {
        return None;
    }
    let cluster = Cluster::start(&[]);
    let script = "set -eu
        at() { program=$1 port=$2; shift 2; \"$bin/$program\" -h 127.0.0.1 -p \"$port\" -U postgres \"$@\"; }
        bin=$1 from=$2 to=$3 name=$4 arguments=$5
        at pg_dumpall $from --roles-only | at psql $to -q -d postgres
        at createdb $to \"$name\"
        at pg_dump $from $arguments -d \"$name\" | at psql $to -q -v ON_ERROR_STOP=1 -d \"$name\"";
    let bin = cluster.binary("");
    let (from, to) = (db.cluster.port().to_string(), cluster.port().to_string());
    let done = Command::new("sh")
        .args(["-c", script, "restore"])
        .arg(bin)
        .args([&from, &to, &db.name, arguments])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    Some(db.called(&cluster, &db.name))
}

#[tokio::test]
async fn a_dump_that_was_restored_on_another_server_is_told_by_the_servers_identifier() {
    let mut setup = with_pending(1).await;
    let Some(elsewhere) = restored_elsewhere(&setup.db, "") else { return };
    let _original = point_at(&mut setup, elsewhere);
    let daemon = setup.daemon();
    let said = guarded(&daemon).await;
    assert!(said.contains("system identifier is") && !said.contains("is called"), "{said}");
    setup.run(&["adopt", "--keep-queue"]).await.ok();
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    setup.db.cluster.restart(crate::harness::Stop::Fast).await;
    setup.db.insert_lead("acme", "after@example.com").await;
    setup.db.wait_for_log(2).await;
    assert_eq!(setup.receiver.requests().len(), 2, "a restart of the same server is none");
}

#[tokio::test]
async fn a_dump_that_was_restored_in_place_sends_nothing_again() {
    let setup = with_pending(1).await;
    let db = &setup.db;
    if !db.cluster.has_programs(&["pg_dump", "psql"]) {
        return;
    }
    let (port, dump) = (db.cluster.port().to_string(), setup.path("night.sql"));
    let run = |program: &str, arguments: &[&str]| {
        let to = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", &db.name, "-f", dump.to_str().unwrap()];
        let done = Command::new(db.cluster.binary(program)).args(to).args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    run("pg_dump", &[]);
    let mut daemon = setup.daemon();
    db.wait_for_log(1).await;
    daemon.signal("TERM");
    daemon.wait().await;
    let server = db.server().await;
    for sql in [format!("DROP DATABASE {} WITH (FORCE)", db.name), format!("CREATE DATABASE {}", db.name)] {
        server.batch_execute(&sql).await.unwrap();
    }
    run("psql", &["-q", "-v", "ON_ERROR_STOP=1"]);
    let said = guarded(&setup.daemon()).await;
    assert!(said.contains("restored from a dump") && !said.contains("system identifier is"), "{said}");
    let _daemon = setup.daemon();
    let adopted = setup.run(&["adopt", "--discard-queue"]).await.ok().stderr;
    assert!(adopted.contains("restored from a dump") && adopted.contains("(1 pending, 0 in flight"), "{adopted}");
    db.insert_lead("acme", "after@example.com").await;
    db.wait_for_log(2).await;
    assert_eq!(setup.receiver.requests().len(), 2, "the one of before, and the one of after");
}

#[tokio::test]
async fn a_dump_that_was_restored_without_owners_and_rights_is_put_right_by_a_migrate() {
    let mut setup = with_pending(1).await;
    let Some(elsewhere) = restored_elsewhere(&setup.db, "--no-owner --no-privileges") else { return };
    let _original = point_at(&mut setup, elsewhere);
    let applications = format!("ALTER TABLE leads OWNER TO {}", setup.db.app_login);
    setup.db.admin().await.batch_execute(&applications).await.unwrap();
    let refused = setup.run(&["uninstall"]).await;
    assert!(refused.stderr.contains("run `lead-webhook migrate` where a dump was restored"), "{}", refused.stderr);
    let done = setup.run(&["migrate"]).await.ok().stderr;
    assert!(done.contains(&format!("done: give what is ours to {}", setup.db.owner_role)), "{done}");
    assert!(done.contains("note: ") && done.contains("adopt --discard-queue"), "{done}");
    assert_eq!(setup.run(&["migrate", "--dry-run"]).await.ok().stdout, "-- nothing to do\n");
    let daemon = setup.daemon();
    guarded(&daemon).await;
    setup.run(&["adopt", "--keep-queue"]).await.ok();
    setup.db.insert_lead("acme", "after@example.com").await;
    assert!(setup.db.wait_for_log(2).await.iter().all(|row| row.status == "delivered"));
}

#[tokio::test]
async fn nothing_is_reaped_in_a_copy_and_what_was_in_flight_in_the_original_is_discarded_too() {
    let mut setup = with_pending(1).await;
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let mut dead = setup.daemon();
    setup.receiver.wait_for(1).await;
    dead.kill9();
    // So old that a daemon that may would take the claim over at its first beat; the server itself must be older.
    let age = "SELECT pg_sleep(greatest(0, 31 - extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())));
               UPDATE lead_webhook.instances SET renewed_at = renewed_at - interval '1 minute'";
    setup.db.admin().await.batch_execute(age).await.unwrap();
    let copy = setup.db.copy().await;
    let original = point_at(&mut setup, copy);
    let mut daemon = setup.daemon();
    guarded(&daemon).await;
    daemon.signal("TERM");
    assert_eq!(daemon.wait().await.code(), Some(0), "it holds nothing");
    let claimed = "outbox WHERE claimed_by IS NOT NULL";
    assert_eq!((count(&setup.db, claimed).await, count(&setup.db, "deliveries").await), (1, 0));
    assert_eq!(count(&setup.db, "instances").await, 1, "the dead one's, as it was copied");
    let adopted = setup.run(&["adopt", "--discard-queue"]).await.ok().stderr;
    assert!(adopted.contains("1 events logged as skipped / discarded (0 pending, 1 in flight"), "{adopted}");
    let row = &setup.db.log_rows().await[0];
    assert_eq!(row.reason.as_deref(), Some("discarded"));
    assert!(row.error.as_deref().unwrap().starts_with("in flight in the original"), "{row:?}");
    assert_eq!(count(&original, claimed).await, 1, "the original is as it was");
}

#[tokio::test]
async fn an_outcome_waits_for_its_own_database_while_another_one_stands_behind_its_address() {
    let setup = with_pending(0).await;
    let copy = setup.db.copy().await;
    // As restored elsewhere: the name will be the original's.
    copy.admin().await.batch_execute("UPDATE lead_webhook.installation SET system_identifier = 1").await.unwrap();
    let gate = Gate::closed();
    setup.receiver.answer(Answer::status(200).behind(&gate));
    let daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.receiver.wait_for(1).await;
    let aside = setup.db.called(&setup.db.cluster, &format!("{}_aside", setup.db.name));
    rename(&setup.db, &aside).await;
    rename(&copy, &setup.db).await;
    gate.open();
    guarded(&daemon).await;
    assert_eq!((count(&setup.db, "deliveries").await, count(&setup.db, "instances").await), (0, 0));
    rename(&setup.db, &copy).await;
    rename(&aside, &setup.db).await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    assert_eq!(setup.receiver.requests().len(), 1);
}

/// Ends the database's sessions and gives it another's name.
async fn rename(from: &Database, to: &Database) {
    let server = from.server().await;
    let (old, new) = (&from.name, &to.name);
    for sql in [
        format!("ALTER DATABASE {old} ALLOW_CONNECTIONS false"),
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{old}'"),
        format!("ALTER DATABASE {old} RENAME TO {new}"),
        format!("ALTER DATABASE {new} ALLOW_CONNECTIONS true"),
    ] {
        server.batch_execute(&sql).await.unwrap();
    }
}

#[tokio::test]
async fn the_queue_of_files_that_were_put_back_is_discarded_where_an_operator_says_so() {
    let setup = with_pending(2).await;
    let nothing = setup.run(&["adopt", "--discard-queue"]).await.ok().stderr;
    assert!(nothing.contains("nothing differs, and nothing is changed"), "{nothing}");
    assert_eq!(setup.run(&["adopt", "--keep-queue", "--restored"]).await.code, Some(2));
    {
        let daemon = setup.daemon();
        setup.db.wait_for_log(2).await;
        let refused = setup.run(&["adopt", "--discard-queue", "--restored"]).await;
        assert!(refused.code == Some(1) && refused.stderr.contains("stop all of them first"), "{refused:?}");
        daemon.signal("TERM");
        let mut daemon = daemon;
        daemon.wait().await;
    }
    setup.db.insert_lead("acme", "third@example.com").await;
    let adopted = setup.run(&["adopt", "--discard-queue", "--restored"]).await.ok().stderr;
    assert!(adopted.contains("1 events logged as skipped / discarded"), "{adopted}");
    assert_eq!((setup.db.outbox_count().await, setup.receiver.requests().len()), (0, 2));
}

#[tokio::test]
async fn under_another_key_file_nothing_is_claimed_or_adopted_and_a_reload_with_the_right_one_goes_on() {
    let setup = with_pending(0).await;
    let daemon = setup.daemon();
    setup.db.insert_lead("acme", "first@example.com").await;
    setup.db.wait_for_log(1).await;
    let keys = setup.key_file();
    let aside = setup.path("keys-aside");
    fs::rename(&keys, &aside).unwrap();
    setup.run(&["key", "generate", "--out", keys.to_str().unwrap()]).await.ok();
    daemon.signal("HUP");
    daemon.wait_for_log(|line| line.contains("reloaded")).await;
    setup.db.insert_lead("acme", "second@example.com").await;
    let said = guarded(&daemon).await;
    assert!(said.contains("key file is not the one") && said.contains("uninstall"), "{said}");
    for flag in ["--keep-queue", "--discard-queue"] {
        let refused = setup.run(&["adopt", flag]).await;
        assert_eq!(refused.code, Some(78));
        assert!(refused.stderr.contains("put the installation's key file back"), "{}", refused.stderr);
    }
    let check = setup.run(&["check"]).await.stdout;
    let failed: Vec<_> = check.lines().filter(|line| line.starts_with("fail")).collect();
    assert!(failed.len() == 1 && failed[0].contains(" key: "), "no endpoint is to be set anew: {check}");
    assert_eq!((count(&setup.db, "deliveries").await, setup.db.outbox_count().await), (1, 1));
    fs::rename(&aside, &keys).unwrap();
    daemon.signal("HUP");
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
}

#[tokio::test]
async fn what_is_remembered_may_change_under_a_running_daemon_and_it_finds_out() {
    let setup = with_pending(1).await;
    let daemon = setup.daemon();
    setup.db.wait_for_log(1).await;
    let admin = setup.db.admin().await;
    let remember = async |name: &str| {
        let sql = "UPDATE lead_webhook.installation SET database_name = $1";
        admin.execute(sql, &[&name]).await.unwrap();
    };
    remember("elsewhere").await;
    let said = guarded(&daemon).await;
    assert!(said.contains("elsewhere"), "{said}");
    setup.db.insert_lead("acme", "waits@example.com").await;
    remember(&setup.db.name).await;
    assert_eq!(setup.db.wait_for_log(2).await[1].status, "delivered");
}

#[tokio::test]
async fn a_server_that_refuses_to_tell_its_identifier_is_no_obstacle_and_the_name_still_counts() {
    let cluster = Cluster::start(&[]);
    let receiver = crate::harness::Receiver::start();
    let mut setup = Setup::prepare(Database::create(&cluster).await, receiver).await;
    let refuse = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC";
    setup.db.admin().await.batch_execute(refuse).await.unwrap();
    setup.run(&["migrate"]).await.ok();
    setup.endpoint("acme").await;
    let mut daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    let check = setup.run(&["check"]).await.stdout;
    assert!(check.contains("clone guard: the server does not tell its system identifier"), "{check}");
    daemon.signal("TERM");
    daemon.wait().await;
    let copy = setup.db.copy().await;
    copy.admin().await.batch_execute(refuse).await.unwrap();
    let _original = point_at(&mut setup, copy);
    let daemon = setup.daemon();
    assert!(guarded(&daemon).await.contains("is called"));
}

#[tokio::test]
async fn adopt_needs_one_of_its_two_words_and_the_owners_rights() {
    let mut setup = with_pending(1).await;
    for args in [&["adopt"][..], &["adopt", "--keep-queue", "--discard-queue"]] {
        assert_eq!(setup.run(args).await.code, Some(2), "{args:?}");
    }
    let copy = setup.db.copy().await;
    let _original = point_at(&mut setup, copy);
    setup.edit_config(&[("database.owner_url", json!(setup.db.url(&setup.db.daemon_login)))]);
    let refused = setup.run(&["adopt", "--discard-queue"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains(&format!("a member of {}", setup.db.owner_role)), "{}", refused.stderr);
    assert_eq!(setup.db.outbox_count().await, 1, "nothing is changed");
}
