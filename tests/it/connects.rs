//! Sessions with the database are as safe as the configuration insists, and what keeps one from being opened is told
//! without a word of the password.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
};

use lead_webhook::{config, store::connect::connect};
use serde_json::json;

use crate::harness::{Cluster, Database, Identity, Receiver, Setup, Stop, patiently};

const PASSWORD: &str = "geheim";

/// An installation on a server with a certificate for `localhost`, where the daemon's login needs a password. The files
/// `ca.pem` and `password` are there and not configured yet.
async fn secured() -> Setup {
    let cluster = Cluster::start(&[]);
    let db = Database::create(&cluster).await;
    let Identity { ca, certificate, key } = Identity::of(&["localhost"]);
    let data = cluster.directory().join("data");
    write_as_the_server(&data.join("server.crt"), &certificate.pem());
    write_as_the_server(&data.join("server.key"), &key.serialize_pem());
    let rules = fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    let rules = format!("host all {} all scram-sha-256\n{rules}", db.daemon_login);
    write_as_the_server(&data.join("pg_hba.conf"), &rules);
    let password = format!("ALTER ROLE {} PASSWORD '{PASSWORD}'", db.daemon_login);
    db.admin().await.batch_execute(&password).await.unwrap();
    cluster.set("ssl", "on").await;
    cluster.restart(Stop::Fast).await;

    let setup = Setup::prepare(db, Receiver::start()).await;
    fs::write(setup.path("ca.pem"), ca).unwrap();
    fs::write(setup.path("password"), format!("{PASSWORD}\n")).unwrap();
    setup.edit_config(&[("database.password_file", json!(setup.path("password")))]);
    setup
}

/// A file that the server's user alone may read; that is another than ours where we are root.
fn write_as_the_server(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let owner = fs::metadata(path.parent().unwrap()).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

/// Configures the way to the server; with `verifies`, by its CA's file.
fn go_by(setup: &Setup, tls: &str, host: &str, verifies: bool) {
    let url = setup.db.url(&setup.db.daemon_login).replace("127.0.0.1", host);
    let ca_file = if verifies { json!(setup.path("ca.pem")) } else { json!("") };
    setup.edit_config(&[("database.url", json!(url)), ("database.tls", json!(tls)), ("database.tls_ca_file", ca_file)]);
}

/// Whether the daemon's session is encrypted, or why there is none.
async fn session(setup: &Setup) -> Result<bool, String> {
    let database = config::load(Some(&setup.config_file())).unwrap().database;
    let session = connect(&database.url, &database).await.map_err(|error| error.to_string())?;
    assert!(!session.client.is_pooled(), "this is the server's own");
    let encrypted = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    Ok(session.client.query_one(encrypted, &[]).await.unwrap().get(0))
}

#[tokio::test]
async fn tls_is_used_as_far_as_it_is_insisted_on() {
    let setup = secured().await;
    for (tls, host, verifies, expected) in [
        ("disable", "127.0.0.1", false, Ok(false)),
        ("prefer", "127.0.0.1", false, Ok(true)),
        ("require", "127.0.0.1", false, Ok(true)),
        ("verify-full", "localhost", true, Ok(true)),
        ("verify-full", "127.0.0.1", true, Err("certificate not valid for name")),
        // By the system's roots, of which a machine may have none.
        ("verify-full", "localhost", false, Err("invalid peer certificate|no trusted roots")),
    ] {
        go_by(&setup, tls, host, verifies);
        let outcome = session(&setup).await;
        let as_expected = match (&outcome, expected) {
            (Ok(encrypted), Ok(expected)) => *encrypted == expected,
            (Err(text), Err(parts)) => parts.split('|').any(|part| text.contains(part)),
            _ => false,
        };
        assert!(as_expected, "{tls} to {host}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let db = Database::create(&Cluster::shared()).await;
    let setup = Setup::prepare(db, Receiver::start()).await;
    go_by(&setup, "prefer", "127.0.0.1", false);
    assert_eq!(session(&setup).await, Ok(false));
    go_by(&setup, "require", "127.0.0.1", false);
    let text = session(&setup).await.unwrap_err();
    assert!(text.contains("TLS"), "{text}");
}

#[tokio::test]
async fn the_daemon_works_over_verified_tls_with_the_password_from_a_file() {
    let setup = secured().await;
    go_by(&setup, "verify-full", "localhost", true);
    // The owner logs in without a password, but the certificate counts for it too.
    let owner_url = setup.db.admin_url().replace("127.0.0.1", "localhost");
    setup.edit_config(&[("database.owner_url", json!(owner_url))]);
    setup.run(&["migrate"]).await.ok();
    setup.endpoint("acme").await;
    let _daemon = setup.daemon();
    setup.db.insert_lead("acme", "ann@example.com").await;
    assert_eq!(setup.db.wait_for_log(1).await[0].status, "delivered");
    let sessions = "SELECT count(*), count(*) FILTER (WHERE NOT ssl) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
                    WHERE usename = $1::text::name";
    let row = setup.db.admin().await.query_one(sessions, &[&setup.db.daemon_login]).await.unwrap();
    let (all, open): (i64, i64) = (row.get(0), row.get(1));
    assert!(all > 0 && open == 0, "{open} of {all} sessions are not encrypted");
}

#[tokio::test]
async fn a_wrong_password_is_told_by_command_and_daemon_and_not_shown() {
    let setup = secured().await;
    setup.run(&["migrate"]).await.ok();
    fs::write(setup.path("password"), "something-else").unwrap();
    let command = setup.run(&["endpoint", "list"]).await;
    assert_eq!(command.code, Some(1));
    assert!(command.stderr.contains(&format!("user {}", setup.db.daemon_login)), "{}", command.stderr);
    let mut daemon = setup.daemon();
    patiently("the refusal", daemon.wait_for_log(|line| line.contains("password authentication failed"))).await;
    daemon.signal("TERM");
    daemon.wait().await;
    let said = format!("{}{}", command.stderr, daemon.log().join("\n"));
    assert!(!said.contains("something-else") && !said.contains(PASSWORD), "{said}");
}

#[tokio::test]
async fn a_session_that_is_dropped_ends_at_the_server_though_it_is_busy_with_a_statement() {
    let setup = secured().await;
    go_by(&setup, "verify-full", "localhost", true);
    let database = config::load(Some(&setup.config_file())).unwrap().database;
    let session = connect(&database.url, &database).await.unwrap();
    let admin = setup.db.admin().await;
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'";
    let sessions = async || admin.query_one(busy, &[]).await.unwrap().get::<_, i64>(0);
    tokio::select! {
        done = session.client.batch_execute("SELECT pg_sleep(600)") => panic!("{done:?}"),
        () = patiently("the statement", async { while sessions().await == 0 {} }) => {}
    }
    drop(session);
    patiently("its end", async { while sessions().await > 0 {} }).await;
}
