//! Heartbeats: which daemons run, on the server's clock. A dead one's claims become `interrupted` here. A heartbeat is one
//! statement: it is written only where the installation's row is the one that the clone guard let pass, and it brings along
//! whether the triggers fire and how often one has failed, how often the doorbell was rung, and whether there is anybody
//! to reap.

use jiff::Timestamp;
use tokio_postgres::Error;
use uuid::Uuid;

use super::{
    clocks::Ahead,
    outbox::writable,
    row_version,
    session::{Param, Session},
};
use crate::config::TableName;

/// When a daemon was last seen: the later of its renewal and the server's start, so that nobody dies of a server that was
/// away. A start in the future is none: the clock was put back since. A macro because `concat!` takes literals only.
macro_rules! seen_at {
    ($renewed_at:literal) => {
        concat!(
            "greatest(",
            $renewed_at,
            ", CASE WHEN pg_postmaster_start_time() <= clock_timestamp() THEN pg_postmaster_start_time() END)"
        )
    };
}
pub(super) use seen_at;

/// That who renewed then is dead: unseen for 30 s since.
macro_rules! is_unseen {
    ($renewed_at:literal) => {
        concat!($crate::store::instances::seen_at!($renewed_at), " < clock_timestamp() - interval '30 seconds'")
    };
}
pub(super) use is_unseen;

/// That another daemon's row `i` is dead.
macro_rules! is_dead {
    () => {
        concat!("i.instance_id <> $1 AND ", is_unseen!("i.renewed_at"))
    };
}

/// That another daemon's row `i` was renewed in the future, which was before the clock was put back.
macro_rules! is_ahead {
    () => {
        "i.instance_id <> $1 AND i.renewed_at > clock_timestamp() + interval '1 second'"
    };
}

/// That a claim `o` has an owner without any row: it counts from when it was made.
macro_rules! is_orphaned {
    () => {
        concat!(
            "o.claimed_by IS NOT NULL AND o.claimed_by <> $1 AND ",
            is_unseen!("o.claimed_at"),
            "
      AND NOT EXISTS (SELECT FROM lead_webhook.instances i WHERE i.instance_id = o.claimed_by)"
        )
    };
}

const RENEW: &str = concat!(
    "\
-- instances::renew
INSERT INTO lead_webhook.instances (instance_id, host, process_id, version, key_ids)
SELECT $1, $2, $3, $4, $5
FROM lead_webhook.installation i WHERE ",
    row_version!("i"),
    " = $6::text
ON CONFLICT (instance_id) DO UPDATE SET renewed_at = clock_timestamp(), key_ids = excluded.key_ids
RETURNING (SELECT CASE WHEN m.is_called THEN m.last_value ELSE 0 END FROM lead_webhook.missed m) AS missed,
          (SELECT b.last_value FROM lead_webhook.bell b) AS rung,
          pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest,
          pg_current_xact_id()::text::bigint AS own,
          pg_backend_pid() AS backend,
          (SELECT count(*) = 2 FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace
           WHERE n.nspname = $7::text AND c.relname = $8::text AND t.tgenabled IN ('O', 'A')
             AND t.tgname IN ('lead_webhook_insert', 'lead_webhook_update')) AS triggers_fire,
          EXISTS (SELECT FROM lead_webhook.instances i WHERE ",
    is_dead!(),
    " OR ",
    is_ahead!(),
    ") AS is_to_reap,
          clock_timestamp() AS now"
);

/// What a heartbeat saw of the triggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Whether both are on the leads table and switched on.
    pub fire: bool,
    /// How often one could not queue an event, since the install.
    pub missed: i64,
    /// The oldest transaction that was still under way.
    pub oldest: i64,
}

/// What a heartbeat saw of the doorbell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Glimpse {
    /// How often it was rung since it was armed.
    pub rung: i64,
    /// The oldest transaction that was still under way.
    pub oldest: i64,
    /// The heartbeat's own transaction.
    pub own: i64,
    /// The server's process that answered: another one may be another server's.
    pub backend: i32,
}

