//! The outbox: what is pending or in flight. Picking is fair between tenants and marks what it picks, releasing gives it
//! back. It knows nothing of what a lead's values mean.

mod known;
mod pick;
mod row_at;

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::Error;
use uuid::Uuid;

use crate::event::EventKind;

pub use self::known::{known, known_statement};
pub use self::pick::{Pending, PickStatements, Picked, Request, pick};
pub use self::row_at::RowAt;
use super::{
    client::{Client, Statement},
    session::Session,
    uniqueness::Key,
};

/// What the trigger saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A row with a contact was inserted.
    Inserted,
    /// An update took a row from no contact to some.
    ContactAdded,
    /// The last conversation moved on by the silence or more.
    CameBack,
    /// The sweep found it.
    Recovered,
}

impl Kind {
    fn parse(word: &str) -> Self {
        match word {
            "contact_added" => Self::ContactAdded,
            "came_back" => Self::CameBack,
            "recovered" => Self::Recovered,
            _ => Self::Inserted,
        }
    }

    /// What an event of this kind is logged as where the claim never came to decide.
    pub fn presumed(self) -> EventKind {
        match self {
            Self::CameBack => EventKind::ReEngaged,
            Self::Inserted | Self::ContactAdded | Self::Recovered => EventKind::Created,
        }
    }
}

/// Where an outbox row is: its primary key, and where it was found by that.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The tenant.
    pub tenant_id: String,
    /// When the trigger ran, on the server's clock.
    pub queued_at: Timestamp,
    /// The event.
    pub event_id: Uuid,
    /// Where the claim has left the row.
    pub row: RowAt,
}

/// That a row `o` of the outbox is the one whose [`Place`] `u` has. The tenant as an array of one: a plan that is made beside
/// an outbox that is empty for the moment would read the whole of it for a plain join, and go on so once it has filled. A
/// macro because `concat!` takes literals only.
macro_rules! is_place {
    () => {
        "o.tenant_id = ANY (ARRAY[u.tenant_id]) AND o.queued_at = u.queued_at AND o.event_id = u.event_id"
    };
}
pub(super) use is_place;

/// A time; one beyond the years that we can write counts as absent.
macro_rules! writable {
    ($time:literal) => {
        concat!("CASE WHEN ", $time, " >= '0001-01-01Z' AND ", $time, " < '9999-01-01Z' THEN ", $time, " END")
    };
}
pub(super) use writable;

/// Primary keys as the arrays that a statement unnests.
pub(super) fn columns<'a>(places: impl Iterator<Item = &'a Place>) -> (Vec<&'a str>, Vec<Timestamp>, Vec<Uuid>) {
    places.map(|place| (place.tenant_id.as_str(), place.queued_at, place.event_id)).collect()
}

/// What an event turned out to be, where it is not what it was presumed to be.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The event's place.
    pub place: Place,
    /// What it is.
    pub event: EventKind,
    /// With [`EventKind::ReEngaged`]: the last conversation before the silence.
    pub last_conversation_at: Option<Timestamp>,
}

const DECIDE: &str = concat!(
    "\
-- outbox::decide
UPDATE lead_webhook.outbox o
SET event = u.event, last_conversation_at = u.last_conversation_at
FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::text[], $5::timestamptz[])
     AS u (tenant_id, queued_at, event_id, event, last_conversation_at)
WHERE ",
    is_place!(),
    "
RETURNING o.event_id, o.ctid"
);

/// The statement that [`decide`] runs.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn decide_statement(session: &mut Session) -> Result<Statement, Error> {
    session.statement(DECIDE).await
}

/// Notes what picked events turned out to be: it stands, also where they go back to the queue. Where their rows are now.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn decide(
    client: &Client,
    statement: &Statement,
    decisions: &[Decision],
) -> Result<HashMap<Uuid, RowAt>, Error> {
    let (tenants, queued, events) = columns(decisions.iter().map(|d| &d.place));
    let kinds: Vec<&str> = decisions.iter().map(|d| d.event.as_str()).collect();
    let last: Vec<Option<Timestamp>> = decisions.iter().map(|d| d.last_conversation_at).collect();
    let decided = client.query(statement, &[&tenants, &queued, &events, &kinds, &last]).await?;
    decided.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

const RELEASE: &str = "\
-- outbox::release
UPDATE lead_webhook.outbox
SET claimed_by = NULL, claimed_at = NULL, delivery_id = NULL
WHERE claimed_by = $1 AND delivery_id <> ALL ($2::uuid[])";

/// Gives every claim of `instance_id` back to the queue, except for the deliveries `in_flight`: what was claimed but
/// never begun, because the answer to a commit was lost or the daemon stops.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn release(session: &mut Session, instance_id: Uuid, in_flight: &[Uuid]) -> Result<u64, Error> {
    session.execute(RELEASE, &[&instance_id, &in_flight]).await
}

const GIVE_BACK: &str = concat!(
    "\
-- outbox::give_back
UPDATE lead_webhook.outbox o
SET claimed_by = NULL, claimed_at = NULL, delivery_id = NULL
FROM unnest($2::text[], $3::timestamptz[], $4::uuid[], $5::uuid[]) AS u (tenant_id, queued_at, event_id, delivery_id)
WHERE ",
    is_place!(),
    "
  AND o.claimed_by = $1 AND o.delivery_id = u.delivery_id
RETURNING u.delivery_id"
);

