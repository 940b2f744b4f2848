//! graphile-worker: the PostgreSQL queue of the Node.js world, tuned for throughput (`graphile/run.js`), doing what the
//! daemon does: it signs, sends, and writes its outcome.

use std::path::{Path, PathBuf};

use tokio_postgres::Client;

use crate::{child::Child, harness::Database, stand::Stand};

/// What an application writes beside it: the payload, the trigger, the log.
const SCHEMA: &str = r#"
CREATE TABLE webhook_log (lead_id bigint, http_status integer, total_ms integer, at timestamptz DEFAULT now());
CREATE FUNCTION lead_json(lead leads) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object('event', 'lead.created', 'tenantId', lead.tenant_id, 'leadId', lead.id::text,
        'email', lead.email, 'phone', lead.phone, 'conversationId', lead.conversation_id,
        'capturedAt', to_char(lead.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))
$$;
CREATE FUNCTION add_lead() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM graphile_worker.add_job('lead', lead_json(NEW));
    RETURN NULL;
END $$;
CREATE TRIGGER add_lead AFTER INSERT ON leads FOR EACH ROW EXECUTE FUNCTION add_lead();
"#;

/// As the trigger would, in one statement: by the trigger 20,000 leads take half a minute.
const QUEUE_ALL: &str = "SELECT graphile_worker.add_jobs(array_agg(json_populate_record(
    NULL::graphile_worker.job_spec, json_build_object('identifier', 'lead', 'payload', lead_json(leads))))) FROM leads";

/// How many leads are pending or in flight.
pub(crate) const PENDING: &str = "SELECT count(*) FROM graphile_worker._private_jobs";

/// Its schema beside an application.
pub(crate) struct Graphile {
    /// A session of the superuser.
    pub(crate) admin: Client,
    /// Where it is.
    pub(crate) database: Database,
}

/// Whether Node.js and the packages are here.
pub(crate) fn is_here() -> bool {
    folder().join("node_modules").exists()
}

impl Graphile {
    /// Installs it in a database of its own.
    pub(crate) async fn install(stand: &Stand) -> Self {
        let database = stand.database().await;
        let graphile = Self { admin: database.admin().await, database };
        Child::of("node", &[&script(), "migrate", &graphile.database.admin_url()]).line();
        graphile.admin.batch_execute(SCHEMA).await.unwrap();
        graphile
    }

    /// Starts it; returns when it looks into its queue.
    pub(crate) fn start(&self, stand: &Stand) -> Child {
        let (url, ca_file) = (stand.receiver.url(), stand.receiver.ca_file().display().to_string());
        let mut child = Child::of("node", &[&script(), "run", &self.database.admin_url(), &url, &ca_file]);
        assert_eq!(child.line(), "ready");
        child
    }

    /// Queues every lead in the table.
    pub(crate) async fn queue_all(&self) {
        self.admin.batch_execute(QUEUE_ALL).await.unwrap();
    }
}

fn script() -> String {
    folder().join("run.js").display().to_string()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/end_to_end/graphile")
}