/// Who a daemon is.
#[derive(Debug, Clone)]
pub struct Instance {
    /// New at every start.
    pub instance_id: Uuid,
    /// The host's name.
    pub host: String,
    /// The process on that host.
    pub process_id: i32,
}

/// What a heartbeat saw.
#[derive(Debug, Clone, Copy)]
pub struct Renewed {
    /// Of the triggers.
    pub mark: Mark,
    /// Of the doorbell.
    pub glimpse: Glimpse,
    /// That there is something for [`reap`] to do.
    pub is_to_reap: bool,
    /// This host's clock beside the server's.
    pub ahead: Ahead,
}

/// Writes the heartbeat, also where the row was reaped in between. `key_ids` are the keys that the daemon opens by, `leads`
/// is the table that it expects triggers on. `None`: the installation's row has another version than `installation`, and
/// nothing was written.
///
/// It reads no table that an operator might lock for long: who waits for that is not dead. The leads table is looked up in
/// the catalog, which takes neither its lock nor a right to its schema.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn renew(
    session: &mut Session,
    instance: &Instance,
    key_ids: &[String],
    installation: &str,
    leads: &TableName,
) -> Result<Option<Renewed>, Error> {
    let version = env!("CARGO_PKG_VERSION");
    let Instance { instance_id, host, process_id } = instance;
    let TableName { schema, name } = leads;
    let params: [Param<'_>; 8] = [instance_id, host, process_id, &version, &key_ids, &installation, schema, name];
    let statement = session.statement(RENEW).await?;
    let asked_at = Timestamp::now();
    let Some(row) = session.client().query_opt(&statement, &params).await? else { return Ok(None) };
    let oldest = row.try_get("oldest")?;
    Ok(Some(Renewed {
        mark: Mark { fire: row.try_get("triggers_fire")?, missed: row.try_get("missed")?, oldest },
        glimpse: Glimpse {
            rung: row.try_get("rung")?,
            oldest,
            own: row.try_get("own")?,
            backend: row.try_get("backend")?,
        },
        is_to_reap: row.try_get("is_to_reap")?,
        ahead: Ahead::by_answer(asked_at, row.try_get("now")?),
    }))
}

const HAS_ORPHANS: &str = concat!(
    "\
-- instances::has_orphans
SELECT EXISTS (SELECT FROM lead_webhook.outbox o
               WHERE ",
    is_orphaned!(),
    ")"
);

/// Whether there are claims whose owner has no row at all, which [`reap`] logs too. Reads every pending event.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn has_orphans(session: &mut Session, own: Uuid) -> Result<bool, Error> {
    session.query(HAS_ORPHANS, &[&own]).await?.first().map_or(Ok(false), |row| row.try_get(0))
}

const HAS_OTHERS: &str = "\
-- instances::has_others
SELECT EXISTS (SELECT FROM lead_webhook.instances i WHERE i.instance_id <> $1)";

/// Whether there are other daemons, alive or not known to be dead.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn has_others(session: &mut Session, own: Uuid) -> Result<bool, Error> {
    session.query(HAS_OTHERS, &[&own]).await?.first().map_or(Ok(false), |row| row.try_get(0))
}

const RUNNING: &str = concat!(
    "\
-- instances::running
SELECT host, process_id, $1 = ANY (key_ids) AS has_key FROM lead_webhook.instances
WHERE NOT (",
    is_unseen!("renewed_at"),
    ")
ORDER BY host, process_id"
);

/// A daemon that runs, as an operator finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The host's name.
    pub host: String,
    /// The process on that host.
    pub process_id: i32,
    /// Whether it could open by the key that was asked for, at its latest heartbeat.
    pub has_key: bool,
}

