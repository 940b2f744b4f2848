//! [`Stand`]: what all contenders stand on: the database server, the receiver, and the application's table.

use std::{path::Path, sync::Arc};

use tempfile::TempDir;
use tokio_postgres::Client;

use super::{
    harness::{Cluster, Database},
    receiver::Receiver,
};

/// Ordinary durability, and checkpoints only when they are asked for.
pub(crate) const SETTINGS: [(&str, &str); 6] = [
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "'1GB'"),
    ("max_wal_size", "'8GB'"),
    ("checkpoint_timeout", "'30min'"),
    ("autovacuum_naptime", "'1min'"),
];

/// The application's table, as the default mapping expects it. `created_at` is the moment of the insert, from which
/// latencies are counted; `note` is mapped to nothing.
const LEADS: &str = "CREATE TABLE leads (
    id                   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id            text NOT NULL,
    email                text,
    phone                text,
    first_name           text,
    visitor_id           text,
    conversation_id      text,
    created_at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_conversation_at timestamptz,
    note                 text
)";

/// What the application writes of a lead.
pub(crate) const COLUMNS: &str = "tenant_id, email, phone, first_name, conversation_id";

/// What every contender finds.
pub(crate) struct Stand {
    /// How often each figure is taken.
    pub(crate) rounds: usize,
    /// Smaller numbers.
    pub(crate) quick: bool,
    /// The database server.
    pub(crate) cluster: Arc<Cluster>,
    /// Where leads are sent.
    pub(crate) receiver: Receiver,
    files: TempDir,
}

impl Stand {
    /// Starts everything.
    pub(crate) fn set_up(rounds: usize, quick: bool) -> Self {
        let cluster = Cluster::start(&SETTINGS);
        let files = cluster.folder();
        let receiver = Receiver::start(&files.path().join("receiver.pem"));
        Self { rounds, quick, cluster, receiver, files }
    }

    /// A number, or a smaller one for a quick run.
    pub(crate) fn number(&self, usual: u64, quick: u64) -> u64 {
        if self.quick { quick } else { usual }
    }

    /// Where files for one run can be put.
    pub(crate) fn files(&self) -> &Path {
        self.files.path()
    }

    /// A database with the application's table, empty.
    pub(crate) async fn database(&self) -> Database {
        Database::create_with(&self.cluster, LEADS).await
    }

    /// The same with a table in partitions, by the captured time.
    pub(crate) async fn partitioned_database(&self) -> Database {
        Database::create_with(&self.cluster, &partitioned("leads")).await
    }

    /// The server's version.
    pub(crate) async fn server_version(&self) -> String {
        one(&self.database().await.admin().await, "SHOW server_version").await
    }
}

/// [`LEADS`] under a name, in partitions by the captured time.
pub(crate) fn partitioned(name: &str) -> String {
    let table = LEADS.replacen("leads", name, 1).replacen("IDENTITY PRIMARY KEY", "IDENTITY", 1);
    let table = table.trim_end_matches(')');
    format!(
        "{table}, PRIMARY KEY (id, created_at)) PARTITION BY RANGE (created_at);
         CREATE TABLE {name}_latest PARTITION OF {name} FOR VALUES FROM (now()) TO ('infinity')"
    )
}

/// Inserts leads in one statement, spread evenly over so many tenants.
pub(crate) async fn insert_leads(session: &Client, leads: u64, tenants: u64) {
    let sql = format!("INSERT INTO leads ({COLUMNS}) SELECT {}", leads_of(leads, tenants));
    session.batch_execute(&sql).await.unwrap();
}

/// The rows of [`insert_leads`], as the rest of a SELECT.
pub(crate) fn leads_of(leads: u64, tenants: u64) -> String {
    format!(
        "'t-' || n % {tenants}, 'lead' || n || '@example.com', '+491234567890', 'Ann', 'c-000000000042' \
         FROM generate_series(1, {leads}) AS n"
    )
}

/// The one value that a query gives.
pub(crate) async fn one<T: tokio_postgres::types::FromSqlOwned>(session: &Client, sql: &str) -> T {
    session.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}
