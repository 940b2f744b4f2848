//! What the other tests stand on: databases are isolated, the receiver records and verifies, nothing is left behind.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, TcpStream as BlockingStream},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::FutureExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::json;
use sha2::Sha256;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::harness::{Answer, Cluster, Database, Gate, Process, Receiver, Setup, Stop};

#[tokio::test]
async fn each_test_has_a_database_and_roles_of_its_own() {
    let cluster = Cluster::shared();
    let (one, other) = (Database::create(&cluster).await, Database::create(&cluster).await);
    let lead = one.insert_lead("acme", "a@example.com").await;
    let count = "SELECT count(*) FROM leads";
    assert_eq!(one.app().await.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1, "{lead}");
    assert_eq!(other.app().await.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_ne!((&one.app_login, &one.daemon_role), (&other.app_login, &other.daemon_role));
}

#[tokio::test]
async fn the_server_is_the_one_whose_programs_were_asked_for() {
    let cluster = Cluster::shared();
    let told = Command::new(cluster.binary("postgres")).arg("--version").output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let running = "SELECT current_setting('server_version')";
    let running = Database::create(&cluster).await.admin().await.query_one(running, &[]).await.unwrap();
    assert_eq!(told.trim_end(), format!("postgres (PostgreSQL) {}", running.get::<_, &str>(0)));
}

#[tokio::test]
async fn the_application_owns_its_table_and_the_daemon_starts_without_a_right_on_it() {
    let db = Database::create(&Cluster::shared()).await;
    let owner = "SELECT tableowner::text FROM pg_tables WHERE tablename = 'leads'";
    assert_eq!(db.admin().await.query_one(owner, &[]).await.unwrap().get::<_, String>(0), db.app_login);
    let refused = db.daemon().await.query("SELECT id FROM leads", &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
}

#[tokio::test]
async fn a_test_may_bring_tables_of_its_own_and_its_database_goes_with_it() {
    let cluster = Cluster::shared();
    let db = Database::create_with(&cluster, "CREATE TABLE contact (no bigint PRIMARY KEY)").await;
    db.app().await.execute("INSERT INTO contact VALUES (1)", &[]).await.unwrap();
    let (name, other) = (db.name.clone(), Database::create(&cluster).await);
    drop(db);
    let exists = "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)";
    assert!(!other.admin().await.query_one(exists, &[&name]).await.unwrap().get::<_, bool>(0));
}

#[tokio::test]
async fn a_log_that_fills_later_is_waited_for_over_a_restart_of_the_server() {
    let cluster = Cluster::start(&[]);
    let db = Database::create(&cluster).await;
    let tables = format!("CREATE SCHEMA lead_webhook; {}", include_str!("../../migrations/V1__tables.sql"));
    db.admin().await.batch_execute(&tables).await.unwrap();
    assert_eq!((db.log_rows().await, db.outbox_count().await), (vec![], 0));

    let row = "INSERT INTO lead_webhook.deliveries (delivery_id, event_id, tenant_id, lead_id, event, status, reason,
               queued_at, finished_at) VALUES (gen_random_uuid(), gen_random_uuid(), 'acme', '1', 'lead.created',
               'skipped', 'duplicate', now(), now())";
    let writing = async {
        cluster.restart(Stop::Immediate).await;
        db.admin().await.execute(row, &[]).await.unwrap();
    };
    let (rows, ()) = tokio::join!(db.wait_for_log(1), writing);
    assert_eq!((rows[0].status.as_str(), rows[0].reason.as_deref()), ("skipped", Some("duplicate")));
}

#[tokio::test]
async fn a_server_of_ones_own_has_its_settings_restarts_on_its_port_and_leaves_nothing_behind() {
    let cluster = Cluster::start(&[("max_prepared_transactions", "7")]);
    let db = Database::create(&cluster).await;
    let (port, directory) = (cluster.port(), cluster.directory().to_owned());
    let prepared = async |db: &Database| -> String {
        db.admin().await.query_one("SHOW max_prepared_transactions", &[]).await.unwrap().get(0)
    };
    assert_eq!(prepared(&db).await, "7");
    let held = db.admin().await;
    cluster.set("max_prepared_transactions", "9").await;
    cluster.restart(Stop::Fast).await;
    assert!(held.query("SELECT 1", &[]).await.is_err());
    assert_eq!((prepared(&db).await.as_str(), cluster.port()), ("9", port));

    drop((db, cluster));
    assert_gone(&directory, port);
}

/// Holds a server until it is killed; only the next test runs it.
#[test]
#[ignore = "run by a_process_that_is_killed_leaves_no_server_behind, which kills it"]
fn the_victim() {
    let cluster = Cluster::start(&[]);
    println!("\n{} {}", cluster.directory().display(), cluster.port());
    std::thread::sleep(Duration::from_secs(30));
}

#[test]
fn a_process_that_is_killed_leaves_no_server_behind() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "harness_works::the_victim", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(victim.stdout.take().unwrap()).lines().map(Result::unwrap);
    let line = lines.find(|line| line.starts_with("/tmp/")).unwrap();
    let (directory, port) = line.split_once(' ').unwrap();
    let port = port.parse().unwrap();
    assert!(Path::new(directory).join("data").exists());
    BlockingStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();

    victim.kill().unwrap();
    victim.wait().unwrap();
    // The supervisor holds the other end: this returns when it is through.
    victim.stderr.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    assert_gone(Path::new(directory), port);
}

