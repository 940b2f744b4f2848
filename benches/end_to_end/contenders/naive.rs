//! The obvious daemon: the trigger notifies with the lead's id, the daemon listens, and for each id asks for the
//! configuration and the lead, sends, and writes a log row. It loses what is committed while it does not listen.

use std::{
    future::poll_fn,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use lead_webhook::delivery::signature;
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_postgres::{AsyncMessage, Client, Connection, NoTls, Socket, tls::NoTlsStream};

use super::limit;
use crate::{child::Child, harness::Database, stand::Stand};

/// Attempts in flight.
const IN_FLIGHT: usize = 64;

/// Sessions that they share.
const SESSIONS: usize = 8;

const SCHEMA: &str = "
CREATE TABLE webhook_config (tenant_id text PRIMARY KEY, url text NOT NULL, secret text NOT NULL);
CREATE TABLE webhook_log (lead_id bigint, http_status integer, at timestamptz DEFAULT now());
CREATE FUNCTION notify_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('lead_created', NEW.id::text);
    RETURN NULL;
END $$;
CREATE TRIGGER notify_lead AFTER INSERT ON leads FOR EACH ROW EXECUTE FUNCTION notify_lead();";

/// Its tables and its trigger beside an application.
pub(crate) struct Naive {
    /// Where they are.
    pub(crate) database: Database,
}

impl Naive {
    /// Installs it in a database of its own, with a configuration for so many tenants.
    pub(crate) async fn install(stand: &Stand, tenants: i64) -> Self {
        let database = stand.database().await;
        let admin = database.admin().await;
        admin.batch_execute(SCHEMA).await.unwrap();
        let configure = "INSERT INTO webhook_config
                         SELECT 't-' || n, $1, 'whsec_' || md5(n::text) FROM generate_series(0, $2::bigint - 1) AS n";
        admin.execute(configure, &[&stand.receiver.url(), &tenants]).await.unwrap();
        Self { database }
    }

    /// Starts it; returns when it listens.
    pub(crate) fn start(&self, stand: &Stand) -> Child {
        let (url, ca_file) = (self.database.admin_url(), stand.receiver.ca_file().display().to_string());
        let mut child = Child::in_role(&["naive", "--database", &url, "--ca-file", &ca_file]);
        assert_eq!(child.line(), "ready");
        child
    }
}

/// That process; ends with its session.
pub(crate) async fn run(database: &str, ca_file: &Path) -> io::Result<()> {
    let http = limit::client(ca_file);
    let mut running = JoinSet::new();
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        let (session, connection) = connect(database).await;
        running.spawn(async move { drop(connection.await) });
        sessions.push(Arc::new(session));
    }
    let (listener, mut connection) = connect(database).await;
    let (ids, mut notified) = tokio::sync::mpsc::unbounded_channel::<i64>();
    running.spawn(async move {
        while let Some(Ok(said)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(lead) = said {
                ids.send(lead.payload().parse().unwrap()).unwrap();
            }
        }
    });
    listener.batch_execute("LISTEN lead_created").await.unwrap();
    writeln!(io::stdout(), "ready")?;
    let permits = Arc::new(Semaphore::new(IN_FLIGHT));
    for session in sessions.iter().cycle() {
        let Some(lead) = notified.recv().await else { break };
        let permit = Arc::clone(&permits).acquire_owned().await.unwrap();
        let (session, http) = (Arc::clone(session), http.clone());
        running.spawn(async move {
            deliver(&session, &http, lead).await;
            drop(permit);
        });
        while running.try_join_next().is_some() {}
    }
    Ok(())
}

async fn deliver(session: &Client, http: &reqwest::Client, id: i64) {
    let find = "SELECT tenant_id, email, phone, conversation_id,
                       to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')
                FROM leads WHERE id = $1";
    let lead = session.query_one(find, &[&id]).await.unwrap();
    let text = |column: usize| lead.get::<_, &str>(column);
    let configured = "SELECT url, secret FROM webhook_config WHERE tenant_id = $1";
    let config = session.query_one(configured, &[&text(0)]).await.unwrap();
    let body = json!({
        "event": "lead.created", "tenantId": text(0), "leadId": id.to_string(), "email": text(1), "phone": text(2),
        "conversationId": text(3), "capturedAt": text(4),
    });
    let body = body.to_string();
    let request = http
        .post(config.get::<_, &str>(0))
        .header("Content-Type", "application/json")
        .header("X-Wilow-Event", "lead.created")
        .header("X-Wilow-Delivery-Id", id.to_string())
        .header(
            "X-Wilow-Signature",
            signature::hex_signature_with(config.get::<_, &str>(1).as_bytes(), body.as_bytes()),
        );
    let answer = request.body(body).send().await.unwrap();
    let status = i32::from(answer.status().as_u16());
    answer.bytes().await.unwrap();
    let log = "INSERT INTO webhook_log (lead_id, http_status) VALUES ($1, $2)";
    session.execute(log, &[&id, &status]).await.unwrap();
}

async fn connect(database: &str) -> (Client, Connection<Socket, NoTlsStream>) {
    tokio_postgres::connect(database, NoTls).await.unwrap()
}
