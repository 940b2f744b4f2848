//! Another key seals everything while daemons send: nothing fails, nothing is lost or overwritten, what was ended in the
//! middle is gone on with, and a key that is in use is never dropped.

use std::{cell::Cell, fs, path::Path, time::Duration};

use lead_webhook::keyring::{Column, KeyId, KeyRing, Place};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::harness::{Output, Process, Setup, patiently};

const TENANTS: [&str; 3] = ["acme", "bolt", "core"];

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

/// Every sealed value, with where it stands.
async fn sealed(setup: &Setup) -> Vec<(String, Column, Vec<u8>)> {
    let values = "SELECT tenant_id, 'url', url_sealed FROM lead_webhook.endpoints
                  UNION ALL SELECT tenant_id, 'secret', secret_sealed FROM lead_webhook.endpoints
                  UNION ALL SELECT tenant_id, 'headers', headers_sealed FROM lead_webhook.endpoints
                  UNION ALL SELECT installation_id::text, 'check', key_check_sealed FROM lead_webhook.installation
                  UNION ALL SELECT installation_id::text, 'unique', uniqueness_key_sealed FROM lead_webhook.installation";
    let rows = setup.db.admin().await.query(values, &[]).await.unwrap();
    let column = |name: &str| match name {
        "url" => Column::EndpointUrl,
        "secret" => Column::EndpointSecret,
        "headers" => Column::EndpointHeaders,
        "check" => Column::KeyCheck,
        _ => Column::UniquenessKey,
    };
    rows.iter().filter_map(|row| Some((row.get(0), column(row.get(1)), row.get::<_, Option<_>>(2)?))).collect()
}

