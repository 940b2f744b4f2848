//! Another key seals everything while daemons send: nothing fails, nothing is lost or overwritten, what was ended in the
//! middle is gone on with, and a key that is in use is never dropped.

use std::{cell::Cell, fs, path::Path, time::Duration};

use lead_webhook::keyring::{Column, KeyRing, Place};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::{
    audit::Audit,
    harness::{Admin, ENDPOINT, OPERATOR, Output, Process, Setup, patiently},
    sealed::{self, Sealed},
};

const TENANTS: [&str; 3] = ["acme", "bolt", "core"];

/// Stands for the installation's own values.
const INSTALLATION: &str = "installation";

/// An installation with three endpoints, with headers; their secrets.
async fn installation() -> (Setup, Vec<String>) {
    let setup = Setup::new().await;
    let mut secrets = Vec::new();
    for tenant in TENANTS {
        secrets.push(setup.endpoint(tenant).await);
        setup.run(&["endpoint", "set", tenant, "--header", "Authorization: Bearer cr3dential"]).await.ok();
    }
    (setup, secrets)
}

/// Runs a step of the rotation that succeeds; its JSON.
async fn step(setup: &Setup, args: &[&str]) -> Value {
    serde_json::from_str(&rotate(setup, args).await.ok().stdout).unwrap()
}

async fn rotate(setup: &Setup, args: &[&str]) -> Output {
    setup.run(&[&["key", "rotate", "--json"], args].concat()).await
}

/// The first step; the new key.
async fn add(setup: &Setup) -> String {
    step(setup, &[]).await["key_id"].as_str().unwrap().to_owned()
}

fn ids(path: &Path) -> Vec<String> {
    KeyRing::read(path).unwrap().key_ids().map(|id| id.to_string()).collect()
}

/// By which keys the tenant's values are sealed; the installation's under its own name.
async fn sealed_by(setup: &Setup, tenant: &str) -> Vec<String> {
    let is_meant = |sealed: &Sealed| match sealed.column {
        Column::KeyCheck | Column::UniquenessKey => tenant == INSTALLATION,
        _ => sealed.tenant == tenant,
    };
    let mut keys: Vec<_> =
        Sealed::all(setup).await.into_iter().filter(is_meant).map(|sealed| sealed.key_id()).collect();
    keys.dedup();
    keys
}

/// Waits until `n` sessions wait for a lock.
async fn until_waiting(admin: &Client, n: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    patiently("sessions that wait for a lock", async {
        while admin.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) < n {}
    })
    .await;
}

/// Locks a tenant's row until the session ends or commits.
async fn lock(setup: &Setup, tenant: &str) -> Client {
    let locker = setup.db.admin().await;
    let lock = format!("BEGIN; SELECT FROM lead_webhook.endpoints WHERE tenant_id = '{tenant}' FOR UPDATE");
    locker.batch_execute(&lock).await.unwrap();
    locker
}

/// Lets whoever changes the installation, or a tenant's endpoint, wait for as long as somebody holds its name.
async fn let_changes_be_held(setup: &Setup) {
    let held = "CREATE FUNCTION public.held() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtext(
                        coalesce(pg_catalog.to_jsonb(NEW) ->> 'tenant_id', 'installation')));
                    RETURN NEW;
                END $$;
                CREATE TRIGGER held BEFORE UPDATE ON lead_webhook.installation FOR EACH ROW EXECUTE FUNCTION public.held();
                CREATE TRIGGER held BEFORE UPDATE ON lead_webhook.endpoints FOR EACH ROW EXECUTE FUNCTION public.held()";
    setup.db.admin().await.batch_execute(held).await.unwrap();
}

/// Holds changes of `name` until the session ends.
async fn hold(setup: &Setup, name: &str) -> Client {
    let holder = setup.db.admin().await;
    holder.execute("SELECT pg_advisory_lock(hashtext($1))", &[&name]).await.unwrap();
    holder
}

/// Waits until a session waits for a name that is held, and ends it where `ends` says so: the server may notice that a
/// client is gone before it goes on.
async fn until_held(setup: &Setup, ends: bool) {
    let waiting = "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database
                   WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
    let admin = setup.db.admin().await;
    patiently("a change that is held", async {
        while admin.query(waiting, &[]).await.unwrap().is_empty() {}
        if ends {
            let end = format!("SELECT pg_terminate_backend(pid) FROM ({waiting}) w");
            admin.batch_execute(&end).await.unwrap();
            while !admin.query(waiting, &[]).await.unwrap().is_empty() {}
        }
    })
    .await;
}

