//! The corpus of URLs through the real commands, and past them through the table.

use std::{collections::BTreeSet, fs};

use futures_util::{StreamExt as _, stream};
use lead_webhook::keyring::{Column, KeyRing, Place};
use serde_json::{Value, json};

use crate::{
    harness::{Cluster, Database, Receiver, Setup, patiently},
    own_world::{INTERNET, NameServer, Reply},
};

const URLS: &str = include_str!("../../corpus/egress_urls.tsv");

/// So many commands run at once.
const AT_ONCE: usize = 4;

/// The rows of the corpus: a tenant for each, its URL, and whether it is to be accepted.
fn rows() -> Vec<(String, &'static str, bool)> {
    let row = |(n, row): (usize, &'static str)| {
        let mut fields = row.split('\t');
        (format!("t{n}"), fields.next().unwrap(), fields.next() == Some("accept"))
    };
    URLS.lines().skip(1).enumerate().map(row).collect()
}

/// How many TCP connections were begun in this network, whether they came about or not.
fn connections_begun() -> u64 {
    let snmp = fs::read_to_string("/proc/self/net/snmp").unwrap();
    let [names, values] = snmp.lines().filter(|line| line.starts_with("Tcp:")).collect::<Vec<_>>()[..] else {
        panic!("{snmp}")
    };
    let at = names.split_whitespace().position(|name| name == "ActiveOpens").unwrap();
    values.split_whitespace().nth(at).unwrap().parse().unwrap()
}

/// In a network of its own, in which nothing else connects anywhere while the daemon runs.
async fn setup() -> Setup {
    let setup = Setup::prepare(Database::create(&Cluster::shared()).await, Receiver::start()).await;
    let Database { cluster, name, daemon_login, .. } = &setup.db;
    let socket = cluster.directory().display().to_string().replace('/', "%2F");
    let over_a_socket = format!("postgresql://{daemon_login}@{socket}:{}/{name}", cluster.port());
    setup.edit_config(&[
        ("database.url", json!(over_a_socket)),
        ("egress.allow_hosts", json!([])),
        ("egress.allow_networks", json!([])),
    ]);
    setup.run(&["migrate"]).await.ok();
    setup
}

#[tokio::test]
async fn every_url_of_the_corpus_gets_its_verdict_at_save() {
    let name = "refuses_private_addresses::corpus::every_url_of_the_corpus_gets_its_verdict_at_save";
    if !INTERNET.is_here(name) {
        return;
    }
    let _dns = NameServer::start();
    let setup = setup().await;
    let saved = stream::iter(rows()).map(async |(tenant, url, is_accepted)| {
        let output = setup.run(&["endpoint", "set", &tenant, &format!("--url={url}")]).await;
        assert_eq!(output.code, Some(if is_accepted { 0 } else { 2 }), "{url}: {}", output.stderr);
    });
    saved.buffer_unordered(AT_ONCE).collect::<()>().await;
    let accepted: BTreeSet<_> = rows().into_iter().filter(|row| row.2).map(|row| row.0).collect();
    let listed = setup.run(&["endpoint", "list", "--json"]).await.ok().stdout;
    let tenant = |line: &str| serde_json::from_str::<Value>(line).unwrap()["tenant_id"].as_str().unwrap().to_owned();
    assert_eq!(listed.lines().map(tenant).collect::<BTreeSet<_>>(), accepted);
}

#[tokio::test]
async fn no_url_of_the_corpus_that_was_written_past_the_commands_opens_a_socket() {
    let name = "refuses_private_addresses::corpus::\
                no_url_of_the_corpus_that_was_written_past_the_commands_opens_a_socket";
    if !INTERNET.is_here(name) {
        return;
    }
    let dns = NameServer::start();
    dns.say("allowed.example.com", &[Reply::Addresses(vec![[93, 184, 216, 34].into()])]);
    let setup = setup().await;
    let keys = KeyRing::read(&setup.key_file()).unwrap();
    let admin = setup.db.admin().await;
    let rejected: Vec<_> = rows().into_iter().filter(|row| !row.2).collect();
    let save = async |tenant: &str, url: &str| {
        let seal = |column, value: &str| keys.seal(&Place { tenant, column }, value.as_bytes()).unwrap();
        let values = (
            seal(Column::EndpointUrl, url),
            seal(Column::EndpointSecret, "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        );
        let insert =
            "INSERT INTO lead_webhook.endpoints (tenant_id, url_sealed, host, port, secret_sealed, secret_set_at)
                      VALUES ($1, $2, 'x', 1, $3, now())";
        admin.execute(insert, &[&tenant, &values.0, &values.1]).await.unwrap();
        let lead = "INSERT INTO leads (tenant_id, email) VALUES ($1, 'ann@example.com')";
        admin.execute(lead, &[&tenant]).await.unwrap();
    };
    for (tenant, url, _) in &rejected {
        save(tenant, url).await;
    }
    let ended = async |n: usize| {
        let rows = "SELECT count(*) FROM lead_webhook.deliveries";
        patiently("their rows", async {
            while admin.query_one(rows, &[]).await.unwrap().get::<_, i64>(0) < i64::try_from(n).unwrap() {}
        })
        .await;
    };
    let before = connections_begun();
    let daemon = setup.daemon();
    ended(rejected.len()).await;
    assert_eq!(connections_begun(), before, "somebody was called");
    // The same for one that is allowed is seen.
    save("allowed", "https://allowed.example.com/hook").await;
    ended(rejected.len() + 1).await;
    assert_eq!(connections_begun(), before + 1);
    drop(daemon);
    for row in setup.db.log_rows().await.iter().filter(|row| row.tenant_id != "allowed") {
        assert_eq!((row.status.as_str(), row.failure.as_deref()), ("failed", Some("blocked")), "{row:?}");
        assert!(row.sent_at.is_none() && row.http_status.is_none(), "{row:?}");
    }
}