#[tokio::test]
async fn the_receiver_records_a_request_as_it_came_and_verifies_its_signatures() {
    let receiver = Receiver::start();
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    let body = r#"{"event":"lead.created","leadId":"1"}"#;
    let mut stream = connect(&receiver).await;
    let answer = exchange(&mut stream, &signed(&secret, body)).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    exchange(&mut stream, "POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").await;

    let requests = receiver.wait_for(2).await;
    let names: Vec<_> = requests[0].headers.iter().map(|(name, _)| name.as_str()).collect();
    let sent = ["Host", "X-Wilow-Event", "X-Wilow-Signature", "webhook-id", "webhook-timestamp", "webhook-signature"];
    assert_eq!(names, [&sent[..], &["Content-Length"]].concat());
    assert_eq!((requests[0].method.as_str(), requests[0].path.as_str()), ("POST", "/hook?a=b"));
    assert_eq!((requests[0].body.as_slice(), requests[0].json()["leadId"].as_str()), (body.as_bytes(), Some("1")));
    assert_eq!((requests[0].connection, requests[1].connection, receiver.connections().accepted), (0, 0, 1));
    assert_eq!(requests[0].verify(&secret), Ok(()));
    assert_eq!(requests[1].headers.len(), 2);

    let other = format!("whsec_{}", STANDARD.encode([8; 32]));
    assert_eq!(requests[0].verify(&other), Err("X-Wilow-Signature does not match".to_owned()));
    assert_eq!(requests[0].verify_as("X-Acme", &secret), Err("X-Acme-Signature is missing".to_owned()));
    let mut changed = requests[0].clone();
    changed.headers[3].1 = "another".to_owned();
    assert_eq!(changed.verify(&secret), Err("webhook-signature does not match".to_owned()));
}