/// The daemons that are not dead, each with whether it has the key `key_id`.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn running(session: &mut Session, key_id: &str) -> Result<Vec<Running>, Error> {
    let rows = session.query(RUNNING, &[&key_id]).await?;
    rows.iter()
        .map(|row| {
            Ok(Running {
                host: row.try_get("host")?,
                process_id: row.try_get("process_id")?,
                has_key: row.try_get("has_key")?,
            })
        })
        .collect()
}

/// A renewal in the future counts from now, and a living daemon's next one puts it right.
const REAP: &str = concat!(
    "\
-- instances::reap
WITH ahead AS (
    UPDATE lead_webhook.instances SET renewed_at = clock_timestamp()
    WHERE instance_id IN (
        SELECT i.instance_id FROM lead_webhook.instances i
        WHERE ",
    is_ahead!(),
    "
        FOR UPDATE SKIP LOCKED
    )
), dead AS (
    SELECT i.instance_id FROM lead_webhook.instances i
    WHERE ",
    is_dead!(),
    "
    FOR UPDATE SKIP LOCKED
), orphaned AS (
    SELECT o.claimed_by FROM lead_webhook.outbox o
    WHERE ",
    is_orphaned!(),
    "
), taken AS (
    DELETE FROM lead_webhook.outbox o
    WHERE o.claimed_by IN (SELECT instance_id FROM dead UNION ALL SELECT claimed_by FROM orphaned)
    RETURNING o.*
), logged AS (
    INSERT INTO lead_webhook.deliveries
        (delivery_id, event_id, tenant_id, lead_id, event, status, error, queued_at, finished_at, instance_id,
         last_conversation_at)
    SELECT t.delivery_id, t.event_id, t.tenant_id, t.lead_id, t.event, 'interrupted',
           'the daemon that made the attempt ended before its outcome was known: it may have arrived',
           t.queued_at, clock_timestamp(), t.claimed_by,
           CASE WHEN t.event = 'lead.re_engaged' THEN coalesce(t.last_conversation_at, ",
    writable!("t.previous_conversation_at"),
    ") END
    FROM taken t
    ON CONFLICT DO NOTHING
), gone AS (
    DELETE FROM lead_webhook.instances i USING dead d WHERE i.instance_id = d.instance_id
)
SELECT t.event_id, t.delivery_id, t.tenant_id, t.event, t.claimed_by FROM taken t"
);

/// An event whose daemon died between claim and outcome.
#[derive(Debug)]
pub struct Interrupted {
    /// The event.
    pub event_id: Uuid,
    /// The delivery that may have arrived.
    pub delivery_id: Uuid,
    /// The tenant.
    pub tenant_id: String,
    /// `lead.created` or `lead.re_engaged`.
    pub event: String,
    /// The daemon that died.
    pub instance_id: Uuid,
}

/// Logs the claims of dead daemons as `interrupted` and forgets those daemons. It looks over the whole outbox.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn reap(session: &mut Session, own: Uuid) -> Result<Vec<Interrupted>, Error> {
    let rows = session.query(REAP, &[&own]).await?;
    rows.iter()
        .map(|row| {
            Ok(Interrupted {
                event_id: row.try_get("event_id")?,
                delivery_id: row.try_get("delivery_id")?,
                tenant_id: row.try_get("tenant_id")?,
                event: row.try_get("event")?,
                instance_id: row.try_get("claimed_by")?,
            })
        })
        .collect()
}

const LEAVE: &str = "\
-- instances::leave
DELETE FROM lead_webhook.instances i
WHERE i.instance_id = $1
  AND NOT EXISTS (SELECT FROM lead_webhook.outbox o WHERE o.claimed_by = i.instance_id)";

/// Signs off. Kept where claims are left, so that they are found.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn leave(session: &mut Session, own: Uuid) -> Result<(), Error> {
    session.execute(LEAVE, &[&own]).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::check::DEAD;

    #[test]
    fn a_daemon_is_dead_after_one_time_to_all_who_ask() {
        assert!(RUNNING.contains(&format!("interval '{DEAD} seconds'")));
    }
}
