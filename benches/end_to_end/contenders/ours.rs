//! Ours: the built program, installed by its own commands.

use std::time::Duration;

use lead_webhook::{
    keyring::{Column, KeyRing, Place},
    secret::SigningSecret,
};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::{
    harness::{self, Database, Process, Setup, patiently},
    stand::{Stand, one},
};

/// Between two looks at a table.
const LOOK: Duration = Duration::from_millis(10);

/// Endpoints in one statement.
const BATCH: usize = 1_000;

/// Whether every lead stands in the log as delivered, and once.
const EACH_DELIVERED_ONCE: &str = "
SELECT count(*) = (SELECT count(*) FROM leads) AND count(*) = count(DISTINCT l.id)
FROM leads l JOIN lead_webhook.deliveries d ON d.lead_id = l.id::text AND d.status = 'delivered'";

/// Attempts in flight of every contender, and ours to one endpoint as well.
const IN_FLIGHT: u64 = 64;

/// The configuration by which ours has as many in flight as the others.
pub(crate) fn as_many_in_flight() -> [(&'static str, Value); 2] {
    ["delivery.concurrency", "delivery.per_endpoint"].map(|key| (key, json!(IN_FLIGHT)))
}

/// An installation beside an application.
pub(crate) struct Ours {
    /// Its database and configuration.
    pub(crate) setup: Setup,
    /// A session of the superuser.
    pub(crate) admin: Client,
}

impl Ours {
    /// Installs it, with endpoints for so many tenants, under further keys of the configuration.
    pub(crate) async fn install(stand: &Stand, tenants: u64, config: &[(&str, Value)]) -> Self {
        Self::install_in(stand.database().await, stand, tenants, config).await
    }

    /// The same in this database.
    pub(crate) async fn install_in(database: Database, stand: &Stand, tenants: u64, config: &[(&str, Value)]) -> Self {
        let setup = Setup::prepare(database, harness::Receiver::start()).await;
        setup.edit_config(&[("egress.ca_file", json!(stand.receiver.ca_file())), ("log.level", json!("warn"))]);
        setup.edit_config(config);
        setup.run(&["migrate"]).await.ok();
        let admin = setup.db.admin().await;
        let ours = Self { setup, admin };
        let tenants: Vec<_> = (0..tenants).map(|number| format!("t-{number}")).collect();
        ours.make_endpoints(&stand.receiver.url(), &tenants).await;
        ours
    }

    /// Gives the application's table the index that `check` asks for: without it the sweep is off, and tries again and again.
    pub(crate) async fn index_captured_times(&self) {
        self.admin.batch_execute("CREATE INDEX ON leads (created_at)").await.unwrap();
    }

    /// As the commands make them, which for a thousand tenants would take a minute.
    pub(crate) async fn make_endpoints(&self, url: &str, tenants: &[String]) {
        let keyring = KeyRing::read(&self.setup.key_file()).unwrap();
        let port: i32 = url.split([':', '/']).nth(4).unwrap().parse().unwrap();
        let insert = "INSERT INTO lead_webhook.endpoints
                          (tenant_id, url_sealed, host, port, secret_sealed, secret_set_at)
                      SELECT tenant, url, 'localhost', $4, secret, now()
                      FROM unnest($1::text[], $2::bytea[], $3::bytea[]) AS u (tenant, url, secret)";
        let seal =
            |tenant: &String, column, text: &str| keyring.seal(&Place { tenant, column }, text.as_bytes()).unwrap();
        for tenants in tenants.chunks(BATCH) {
            let urls: Vec<_> = tenants.iter().map(|tenant| seal(tenant, Column::EndpointUrl, url)).collect();
            let secret =
                |tenant| seal(tenant, Column::EndpointSecret, SigningSecret::generate().unwrap().text().expose());
            let secrets: Vec<_> = tenants.iter().map(secret).collect();
            self.admin.execute(insert, &[&tenants, &urls, &secrets, &port]).await.unwrap();
        }
    }

    /// Starts the daemon; returns at once.
    pub(crate) fn start(&self) -> Process {
        self.setup.daemon()
    }

    /// Starts the daemon; returns when it looks into the outbox.
    pub(crate) async fn start_and_wait(&self) -> Process {
        self.admin.batch_execute("DELETE FROM lead_webhook.instances").await.unwrap();
        let daemon = self.start();
        self.until("the daemon's start", "SELECT count(*) > 0 FROM lead_webhook.instances").await;
        daemon
    }

    /// Waits until nothing is pending or in flight.
    pub(crate) async fn until_sent(&self) {
        self.until("an empty outbox", "SELECT NOT EXISTS (SELECT FROM lead_webhook.outbox)").await;
    }

    /// Asserts that the log has every lead as delivered, once.
    pub(crate) async fn assert_delivered_once(&self) {
        assert!(one::<bool>(&self.admin, EACH_DELIVERED_ONCE).await, "each lead is logged as delivered once");
    }

    /// Stops the daemon and waits until it has ended.
    pub(crate) async fn stop(&self, mut daemon: Process) {
        daemon.signal("TERM");
        let ended = daemon.wait().await;
        assert!(ended.success(), "{ended}: {:?}", daemon.log());
    }

    async fn until(&self, what: &str, sql: &str) {
        let come = async {
            while !one::<bool>(&self.admin, sql).await {
                tokio::time::sleep(LOOK).await;
            }
        };
        patiently(what, come).await;
    }
}