/// Gives some claims of `instance_id` back to the queue, each an event's place and its delivery, where they still stand;
/// the deliveries of those that did.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn give_back(
    session: &mut Session,
    instance_id: Uuid,
    claims: &[(&Place, Uuid)],
) -> Result<HashSet<Uuid>, Error> {
    let (tenants, queued, events) = columns(claims.iter().map(|(place, _)| *place));
    let deliveries: Vec<Uuid> = claims.iter().map(|(_, delivery_id)| *delivery_id).collect();
    let given_back = session.query(GIVE_BACK, &[&instance_id, &tenants, &queued, &events, &deliveries]).await?;
    given_back.iter().map(|row| row.try_get(0)).collect()
}

/// A claim that the database may have forgotten.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// The event's place.
    pub place: Place,
    /// The delivery.
    pub delivery_id: Uuid,
    /// What it was sent as.
    pub event: EventKind,
    /// Its tenant, visitor and contact.
    pub key: Key,
}

const INTERRUPT: &str = concat!(
    "\
-- outbox::interrupt
WITH u AS (
    SELECT * FROM unnest($2::text[], $3::timestamptz[], $4::uuid[], $5::uuid[], $6::text[], $8::bytea[])
    AS u (tenant_id, queued_at, event_id, delivery_id, event, key)
), taken AS (
    DELETE FROM lead_webhook.outbox o USING u
    WHERE ",
    is_place!(),
    "
      AND (o.claimed_by IS NULL
           OR o.claimed_by = $1 AND o.delivery_id = u.delivery_id AND u.delivery_id <> ALL ($7::uuid[]))
    RETURNING u.*, o.lead_id, coalesce(o.last_conversation_at, ",
    writable!("o.previous_conversation_at"),
    ") AS last_conversation_at
), logged AS (
    INSERT INTO lead_webhook.deliveries
        (delivery_id, event_id, tenant_id, lead_id, event, status, error, queued_at, finished_at, instance_id,
         last_conversation_at)
    SELECT t.delivery_id, t.event_id, t.tenant_id, t.lead_id, t.event, 'interrupted',
           'the server that knew of the attempt was lost: it may have arrived', t.queued_at, clock_timestamp(), $1,
           CASE WHEN t.event = 'lead.re_engaged' THEN t.last_conversation_at END
    FROM taken t
    ON CONFLICT DO NOTHING
), keyed AS (
    -- A claim and its key are one transaction: who lacks the one lacks the other, and would fire for a repeat.
    INSERT INTO lead_webhook.uniqueness AS k (key, tenant_id, lead_id, seen_at, came_back_at, event_id)
    SELECT DISTINCT ON (t.key) t.key, t.tenant_id, t.lead_id, t.queued_at,
           CASE WHEN t.event = 'lead.re_engaged' THEN t.queued_at END, t.event_id
    FROM taken t
    ORDER BY t.key, t.queued_at DESC
    ON CONFLICT (key) DO UPDATE SET lead_id = excluded.lead_id, seen_at = excluded.seen_at,
        came_back_at = coalesce(excluded.came_back_at, k.came_back_at), event_id = excluded.event_id
    WHERE k.seen_at < excluded.seen_at
)
SELECT count(*) FROM taken"
);

/// Logs those of `claims` that stand unclaimed as interrupted, and those that stand claimed and are not `unsettled`, and
/// writes their keys again; how many.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn interrupt(
    session: &mut Session,
    instance_id: Uuid,
    claims: &[&Forgotten],
    unsettled: &[Uuid],
) -> Result<i64, Error> {
    let (tenants, queued, events) = columns(claims.iter().map(|claim| &claim.place));
    let deliveries: Vec<Uuid> = claims.iter().map(|claim| claim.delivery_id).collect();
    let kinds: Vec<&str> = claims.iter().map(|claim| claim.event.as_str()).collect();
    let statement = session.statement(INTERRUPT).await?;
    let keys: Vec<&[u8]> = claims.iter().map(|claim| claim.key.as_slice()).collect();
    let params: [super::session::Param<'_>; 8] =
        [&instance_id, &tenants, &queued, &events, &deliveries, &kinds, &unsettled, &keys];
    session.client().query_one(&statement, &params).await?.try_get(0)
}

const CLAIMED: &str = "\
-- outbox::claimed
SELECT delivery_id FROM lead_webhook.outbox WHERE claimed_by = $1";

/// The deliveries that stand claimed by `instance_id`.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn claimed(session: &mut Session, instance_id: Uuid) -> Result<Vec<Uuid>, Error> {
    session.query(CLAIMED, &[&instance_id]).await?.iter().map(|row| row.try_get(0)).collect()
}

const BACKLOG: &str = "\
-- outbox::backlog
SELECT count(*) FILTER (WHERE claimed_by IS NULL) AS pending,
       count(*) FILTER (WHERE claimed_by IS NOT NULL) AS in_flight,
       (extract(epoch FROM clock_timestamp() - min(queued_at) FILTER (WHERE claimed_by IS NULL)))::float8 AS oldest_s
FROM lead_webhook.outbox";

/// What waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backlog {
    /// Events that nobody claimed yet.
    pub pending: i64,
    /// Events that are claimed.
    pub in_flight: i64,
    /// Age of the oldest pending event in seconds.
    pub oldest_s: Option<f64>,
}

/// Counts what is pending and in flight.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn backlog(session: &mut Session) -> Result<Backlog, Error> {
    let rows = session.query(BACKLOG, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Backlog { pending: 0, in_flight: 0, oldest_s: None }) };
    Ok(Backlog {
        pending: row.try_get("pending")?,
        in_flight: row.try_get("in_flight")?,
        oldest_s: row.try_get("oldest_s")?,
    })
}