/// Ends a daemon as `systemctl restart` does, and starts it anew.
async fn restart(setup: &Setup, mut daemon: Process, env: &[(&str, &str)]) -> Process {
    daemon.signal("TERM");
    assert_eq!(daemon.wait().await.code(), Some(0));
    setup.daemon_with(env)
}

async fn reload(daemon: &Process) {
    let before = daemon.log().iter().filter(|line| line.contains("reloaded")).count();
    daemon.signal("HUP");
    let seen = Cell::new(0);
    let counts = |line: &str| {
        seen.set(seen.get() + usize::from(line.contains("reloaded")));
        seen.get() > before
    };
    daemon.wait_for_log(counts).await;
}

/// Inserts leads of all tenants until `stop` says so; how many.
async fn load(setup: &Setup, stop: &Cell<bool>) -> usize {
    let app = setup.db.app().await;
    let insert = "INSERT INTO leads (tenant_id, email) VALUES ($1, $2)";
    let mut n = 0;
    while !stop.get() {
        for tenant in TENANTS {
            app.execute(insert, &[&tenant, &format!("load{n}@example.com")]).await.unwrap();
            n += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    n
}

/// Every lead was delivered, once, signed by its tenant's secret and with its headers.
async fn assert_all_delivered(setup: &Setup, leads: usize, secrets: &[String]) {
    let rows = setup.db.wait_for_log(leads).await;
    let other: Vec<_> = rows.iter().filter(|row| row.status != "delivered").collect();
    assert!(other.is_empty(), "{} of {leads}: {:?}", other.len(), other[0]);
    Audit::of(setup).await.assert_sound();
    let requests = setup.receiver.requests();
    assert_eq!((rows.len(), requests.len()), (leads, leads));
    for request in &requests {
        let tenant = TENANTS.iter().position(|tenant| request.json()["tenantId"] == *tenant).unwrap();
        request.verify(&secrets[tenant]).unwrap();
        assert_eq!(request.header("authorization"), Some("Bearer cr3dential"));
    }
}

#[tokio::test]
async fn everything_is_sealed_anew_while_daemons_send_and_afterwards_the_old_key_opens_nothing() {
    let (setup, secrets) = installation().await;
    let (old_file, handed_out) = (setup.path("old-keys"), setup.path("handed-out"));
    fs::copy(setup.key_file(), &old_file).unwrap();
    // One daemon reads the file itself, the other one a copy that it was handed when it started.
    let hand_out = || fs::copy(setup.key_file(), &handed_out).unwrap();
    let env = [("LEAD_WEBHOOK__KEYS__FILE", handed_out.to_str().unwrap())];
    hand_out();
    let reloads = setup.daemon();
    let mut restarts = setup.daemon_with(&env);
    let stop = Cell::new(false);
    let rotation = async {
        setup.receiver.wait_for(5).await;
        let new = add(&setup).await;
        reload(&reloads).await;
        hand_out();
        restarts = restart(&setup, restarts, &env).await;
        let values = Sealed::all(&setup).await.len();
        let resealed = step(&setup, &["--reseal", &new]).await;
        let told = (&resealed["values"], &resealed["keys"][0]["seals"]);
        assert_eq!(told, (&values.into(), &values.into()), "{resealed}");
        let again = step(&setup, &["--reseal", &new]).await;
        assert_eq!(again["values"], 0, "run again it finds nothing to do");
        let sent = setup.receiver.requests().len();
        setup.receiver.wait_for(sent + 30).await;
        step(&setup, &["--drop-old"]).await;
        assert_eq!(ids(&setup.key_file()), [&*new]);
        reload(&reloads).await;
        hand_out();
        restarts = restart(&setup, restarts, &env).await;
        let sent = setup.receiver.requests().len();
        setup.receiver.wait_for(sent + 30).await;
        stop.set(true);
        restarts
    };
    let (leads, _restarts) = tokio::join!(load(&setup, &stop), rotation);

    assert_all_delivered(&setup, leads, &secrets).await;
    let (old, new) = (KeyRing::read(&old_file).unwrap(), KeyRing::read(&setup.key_file()).unwrap());
    for sealed in Sealed::all(&setup).await {
        let place = sealed.place();
        assert!(old.open(&place, &sealed.value).is_err(), "the old key opens {place:?}");
        assert!(new.open(&place, &sealed.value).is_ok(), "the new key does not open {place:?}");
    }
    setup.run(&["check"]).await.ok();
}

#[tokio::test]
async fn a_rotation_that_is_killed_at_any_point_keeps_nothing_from_being_sent_and_goes_on() {
    let (setup, secrets) = installation().await;
    let [old] = &ids(&setup.key_file())[..] else { panic!() };
    let new = add(&setup).await;
    let daemons = [setup.daemon(), setup.daemon()];
    let_changes_be_held(&setup).await;
    let stop = Cell::new(false);
    let rotation = async {
        for (done, name) in [INSTALLATION, "acme", "bolt", "core"].into_iter().enumerate() {
            let holder = hold(&setup, name).await;
            let mut killed = setup.start(&["key", "rotate", "--reseal", &new], &[], "");
            until_held(&setup, false).await;
            killed.kill9();
            until_held(&setup, true).await;
            drop(holder);
            for (n, name) in [INSTALLATION, "acme", "bolt", "core"].into_iter().enumerate() {
                let key = if n < done { &*new } else { old };
                assert_eq!(sealed_by(&setup, name).await, [key], "{name} after {done}");
            }
            let refused = rotate(&setup, &["--drop-old"]).await;
            assert_eq!(refused.code, Some(1));
            assert_eq!(ids(&setup.key_file()), [&*new, old]);
            let sent = setup.receiver.requests().len();
            setup.receiver.wait_for(sent + 30).await;
        }
        step(&setup, &["--reseal", &new]).await;
        step(&setup, &["--drop-old"]).await;
        for daemon in &daemons {
            reload(daemon).await;
        }
        let sent = setup.receiver.requests().len();
        setup.receiver.wait_for(sent + 30).await;
        stop.set(true);
    };
    let (leads, ()) = tokio::join!(load(&setup, &stop), rotation);

    assert_all_delivered(&setup, leads, &secrets).await;
    assert!(Sealed::all(&setup).await.iter().all(|sealed| sealed.key_id() == new));
}

#[tokio::test]
async fn a_secret_that_is_generated_meanwhile_by_the_old_key_survives_and_is_sealed_anew_too() {
    let (setup, secrets) = installation().await;
    let new = add(&setup).await;
    let admin = setup.db.admin().await;
    let locker = lock(&setup, "bolt").await;
    // It has been sealed by the old key, and is written before the rotation's own statement, which waits behind it.
    let generating = setup.start(&["secret", "generate", "bolt"], &[], "");
    until_waiting(&admin, 1).await;
    let rotating = setup.start(&["key", "rotate", "--reseal", &new], &[], "");
    until_waiting(&admin, 2).await;
    drop(locker);
    let generated = generating.output().await.ok().stdout;
    rotating.output().await.ok();
    assert_ne!(generated.trim(), secrets[1]);
    assert_eq!(sealed_by(&setup, "bolt").await, [new]);
    let _daemon = setup.daemon();
    setup.db.insert_lead("bolt", "ann@example.com").await;
    setup.receiver.wait_for(1).await[0].verify(generated.trim()).unwrap();
}

#[tokio::test]
async fn a_key_in_use_is_not_dropped_and_no_second_one_is_added() {
    let (setup, _) = installation().await;
    let [old] = &ids(&setup.key_file())[..] else { panic!() };
    step(&setup, &["--drop-old"]).await;
    assert_eq!(ids(&setup.key_file()), [&**old], "the only key stays");
    let new = add(&setup).await;
    let second = rotate(&setup, &[]).await;
    assert_eq!(second.code, Some(1));
    for said in [format!("{old} seals 11 values"), format!("{new} seals 0 values"), format!("--reseal {new}")] {
        assert!(second.stderr.contains(&said), "{said}: {}", second.stderr);
    }
    let before = fs::read_to_string(setup.key_file()).unwrap();
    let early = rotate(&setup, &["--drop-old"]).await;
    assert_eq!(early.code, Some(1));
    assert!(early.stderr.contains(&format!("--reseal {new}` first")), "the new one is not the old: {}", early.stderr);
    assert_eq!(fs::read_to_string(setup.key_file()).unwrap(), before);
    // Put first by hand, so that the one in use would be dropped.
    let text = fs::read_to_string(setup.key_file()).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    let last = lines.pop().unwrap();
    lines.insert(0, last);
    fs::write(setup.key_file(), lines.join("\n")).unwrap();
    let refused = rotate(&setup, &["--drop-old"]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains(&format!("11 values are sealed by key {old}")), "{}", refused.stderr);
    assert_eq!(ids(&setup.key_file()), [new, old.clone()]);
}

#[tokio::test]
async fn nothing_is_sealed_by_a_key_that_a_daemon_lacks() {
    let (setup, _) = installation().await;
    let [old] = &ids(&setup.key_file())[..] else { panic!() };
    let handed_out = setup.path("handed-out");
    fs::copy(setup.key_file(), &handed_out).unwrap();
    let env = [("LEAD_WEBHOOK__KEYS__FILE", handed_out.to_str().unwrap())];
    let daemon = setup.daemon_with(&env);
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.db.wait_for_log(1).await;
    let new = add(&setup).await;
    // It reads the same copy again.
    reload(&daemon).await;
    let refused = rotate(&setup, &["--reseal", &new]).await;
    assert_eq!(refused.code, Some(1));
    let named = format!("process {} on ", daemon.id());
    assert!(refused.stderr.contains(&named) && refused.stderr.contains("systemctl restart"), "{}", refused.stderr);
    assert_eq!(ids(&setup.key_file()), [&**old, &*new]);
    assert_eq!(sealed_by(&setup, "acme").await, [&**old]);
    fs::copy(setup.key_file(), &handed_out).unwrap();
    let _daemon = restart(&setup, daemon, &env).await;
    step(&setup, &["--reseal", &new]).await;
    assert_eq!(sealed_by(&setup, "acme").await, [&*new]);
}

#[tokio::test]
async fn a_daemon_that_has_not_read_the_new_key_yet_is_waited_for() {
    let (setup, _) = installation().await;
    let [old] = &ids(&setup.key_file())[..] else { panic!() };
    let daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.db.wait_for_log(1).await;
    let new = add(&setup).await;
    let mut rotating = setup.start(&["key", "rotate", "--reseal", &new], &[], "");
    let looks = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND query LIKE '-- instances::running%' AND state = 'idle'";
    let admin = setup.db.admin().await;
    patiently("a look at the daemons", async {
        while admin.query_one(looks, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
    })
    .await;
    assert!(!rotating.has_ended());
    assert_eq!(
        (ids(&setup.key_file()), sealed_by(&setup, INSTALLATION).await),
        (vec![old.clone(), new.clone()], vec![old.clone()])
    );
    reload(&daemon).await;
    rotating.output().await.ok();
    assert_eq!(sealed_by(&setup, "acme").await, [&*new]);
}

#[tokio::test]
async fn a_daemon_that_starts_meanwhile_without_the_new_key_fails_nothing_and_is_named() {
    let (setup, _) = installation().await;
    let [old] = &ids(&setup.key_file())[..] else { panic!() };
    let handed_out = setup.path("handed-out");
    fs::copy(setup.key_file(), &handed_out).unwrap();
    let env = [("LEAD_WEBHOOK__KEYS__FILE", handed_out.to_str().unwrap())];
    let new = add(&setup).await;
    let_changes_be_held(&setup).await;
    let holder = hold(&setup, INSTALLATION).await;
    let rotating = setup.start(&["key", "rotate", "--reseal", &new], &[], "");
    until_held(&setup, false).await;
    // No daemon ran when it looked.
    let daemon = setup.daemon_with(&env);
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.db.wait_for_log(1).await;
    drop(holder);
    let refused = rotating.output().await;
    assert_eq!(refused.code, Some(1));
    let named = format!("process {} on ", daemon.id());
    let state = "the installation is sealed by the new key, endpoints are not yet";
    assert!(refused.stderr.contains(&named) && refused.stderr.contains(state), "{}", refused.stderr);
    assert_eq!(
        (sealed_by(&setup, INSTALLATION).await, sealed_by(&setup, "acme").await),
        (vec![new.clone()], vec![old.clone()])
    );
    setup.db.insert_lead("acme", "bob@example.com").await;
    let said = daemon.wait_for_log(|line| line.contains("cannot claim")).await;
    assert!(said.contains(&format!("sealed by key {new}, which the key file does not hold")), "{said}");
    fs::copy(setup.key_file(), &handed_out).unwrap();
    reload(&daemon).await;
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    step(&setup, &["--reseal", &new]).await;
    assert_eq!(sealed_by(&setup, "acme").await, [&*new]);
}

#[tokio::test]
async fn a_host_whose_copy_of_the_file_was_passed_by_seals_nothing_by_the_old_key() {
    let (setup, _) = installation().await;
    let other_host = setup.path("other-host");
    let (other, ours) = (other_host.to_str().unwrap().to_owned(), setup.key_file());
    let there = [("LEAD_WEBHOOK__KEYS__FILE", other.as_str())];
    let new = add(&setup).await;
    fs::copy(&ours, &other_host).unwrap();
    step(&setup, &["--reseal", &new]).await;
    let header = "Authorization: Bearer an0ther";
    for args in [&["secret", "generate", "acme"][..], &["endpoint", "set", "acme", "--header", header]] {
        setup.run_with(args, &there, "").await.ok();
    }
    assert_eq!(sealed_by(&setup, "acme").await, [&*new]);
    let check = setup.run_with(&["check"], &there, "").await.stdout;
    let line = check.lines().find(|line| line.contains(" key: ")).unwrap();
    assert!(line.starts_with("warn") && line.contains(&format!("key rotate --reseal {new}")), "{line}");
    let keeping = setup.run_with(&["key", "rotate", "--drop-old"], &there, "").await;
    assert_eq!(keeping.code, Some(1), "there the key in use is not the first");
    let said = &keeping.stderr;
    assert!(said.contains(&format!("values are sealed by key {new}")) && !said.contains("delete its line"), "{said}");
    setup.run_with(&["key", "rotate", "--reseal", &new], &there, "").await.ok();
    assert_eq!(ids(&other_host), ids(&ours));
    for env in [&there[..], &[]] {
        setup.run_with(&["key", "rotate", "--drop-old"], env, "").await.ok();
    }
    assert_eq!((ids(&other_host), ids(&ours)), (vec![new.clone()], vec![new]));
}

#[tokio::test]
async fn a_daemon_that_was_passed_by_saves_and_tests_and_seals_nothing_by_the_old_key() {
    let (setup, _) = installation().await;
    let admin = Admin::start(&setup).await;
    let new = add(&setup).await;
    reload(&admin.daemon).await;
    step(&setup, &["--reseal", &new]).await;
    for (method, path, body, status) in [
        ("POST", "/secret", None, 201),
        ("PATCH", "", Some(json!({ "headers": { "Authorization": "Bearer an0ther" } })), 200),
        ("POST", "/test", None, 200),
    ] {
        let path = format!("{ENDPOINT}{path}");
        admin.ask(OPERATOR, method, &path, &[("If-Match", "*")], body.as_ref()).with(status);
    }
    assert_eq!(sealed_by(&setup, "acme").await, [&*new]);
    step(&setup, &["--drop-old"]).await;
    setup.db.insert_lead("acme", "ann@example.com").await;
    let rows = setup.db.wait_for_log(2).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
}

#[tokio::test]
async fn what_no_key_opens_is_named_and_left_as_it_is_and_the_rest_is_sealed_anew() {
    let (setup, _) = installation().await;
    let foreign = setup.path("foreign");
    setup.run(&["key", "generate", "--out", foreign.to_str().unwrap()]).await.ok();
    let place = Place { tenant: "bolt", column: Column::EndpointSecret };
    let value = KeyRing::read(&foreign).unwrap().seal(&place, b"whsec_x").unwrap();
    sealed::put(&setup, &place, &value).await;
    let new = add(&setup).await;
    let ended = rotate(&setup, &["--reseal", &new]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("tenant bolt: secret: sealed by key"), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 values do not open"), "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&told["values"], &told["unopened"][0]["tenant_id"]), (&10.into(), &"bolt".into()), "{told}");
    assert!(Sealed::all(&setup).await.iter().any(|left| left.value == value), "it is as it was");
    step(&setup, &["--drop-old"]).await;
}

#[tokio::test]
async fn what_it_cannot_do_is_refused_before_anything_is_changed() {
    let (setup, _) = installation().await;
    let new = add(&setup).await;
    let before = fs::read(setup.key_file()).unwrap();
    for (args, code, said) in [
        (&["--reseal", "xyz"][..], 2, "8 lower-case hex digits"),
        (&["--reseal", &new, "--drop-old"], 2, "cannot be used with"),
        (&["--reseal", "00000000"], 1, "does not hold key 00000000"),
    ] {
        let refused = rotate(&setup, args).await;
        assert_eq!(refused.code, Some(code), "{args:?}");
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let foreign = setup.path("foreign");
    setup.run(&["key", "generate", "--out", foreign.to_str().unwrap()]).await.ok();
    let there = [("LEAD_WEBHOOK__KEYS__FILE", foreign.to_str().unwrap())];
    let refused = setup.run_with(&["key", "rotate"], &there, "").await;
    assert_eq!((refused.code, ids(&foreign).len()), (Some(78), 1));
    assert!(refused.stderr.contains("not the one that this installation was made with"), "{}", refused.stderr);
    setup.edit_config(&[("database.owner_url", json!(setup.db.url(&setup.db.daemon_login)))]);
    let refused = rotate(&setup, &["--reseal", &new]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains(&format!("a member of {}", setup.db.owner_role)), "{}", refused.stderr);
    // Without showing it: it holds keys.
    assert!(fs::read(setup.key_file()).unwrap() == before, "the key file was changed");
}