#[tokio::test]
async fn the_receiver_answers_as_it_was_told_to() {
    const POST: &str = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let receiver = Receiver::start();
    let gate = Gate::closed();
    receiver.answer(Answer::status(503));
    receiver.queue([
        Answer::status(201).header("X-Kind", "queued").body("ok").behind(&gate),
        Answer::reset(),
        Answer::raw("no HTTP\r\n"),
        Answer::stall_after("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
    ]);
    let mut stream = connect(&receiver).await;
    stream.write_all(POST.as_bytes()).await.unwrap();
    assert_eq!(receiver.wait_for(1).await.len(), 1, "recorded while the gate is closed");
    gate.open();
    let answer = read(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201 Created") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(answer.to_lowercase().contains("x-kind: queued"), "{answer}");

    stream.write_all(POST.as_bytes()).await.unwrap();
    let reset = stream.read(&mut [0; 64]).await.unwrap_err();
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);

    let mut stream = connect(&receiver).await;
    assert_eq!(exchange(&mut stream, POST).await, "no HTTP\r\n");
    assert_eq!(read(&mut stream).await, "");

    let mut stalled = connect(&receiver).await;
    assert!(exchange(&mut stalled, POST).await.ends_with("\r\n\r\nab"));
    let mut stream = connect(&receiver).await;
    assert!(exchange(&mut stream, POST).await.starts_with("HTTP/1.1 503 "));
    assert!(stalled.read(&mut [0; 8]).now_or_never().is_none(), "stays open and silent");
}

#[tokio::test]
async fn an_installation_writes_its_configuration_as_toml() {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    setup.edit_config(&[("delivery.timeout", json!("2s")), ("leads.columns.phone", json!(""))]);
    let file = config::File::from(setup.config_file());
    let read = config::Config::builder().add_source(file).build().unwrap();
    assert_eq!(read.get_string("delivery.timeout").unwrap(), "2s");
    assert_eq!(read.get_string("leads.columns.phone").unwrap(), "");
    assert_eq!(read.get_string("database.daemon_role").unwrap(), setup.db.daemon_role);
    assert_eq!(read.get_array("egress.allow_hosts").unwrap().len(), 1);
}

#[tokio::test]
async fn a_command_that_ends_hands_over_its_exit_code_and_output() {
    let output = Process::start(&["--help".into()], &[], "").output().await.ok();
    assert_eq!(output.code, Some(0));
    assert_eq!(output.stderr, "");
}

#[track_caller]
fn assert_gone(directory: &Path, port: u16) {
    assert!(!directory.exists(), "{} is still there", directory.display());
    let refused = BlockingStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

/// A request as the specification says, its signatures made here.
fn signed(secret: &str, body: &str) -> String {
    let mac = |key: &[u8], text: &str| {
        Hmac::<Sha256>::new_from_slice(key).unwrap().chain_update(text).finalize().into_bytes()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ours: String = mac(secret.as_bytes(), body).iter().map(|byte| format!("{byte:02x}")).collect();
    let standard = STANDARD.encode(mac(&[7; 32], &format!("id-1.{now}.{body}")));
    format!(
        "POST /hook?a=b HTTP/1.1\r\nHost: localhost\r\nX-Wilow-Event: lead.created\r\n\
         X-Wilow-Signature: sha256={ours}\r\nwebhook-id: id-1\r\nwebhook-timestamp: {now}\r\n\
         webhook-signature: v1,{standard}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A TLS connection that trusts the receiver's CA alone.
async fn connect(receiver: &Receiver) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(receiver.ca_file()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, receiver.port())).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
}

async fn exchange(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    read(stream).await
}

/// What one read gives: an answer of a few bytes comes in one piece.
async fn read(stream: &mut TlsStream<TcpStream>) -> String {
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[tokio::test]
async fn what_is_secret_or_personal_fails_the_test_that_finds_it_printed_or_stored() {
    let setup = Setup::new().await;
    let secret = setup.endpoint("acme").await;
    let print = async |path: &str| {
        let missing = ["--config", path, "check"].map(OsString::from);
        let mut process = Process::start(&missing, &[], "");
        process.wait().await;
        process
    };
    let decent = print("/nowhere/lead-webhook.toml").await;
    assert!(!fails_when_dropped(decent));
    for canary in ["ann@example.com", secret.trim_start_matches("whsec_")] {
        let printed = print(&format!("/nowhere/{canary}")).await;
        assert!(fails_when_dropped(printed), "printed");
    }
    let store = "INSERT INTO lead_webhook.muted (lead_id, tenant_id) VALUES ('1', $1)";
    setup.db.admin().await.execute(store, &[&secret]).await.unwrap();
    assert!(fails_when_dropped(setup), "stored");
}

fn fails_when_dropped(what: impl Sized) -> bool {
    catch_unwind(AssertUnwindSafe(|| drop(what))).is_err()
}

#[tokio::test]
async fn a_lead_that_nobody_accounts_for_and_an_event_that_was_sent_twice_fail_their_test() {
    let setup = Setup::new().await;
    setup.endpoint("acme").await;
    let missed = "SET session_replication_role = replica;
                  INSERT INTO leads (tenant_id, email) VALUES ('acme', 'ann@example.com')";
    setup.db.admin().await.batch_execute(missed).await.unwrap();
    assert!(fails_when_dropped(setup), "unaccounted");

    let setup = Setup::new().await;
    setup.leaves_leads_unaccounted();
    assert!(fails_when_dropped(setup), "there is none");

    let setup = Setup::new().await;
    let mut stream = connect(&setup.receiver).await;
    for _ in 0..2 {
        exchange(
            &mut stream,
            "POST /hook HTTP/1.1\r\nHost: localhost\r\nwebhook-id: id-1\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
    }
    drop(stream);
    assert!(fails_when_dropped(setup), "sent twice");
}
