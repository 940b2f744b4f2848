//! [`Database`]: a database and roles of its own for each test; roles belong to the whole server, so each has a number.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use tokio_postgres::{Client, Error, NoTls, Row};
use uuid::Uuid;

use super::{Cluster, canary, everything_in_our_schema, left_out, patiently};

/// The application's table, as the default mapping expects it.
const LEADS: &str = "CREATE TABLE leads (
    id                   uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id            text NOT NULL,
    email                text,
    phone                text,
    first_name           text,
    visitor_id           text,
    conversation_id      text,
    created_at           timestamptz NOT NULL DEFAULT now(),
    last_conversation_at timestamptz
);
CREATE INDEX leads_created_at ON leads (created_at);";

/// Between two looks at the log: a table has no event that says that it grew.
const LOOK: Duration = Duration::from_millis(20);

/// The server's superuser: the administrator who runs `migrate`.
const ADMIN: &str = "postgres";

/// A test's own database.
pub struct Database {
    /// The server; here so that it lives as long as the database.
    pub cluster: Arc<Cluster>,
    /// The database's name.
    pub name: String,
    /// `database.owner_role`: no login.
    pub owner_role: String,
    /// `database.daemon_role`: no login.
    pub daemon_role: String,
    /// The daemon's login, a member of [`Database::daemon_role`].
    pub daemon_login: String,
    /// The application's login: owns the leads, and has no right on our schema.
    pub app_login: String,
}

/// One row of `lead_webhook.deliveries`, as far as tests ask; the columns' comments say what each is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRow {
    pub delivery_id: Uuid,
    pub event_id: Uuid,
    pub tenant_id: String,
    pub lead_id: String,
    pub event: String,
    pub status: String,
    pub failure: Option<String>,
    pub reason: Option<String>,
    pub http_status: Option<i16>,
    pub error: Option<String>,
    pub host: Option<String>,
    pub port: Option<i32>,
    pub queued_at: Timestamp,
    pub sent_at: Option<Timestamp>,
    pub finished_at: Timestamp,
    pub is_test: bool,
    pub redelivery_of: Option<Uuid>,
    pub instance_id: Option<Uuid>,
}

impl Database {
    /// A database with the `leads` table of the default mapping.
    pub async fn create(cluster: &Arc<Cluster>) -> Self {
        Self::create_with(cluster, LEADS).await
    }

    /// A database in which the application has run `sql` instead.
    pub async fn create_with(cluster: &Arc<Cluster>, sql: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let n = NUMBER.fetch_add(1, Ordering::Relaxed);
        let database = Self {
            cluster: cluster.clone(),
            name: format!("test_{n}"),
            owner_role: format!("lead_webhook_owner_{n}"),
            daemon_role: format!("lead_webhook_daemon_{n}"),
            daemon_login: format!("lw_{n}"),
            app_login: format!("app_{n}"),
        };
        let Self { name, daemon_login, app_login, .. } = &database;
        let server = connect(&url(cluster, ADMIN, "postgres")).await.unwrap();
        server.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let roles = format!(
            "CREATE ROLE {daemon_login} LOGIN; CREATE ROLE {app_login} LOGIN;
             GRANT CREATE ON SCHEMA public TO {app_login};"
        );
        database.admin().await.batch_execute(&roles).await.unwrap();
        database.app().await.batch_execute(sql).await.unwrap();
        database
    }

    /// The server's major version.
    pub async fn major_version(&self) -> i32 {
        let version = "SELECT current_setting('server_version_num')::integer / 10000";
        self.admin().await.query_one(version, &[]).await.unwrap().get(0)
    }

    /// Whether the server has `what`, which came with this major version. Where it has not, that is printed: nothing is
    /// left out in silence.
    pub async fn has(&self, what: &str, since: i32) -> bool {
        let version = self.major_version().await;
        if version < since {
            left_out(&format!("{what}, which PostgreSQL {version} does not have"));
        }
        version >= since
    }

    /// A copy of the whole database on the same server, under a name of its own. Nobody may be connected to this one.
    pub async fn copy(&self) -> Self {
        let name = format!("{}_copy", self.name);
        let sql = format!("CREATE DATABASE {name} TEMPLATE {}", self.name);
        self.server().await.batch_execute(&sql).await.unwrap();
        self.called(&self.cluster, &name)
    }

    /// The same roles, another server or name.
    pub fn called(&self, cluster: &Arc<Cluster>, name: &str) -> Self {
        Self {
            cluster: cluster.clone(),
            name: name.to_owned(),
            owner_role: self.owner_role.clone(),
            daemon_role: self.daemon_role.clone(),
            daemon_login: self.daemon_login.clone(),
            app_login: self.app_login.clone(),
        }
    }

    /// A session of the superuser in another database of the server.
    pub async fn server(&self) -> Client {
        connect(&url(&self.cluster, ADMIN, "postgres")).await.expect("a session of the superuser")
    }

    /// A URL for `login`, over TCP.
    pub fn url(&self, login: &str) -> String {
        url(&self.cluster, login, &self.name)
    }

    /// The superuser's URL: what `database.owner_url` is set to.
    pub fn admin_url(&self) -> String {
        self.url(ADMIN)
    }

    /// A session of the superuser.
    pub async fn admin(&self) -> Client {
        connect(&self.admin_url()).await.expect("a session of the superuser")
    }

