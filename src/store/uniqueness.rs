//! The uniqueness keys: one row for each tenant, visitor and contact that was ever seen. Two daemons that meet at one
//! key wait for each other here, in key order, so that they agree.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::Error;
use uuid::Uuid;

use super::{
    client::{Client, Statement},
    outbox::{Pending, is_place},
    rows::{Rows, row},
    session::Session,
    transaction_id::TransactionId,
};

/// HMAC-SHA256 of tenant, visitor and contact.
pub type Key = [u8; 32];

/// What is known of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The tenant.
    pub tenant_id: String,
    /// The newest lead with this key.
    pub lead_id: String,
    /// When the latest event with this key was queued, fired or not.
    pub seen_at: Timestamp,
    /// The time of the latest come-back that an event was fired for.
    pub came_back_at: Option<Timestamp>,
    /// The latest event that was fired; `None` after `seed`.
    pub event_id: Option<Uuid>,
    /// The application's transaction of that event.
    pub transaction_id: Option<TransactionId>,
}

/// The statements of a claim, prepared once a session.
#[derive(Clone)]
pub struct Statements {
    add: Statement,
    add_or_give_back: Statement,
    lock: Statement,
    store: Statement,
    take_back: Statement,
}

impl Statements {
    /// Prepares them.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn prepare(session: &mut Session) -> Result<Self, Error> {
        Ok(Self {
            add: prepared(session, ADD).await?,
            add_or_give_back: prepared(session, ADD_OR_GIVE_BACK).await?,
            lock: session.statement(LOCK).await?,
            store: prepared(session, STORE).await?,
            take_back: session.statement(TAKE_BACK).await?,
        })
    }
}

/// A statement whose one parameter is [`rows_of`].
async fn prepared(session: &mut Session, sql: &str) -> Result<Statement, Error> {
    session.statement_of_rows(sql, "uniqueness", &[]).await
}

/// The columns of a [`KeyRow`]. A macro because `concat!` takes literals only.
macro_rules! columns {
    ($seen_at:literal) => {
        concat!("key, tenant_id, lead_id, ", $seen_at, ", came_back_at, event_id, transaction_id")
    };
}

/// Inserts rows in this order: two daemons that wait for each other's do so in key order.
macro_rules! insert_by {
    ($order:literal) => {
        insert_by!("seen_at", $order)
    };
    ($seen_at:literal, $order:literal) => {
        concat!(
            "INSERT INTO lead_webhook.uniqueness AS k (",
            columns!("seen_at"),
            ")\nSELECT ",
            columns!($seen_at),
            "\nFROM unnest($1::lead_webhook.uniqueness[])\nORDER BY ",
            $order,
            "\nON CONFLICT (key)"
        )
    };
}

const ADD: &str = concat!("-- uniqueness::add\n", insert_by!("key"), " DO NOTHING\nRETURNING key");

/// Adds those `rows` whose key is new, and tells which those are. Waits for another transaction that is adding one of
/// them; `rows` must hold each key once.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn add(client: &Client, statements: &Statements, rows: &[(Key, Known)]) -> Result<Vec<Key>, Error> {
    let added = client.query(&statements.add, &[&rows_of(rows)]).await?;
    added.iter().map(|row| row.try_get::<_, &[u8]>(0).map(to_key)).collect()
}

/// Of several events with one key the first adds it.
const ADD_OR_GIVE_BACK: &str = concat!(
    "\
-- uniqueness::add_or_give_back
WITH added AS (
",
    insert_by!("key, seen_at, event_id"),
    " DO NOTHING
    RETURNING event_id
), given_back AS (
    UPDATE lead_webhook.outbox o
    SET claimed_by = NULL, claimed_at = NULL, delivery_id = NULL, event = NULL, last_conversation_at = NULL
    FROM (SELECT a.tenant_id, a.seen_at AS queued_at, a.event_id FROM unnest($1::lead_webhook.uniqueness[]) a) u
    WHERE ",
    is_place!(),
    "
      AND u.event_id NOT IN (SELECT a.event_id FROM added a)
)
SELECT event_id FROM added"
);

/// As [`add`] of the keys of undecided events, one row an event, seen when it was queued. Tells which events have added
/// theirs; the others go back to the queue, undecided, in the same statement: nothing is to be asked before the claim is
/// committed.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn add_or_give_back(
    client: &Client,
    statements: &Statements,
    rows: &[(Key, Known)],
) -> Result<HashSet<Uuid>, Error> {
    let added = client.query(&statements.add_or_give_back, &[&rows_of(rows)]).await?;
    added.iter().map(|row| row.try_get(0)).collect()
}

const LOCK: &str = concat!(
    "\
-- uniqueness::lock
SELECT ",
    columns!("seen_at"),
    "
FROM lead_webhook.uniqueness
WHERE key = ANY ($1::bytea[])
ORDER BY key
FOR UPDATE"
);