/// By which keys the tenant's values are sealed.
async fn sealed_by(setup: &Setup, tenant: &str) -> Vec<String> {
    let values = sealed(setup).await;
    let mut keys: Vec<_> = values
        .iter()
        .filter(|(place, ..)| place == tenant)
        .map(|(.., value)| KeyId::of(value).unwrap().to_string())
        .collect();
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

#[tokio::test]
async fn everything_is_sealed_anew_while_daemons_send_and_afterwards_the_old_key_opens_nothing() {
    let (setup, secrets) = installation().await;
    let old_file = setup.path("old-keys");
    fs::copy(setup.key_file(), &old_file).unwrap();
    let daemons = [setup.daemon(), setup.daemon()];
    let stop = Cell::new(false);
    let rotation = async {
        setup.receiver.wait_for(5).await;
        let new = add(&setup).await;
        for daemon in &daemons {
            reload(daemon).await;
        }
        let resealed = step(&setup, &["--reseal", &new]).await;
        assert_eq!((&resealed["values"], &resealed["keys"][0]["seals"]), (&11.into(), &11.into()), "{resealed}");
        let again = step(&setup, &["--reseal", &new]).await;
        assert_eq!(again["values"], 0, "run again it finds nothing to do");
        let sent = setup.receiver.requests().len();
        setup.receiver.wait_for(sent + 30).await;
        step(&setup, &["--drop-old"]).await;
        assert_eq!(ids(&setup.key_file()), [new]);
        for daemon in &daemons {
            reload(daemon).await;
        }
        let sent = setup.receiver.requests().len();
        setup.receiver.wait_for(sent + 30).await;
        stop.set(true);
    };
    let (leads, ()) = tokio::join!(load(&setup, &stop), rotation);

    let rows = setup.db.wait_for_log(leads).await;
    let other: Vec<_> = rows.iter().filter(|row| row.status != "delivered").collect();
    assert!(other.is_empty(), "{other:?}");
    let requests = setup.receiver.requests();
    assert_eq!((rows.len(), requests.len()), (leads, leads));
    for request in &requests {
        let tenant = TENANTS.iter().position(|tenant| request.json()["tenantId"] == *tenant).unwrap();
        request.verify(&secrets[tenant]).unwrap();
        assert_eq!(request.header("authorization"), Some("Bearer cr3dential"));
    }
    let (old, new) = (KeyRing::read(&old_file).unwrap(), KeyRing::read(&setup.key_file()).unwrap());
    let values = sealed(&setup).await;
    assert_eq!(values.len(), 11);
    for (tenant, column, value) in values {
        let place = Place { tenant: &tenant, column };
        assert!(old.open(&place, &value).is_err(), "the old key opens {place:?}");
        assert!(new.open(&place, &value).is_ok(), "the new key does not open {place:?}");
    }
    setup.run(&["check"]).await.ok();
}

#[tokio::test]
async fn a_rotation_that_was_killed_in_the_middle_leaves_all_that_is_needed_to_send_and_goes_on() {
    let (setup, _) = installation().await;
    let [old] = &ids(&setup.key_file())[..] else { panic!() };
    let new = add(&setup).await;
    let locker = lock(&setup, "bolt").await;
    let mut killed = setup.start(&["key", "rotate", "--reseal", &new], &[], "");
    until_waiting(&setup.db.admin().await, 1).await;
    killed.kill9();
    drop(locker);
    assert_eq!(
        (sealed_by(&setup, "acme").await, sealed_by(&setup, "core").await),
        (vec![new.clone()], vec![old.clone()])
    );

    let daemon = setup.daemon();
    for tenant in TENANTS {
        setup.db.insert_lead(tenant, "ann@example.com").await;
    }
    let rows = setup.db.wait_for_log(3).await;
    assert!(rows.iter().all(|row| row.status == "delivered"), "{rows:?}");
    let refused = rotate(&setup, &["--drop-old"]).await;
    assert_eq!(refused.code, Some(1));
    assert_eq!(ids(&setup.key_file()), [new.clone(), old.clone()]);
    step(&setup, &["--reseal", &new]).await;
    for tenant in TENANTS {
        assert_eq!(sealed_by(&setup, tenant).await, [&*new], "{tenant}");
    }
    step(&setup, &["--drop-old"]).await;
    drop(daemon);
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
    let daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    setup.db.wait_for_log(1).await;
    let new = add(&setup).await;
    let refused = rotate(&setup, &["--reseal", &new]).await;
    assert_eq!(refused.code, Some(1));
    let named = format!("process {} on ", daemon.id());
    assert!(refused.stderr.contains(&named) && refused.stderr.contains("systemctl restart"), "{}", refused.stderr);
    assert_eq!(ids(&setup.key_file()), [old.clone(), new.clone()]);
    assert_eq!(sealed_by(&setup, "acme").await, [&**old]);
    reload(&daemon).await;
    step(&setup, &["--reseal", &new]).await;
    assert_eq!(sealed_by(&setup, "acme").await, [new]);
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
    for args in [&["secret", "generate", "acme"][..], &["endpoint", "set", "acme", "--timeout", "5s"]] {
        let refused = setup.run_with(args, &there, "").await;
        assert_eq!(refused.code, Some(78), "{args:?}");
        assert!(refused.stderr.contains(&format!("key rotate --reseal {new}")), "{}", refused.stderr);
    }
    let keeping = setup.run_with(&["key", "rotate", "--drop-old"], &there, "").await;
    assert_eq!(keeping.code, Some(1), "there the key in use is not the first");
    setup.run_with(&["key", "rotate", "--reseal", &new], &there, "").await.ok();
    assert_eq!(ids(&other_host), ids(&ours));
    setup.run_with(&["secret", "generate", "acme"], &there, "").await.ok();
    for env in [&there[..], &[]] {
        setup.run_with(&["key", "rotate", "--drop-old"], env, "").await.ok();
    }
    assert_eq!((ids(&other_host), ids(&ours)), (vec![new.clone()], vec![new]));
}

#[tokio::test]
async fn what_no_key_opens_is_named_and_left_as_it_is_and_the_rest_is_sealed_anew() {
    let (setup, _) = installation().await;
    let foreign = setup.path("foreign");
    setup.run(&["key", "generate", "--out", foreign.to_str().unwrap()]).await.ok();
    let place = Place { tenant: "bolt", column: Column::EndpointSecret };
    let value = KeyRing::read(&foreign).unwrap().seal(&place, b"whsec_x").unwrap();
    let update = "UPDATE lead_webhook.endpoints SET secret_sealed = $1 WHERE tenant_id = 'bolt'";
    setup.db.admin().await.execute(update, &[&value]).await.unwrap();
    let new = add(&setup).await;
    let ended = rotate(&setup, &["--reseal", &new]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("tenant bolt: secret: sealed by key"), "{}", ended.stderr);
    assert!(ended.stderr.contains("1 values do not open"), "{}", ended.stderr);
    let told: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&told["values"], &told["unopened"][0]["tenant_id"]), (&10.into(), &"bolt".into()), "{told}");
    let values = sealed(&setup).await;
    assert!(values.iter().any(|(.., left)| *left == value), "it is as it was");
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