    /// A session of the application.
    pub async fn app(&self) -> Client {
        connect(&self.url(&self.app_login)).await.expect("a session of the application")
    }

    /// A session of the application, where the server is there.
    pub async fn try_app(&self) -> Option<Client> {
        connect(&self.url(&self.app_login)).await.ok()
    }

    /// A session of the superuser, where the server is there.
    pub async fn try_admin(&self) -> Option<Client> {
        connect(&self.admin_url()).await.ok()
    }

    /// A session with the daemon's rights.
    pub async fn daemon(&self) -> Client {
        connect(&self.url(&self.daemon_login)).await.expect("a session of the daemon's login")
    }

    /// As the application, inserts a lead with an email into the default table; its id.
    pub async fn insert_lead(&self, tenant: &str, email: &str) -> Uuid {
        let insert = "INSERT INTO leads (tenant_id, email) VALUES ($1, $2) RETURNING id";
        self.app().await.query_one(insert, &[&tenant, &email]).await.unwrap().get(0)
    }

    /// As the application, inserts so many leads with emails of their own in one statement.
    pub async fn insert_leads(&self, tenant: &str, n: usize) {
        let insert = "INSERT INTO leads (tenant_id, email)
                      SELECT $1, gen_random_uuid() || '@example.com' FROM generate_series(1, $2)";
        self.app().await.execute(insert, &[&tenant, &i32::try_from(n).unwrap()]).await.unwrap();
    }

    /// The log, oldest outcome first.
    pub async fn log_rows(&self) -> Vec<LogRow> {
        log_rows(&self.admin().await).await.unwrap()
    }

    /// Waits until the log has `n` rows or more; all of them.
    pub async fn wait_for_log(&self, n: usize) -> Vec<LogRow> {
        let mut session = None;
        patiently(&format!("{n} rows in the log"), async {
            loop {
                // The server may be down for a while: tests restart it.
                if session.as_ref().is_none_or(Client::is_closed) {
                    session = connect(&self.admin_url()).await.ok();
                }
                if let Some(open) = &session
                    && let Ok(rows) = log_rows(open).await
                    && rows.len() >= n
                {
                    return rows;
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await
    }

    /// How many events are pending or in flight.
    pub async fn outbox_count(&self) -> i64 {
        let count = "SELECT count(*) FROM lead_webhook.outbox";
        self.admin().await.query_one(count, &[]).await.unwrap().get(0)
    }
}

impl Drop for Database {
    /// Looks for canaries in our schema, where the server is there. Drops the database for the disk's sake: the whole
    /// server goes at the end. On a thread of its own because a destructor cannot wait inside the test's runtime.
    fn drop(&mut self) {
        let (server, database) = (url(&self.cluster, ADMIN, "postgres"), self.admin_url());
        let sql = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let everything = async { everything_in_our_schema(&connect(&database).await?).await };
                let everything = everything.await.unwrap_or_default();
                let dropped = async { connect(&server).await?.batch_execute(&sql).await };
                let _ = dropped.await;
                everything
            })
        });
        let everything = dropping.join().unwrap_or_default();
        if !thread::panicking() {
            let found = canary::found(&everything);
            assert!(found.is_empty(), "our schema holds {found:?}:\n{everything}");
        }
    }
}

/// A session at any URL.
pub async fn session(url: &str) -> Client {
    connect(url).await.unwrap_or_else(|error| panic!("no session at {url}: {error:?}"))
}

fn url(cluster: &Cluster, login: &str, database: &str) -> String {
    format!("postgres://{login}@127.0.0.1:{}/{database}", cluster.port())
}

/// Opens a session; it ends when the client is dropped.
#[expect(clippy::disallowed_methods, reason = "the session's end is the client's, or the test's")]
pub(super) async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn log_rows(session: &Client) -> Result<Vec<LogRow>, Error> {
    let columns = "delivery_id, event_id, tenant_id, lead_id, event, status, failure, reason, http_status, error, host, \
                   port, queued_at, sent_at, finished_at, is_test, redelivery_of, instance_id";
    let sql = format!("SELECT {columns} FROM lead_webhook.deliveries ORDER BY finished_at, delivery_id");
    Ok(session.query(&sql, &[]).await?.iter().map(log_row).collect())
}

fn log_row(row: &Row) -> LogRow {
    LogRow {
        delivery_id: row.get("delivery_id"),
        event_id: row.get("event_id"),
        tenant_id: row.get("tenant_id"),
        lead_id: row.get("lead_id"),
        event: row.get("event"),
        status: row.get("status"),
        failure: row.get("failure"),
        reason: row.get("reason"),
        http_status: row.get("http_status"),
        error: row.get("error"),
        host: row.get("host"),
        port: row.get("port"),
        queued_at: row.get("queued_at"),
        sent_at: row.get("sent_at"),
        finished_at: row.get("finished_at"),
        is_test: row.get("is_test"),
        redelivery_of: row.get("redelivery_of"),
        instance_id: row.get("instance_id"),
    }
}

/// Waits until a query, which asks for what `what` names, gives true: nothing in the server says so by itself.
pub async fn until_true(session: &Client, what: &str, sql: &str) {
    patiently(what, async {
        while !session.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            tokio::time::sleep(LOOK).await;
        }
    })
    .await;
}