/// Locks and reads the rows of `keys`, in key order.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn lock(client: &Client, statements: &Statements, keys: &[Key]) -> Result<HashMap<Key, Known>, Error> {
    let keys: Vec<&[u8]> = keys.iter().map(<[u8; 32]>::as_slice).collect();
    let rows = client.query(&statements.lock, &[&keys]).await?;
    let mut known = HashMap::with_capacity(rows.len());
    for row in &rows {
        known.insert(
            to_key(row.try_get("key")?),
            Known {
                tenant_id: row.try_get("tenant_id")?,
                lead_id: row.try_get("lead_id")?,
                seen_at: row.try_get("seen_at")?,
                came_back_at: row.try_get("came_back_at")?,
                event_id: row.try_get("event_id")?,
                transaction_id: row.try_get("transaction_id")?,
            },
        );
    }
    Ok(known)
}

/// The key as an array of one, for the reason that [`is_place`] has.
const STORE: &str = "\
-- uniqueness::store
UPDATE lead_webhook.uniqueness k
SET lead_id = u.lead_id, seen_at = u.seen_at, came_back_at = u.came_back_at, event_id = u.event_id,
    transaction_id = u.transaction_id
FROM unnest($1::lead_webhook.uniqueness[]) u
WHERE k.key = ANY (ARRAY[u.key])";

/// Writes rows back that [`lock`] has locked or [`add`] has added.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn store(client: &Client, statements: &Statements, rows: &[(Key, Known)]) -> Result<(), Error> {
    client.execute(&statements.store, &[&rows_of(rows)]).await?;
    Ok(())
}

/// One that was re-engaged had a key before, which the log has told of: that stays.
const TAKE_BACK: &str = "\
-- uniqueness::take_back
DELETE FROM lead_webhook.uniqueness k USING unnest($1::text[], $2::text[], $3::uuid[]) AS u (lead_id, tenant_id, event_id)
WHERE k.lead_id = u.lead_id AND (k.tenant_id = u.tenant_id) IS TRUE AND k.event_id = u.event_id AND k.came_back_at IS NULL";

/// Removes the keys that these events have added, where nothing came after them: they were decided, went back to the queue,
/// and were never sent.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn take_back(client: &Client, statements: &Statements, unfired: &[Pending]) -> Result<(), Error> {
    let leads: Vec<&str> = unfired.iter().map(|event| event.lead_id.as_str()).collect();
    let tenants: Vec<&str> = unfired.iter().map(|event| event.place.tenant_id.as_str()).collect();
    let events: Vec<Uuid> = unfired.iter().map(|event| event.place.event_id).collect();
    client.execute(&statements.take_back, &[&leads, &tenants, &events]).await?;
    Ok(())
}

/// A lead's time that lies ahead would make duplicates of its visitor's leads until then, also when it is put right.
const SEED: &str = concat!(
    "-- uniqueness::seed\n",
    insert_by!("least(seen_at, clock_timestamp())", "key"),
    " DO UPDATE SET lead_id = excluded.lead_id, seen_at = excluded.seen_at
WHERE k.seen_at < excluded.seen_at"
);

/// Writes keys of leads that were there before; a key only moves forward. Tells how many were written.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn seed(session: &mut Session, rows: &[(Key, Known)]) -> Result<u64, Error> {
    let seed = prepared(session, SEED).await?;
    session.shared().execute(&seed, &[&rows_of(rows)]).await
}

row! {
    /// A row of the table.
    struct KeyRow<'a> {
        key: &'a [u8],
        tenant_id: &'a str,
        lead_id: &'a str,
        seen_at: Timestamp,
        came_back_at: Option<Timestamp>,
        event_id: Option<Uuid>,
        transaction_id: Option<TransactionId>,
    }
}

/// Rows as the statements take them.
fn rows_of(rows: &[(Key, Known)]) -> Rows<KeyRow<'_>> {
    let each = rows.iter().map(|(key, known)| KeyRow {
        key,
        tenant_id: &known.tenant_id,
        lead_id: &known.lead_id,
        seen_at: known.seen_at,
        came_back_at: known.came_back_at,
        event_id: known.event_id,
        transaction_id: known.transaction_id,
    });
    Rows(each.collect())
}

/// The table's CHECK holds keys to 32 bytes.
fn to_key(bytes: &[u8]) -> Key {
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(bytes) {
        *to = *from;
    }
    key
}

const TENANTS_OF: &str = "\
-- uniqueness::tenants_of
SELECT DISTINCT u.tenant_id FROM lead_webhook.uniqueness u WHERE u.lead_id = $1 ORDER BY 1";

/// The tenants who have a lead of that id that a key names.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn tenants_of(session: &mut Session, lead_id: &str) -> Result<Vec<String>, Error> {
    session.query(TENANTS_OF, &[&lead_id]).await?.iter().map(|row| row.try_get(0)).collect()
}

const FORGET: &str = "\
-- uniqueness::forget
DELETE FROM lead_webhook.uniqueness u WHERE u.lead_id = $1 AND ($2::text IS NULL OR u.tenant_id = $2)";

/// Deletes the keys that name the lead; how many.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn forget(session: &mut Session, lead_id: &str, tenant_id: Option<&str>) -> Result<u64, Error> {
    session.execute(FORGET, &[&lead_id, &tenant_id]).await
}
