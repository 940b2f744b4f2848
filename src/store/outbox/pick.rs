//! Picking: which pending events a claim takes. Fair between tenants, and one statement whatever is pending.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::{Kind, Place, writable};
use crate::{
    event::EventKind,
    store::{
        client::{Client, Statement},
        leads::{self, Leads, Writable},
        mapping::MappedSql,
        row_version,
        session::{Param, Session},
        transaction_id::TransactionId,
    },
};

/// One event that was pending and is marked as claimed, once the claim's transaction is committed.
#[derive(Debug, Clone)]
pub struct Pending {
    /// Its primary key.
    pub place: Place,
    /// The delivery that it is claimed for.
    pub delivery_id: Uuid,
    /// The lead, as text.
    pub lead_id: String,
    /// What the trigger saw.
    pub kind: Kind,
    /// With [`Kind::CameBack`]: the last conversation before the update.
    pub previous_conversation_at: Option<Timestamp>,
    /// With [`Kind::CameBack`]: the last conversation after the update.
    pub conversation_at: Option<Timestamp>,
    /// Whether the endpoint was on at the capture.
    pub was_enabled: bool,
    /// The application's transaction.
    pub transaction_id: TransactionId,
    /// What an earlier claim decided, where the event went back to the queue.
    pub decided: Option<(EventKind, Option<Timestamp>)>,
    /// Older than `delivery.max_age`.
    pub expired: bool,
    /// An insert of a lead whose id has a key or a log row already, was noted as muted, or comes after another in the same
    /// pick: a row that moved between partitions. Not one that was gone before it could be read, and is there again.
    pub is_moved_row: bool,
}

impl Pending {
    /// What the pick has marked it as: as it was decided before, or as it is presumed to be. With it the last conversation
    /// before it.
    pub fn marked(&self) -> (EventKind, Option<Timestamp>) {
        self.decided.unwrap_or((self.kind.presumed(), self.previous_conversation_at))
    }
}

/// Picks up to `permits` pending events for one claim.
#[derive(Debug, Clone)]
pub struct Request {
    /// The most events to pick.
    pub permits: i64,
    /// The most of one tenant, where `free` says nothing else.
    pub per_endpoint: i32,
    /// Tenants with attempts in flight, and how many more each may have.
    pub free: Vec<(String, i32)>,
    /// Tenants up to and including this one had their turn.
    pub cursor: String,
    /// Microseconds after which an event is too old; `None`: no limit.
    pub max_age_us: Option<i64>,
    /// Events that were queued before are left out; `None`: none.
    pub since: Option<Timestamp>,
}

impl Request {
    /// Whose turn was the last, given the tenant of each event that was `picked`.
    pub fn last_turn(&self, picked: &[String]) -> Option<String> {
        picked.iter().max_by_key(|tenant| (**tenant <= self.cursor, *tenant)).cloned()
    }

    /// Whether one tenant got as many as it may have, given the tenant of each event that was `picked`: more of its
    /// events may be pending.
    pub fn holds_back(&self, picked: &[String]) -> bool {
        let mut room: HashMap<&str, i32> = self.free.iter().map(|(tenant, n)| (tenant.as_str(), *n)).collect();
        for tenant in picked {
            *room.entry(tenant).or_insert(self.per_endpoint) -= 1;
        }
        room.values().any(|n| *n <= 0)
    }
}

/// A loose scan over the tenants, once around from the cursor on, each with as many of its oldest events as it has free
/// permits. Rows that another daemon holds are skipped, rows in flight are stepped over. What is left out as older is passed
/// in the index, without a look at the rows. What is gone stands in the index until it is vacuumed, before all that is
/// pending: it is passed once, by the scan over the tenants, which tells where each one's rows begin.
///
/// What is picked is marked at once, as what it is presumed to be: few events turn out to be anything else. It is made once
/// and each row is found by its place: `session::PROBE` leaves a plan no other way.
///
/// A delivery's id begins with the hour, modulo 256, as two digits: rows that are logged together then stand together in
/// the log's index. By chance alone each would touch a page of its own once the log is long, which is written whole after
/// each checkpoint. Then come 52 bits of the event's chance, so that ids can be told apart by their begin, and last 62 of the
/// pick's own: chance is dear, and this is new for every send all the same.
const MARK: &str = concat!(
    "\
-- outbox::pick
WITH RECURSIVE behind AS (
    (SELECT o.tenant_id, o.queued_at FROM lead_webhook.outbox o
     WHERE o.tenant_id > $4::text AND o.queued_at >= coalesce($8::timestamptz, '-infinity')
     ORDER BY o.tenant_id, o.queued_at LIMIT 1)
    UNION ALL
    SELECT n.* FROM behind t CROSS JOIN LATERAL (
        SELECT o.tenant_id, o.queued_at FROM lead_webhook.outbox o
        WHERE o.tenant_id > t.tenant_id AND o.queued_at >= coalesce($8::timestamptz, '-infinity')
        ORDER BY o.tenant_id, o.queued_at LIMIT 1) n
), before AS (
    (SELECT o.tenant_id, o.queued_at FROM lead_webhook.outbox o
     WHERE o.tenant_id <= $4::text AND o.queued_at >= coalesce($8::timestamptz, '-infinity')
     ORDER BY o.tenant_id, o.queued_at LIMIT 1)
    UNION ALL
    SELECT n.* FROM before t CROSS JOIN LATERAL (
        SELECT o.tenant_id, o.queued_at FROM lead_webhook.outbox o
        WHERE o.tenant_id > t.tenant_id AND o.tenant_id <= $4::text
          AND o.queued_at >= coalesce($8::timestamptz, '-infinity')
        ORDER BY o.tenant_id, o.queued_at LIMIT 1) n
)
UPDATE lead_webhook.outbox o
SET claimed_by = $7, claimed_at = clock_timestamp(),
    delivery_id = ((SELECT substr(to_hex(256 + (floor(extract(epoch FROM statement_timestamp()) / 3600)::bigint & 255)), 2))
                   || substr(o.event_id::text, 3, 17) || (SELECT substr(gen_random_uuid()::text, 20)))::uuid,
    event = coalesce(p.event, CASE o.kind WHEN 'came_back' THEN 'lead.re_engaged' ELSE 'lead.created' END),
    last_conversation_at = CASE WHEN p.event IS NULL THEN p.previous_conversation_at ELSE p.last_conversation_at END
FROM (
    SELECT p.*, t.endpoint_version
    FROM (
        -- Another version whenever the endpoint's row was written. OFFSET 0: put together once a tenant, not once an event.
        SELECT t.tenant_id, t.queued_at,
               (SELECT ",
    row_version!("e"),
    " FROM lead_webhook.endpoints e
                WHERE e.tenant_id = t.tenant_id AND e.takes_part) AS endpoint_version
        FROM (SELECT * FROM behind UNION ALL SELECT * FROM before) t
        OFFSET 0) t
    CROSS JOIN LATERAL (
        SELECT o.ctid AS row, o.tenant_id, o.lead_id, o.event, o.last_conversation_at,
               ",
    writable!("o.previous_conversation_at"),
    " AS previous_conversation_at
        FROM lead_webhook.outbox o
        WHERE o.tenant_id = t.tenant_id AND o.queued_at >= t.queued_at AND o.claimed_by IS NULL
          -- A come-back waits until its lead's creation is decided, which another daemon may have under way.
          AND NOT (o.kind = 'came_back' AND EXISTS (
              SELECT FROM lead_webhook.outbox c
              WHERE c.tenant_id = o.tenant_id AND c.queued_at <= o.queued_at AND c.lead_id = o.lead_id
                AND c.kind IN ('inserted', 'contact_added', 'recovered') AND c.event IS NULL))
        ORDER BY o.queued_at, o.event_id
        LIMIT coalesce(($3::int[])[array_position($2::text[], t.tenant_id)], $5::int)
        FOR UPDATE SKIP LOCKED) p
    LIMIT $1::bigint) p
"
);

/// What [`MARK`] has marked, with what the claim needs of it. Between the two stands the join with the leads, where they are
/// read at once.
const MARKED: &str = "
WHERE o.ctid = p.row
RETURNING o.tenant_id AS event_tenant_id, o.lead_id AS event_lead_id, o.queued_at, o.event_id, o.kind, o.was_enabled,
    o.delivery_id, p.previous_conversation_at, o.conversation_at, o.transaction_id, p.event AS decided_event,
    p.last_conversation_at AS decided_conversation_at,
    coalesce(o.queued_at < clock_timestamp() - $6::bigint * interval '1 microsecond', false) AS expired,
    -- OFFSET 0 keeps these probes: else a plan hashes the whole table. IS TRUE keeps them to the lead's index: a
    -- plan made while the log is empty would read all of the tenant's rows.
    o.kind = 'inserted' AND (
        EXISTS (SELECT FROM lead_webhook.uniqueness u
                WHERE u.lead_id = o.lead_id AND (u.tenant_id = o.tenant_id) IS TRUE OFFSET 0)
        OR EXISTS (SELECT FROM lead_webhook.deliveries d
                   WHERE d.lead_id = o.lead_id AND (d.tenant_id = o.tenant_id) IS TRUE
                     AND d.reason IS DISTINCT FROM 'gone' OFFSET 0)
        OR EXISTS (SELECT FROM lead_webhook.muted m
                   WHERE m.lead_id = o.lead_id AND (m.tenant_id = o.tenant_id) IS TRUE OFFSET 0)
    ) AS is_moved_row, o.ctid AS row_at, p.endpoint_version";

/// What one pick found.
#[derive(Default)]
pub struct Picked {
    /// The events, oldest first.
    pub events: Vec<Pending>,
    /// The versions of their tenants' endpoints, where those take part.
    pub endpoints: HashMap<String, String>,
    /// Their leads, where they were read at once.
    pub leads: Option<Leads>,
}

/// The two statements of [`pick`].
pub struct PickStatements {
    with_leads: Statement,
    alone: Statement,
    reads_leads: bool,
}

impl PickStatements {
    /// Prepares them.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn prepare(session: &mut Session, mapped: &MappedSql) -> Result<Self, Error> {
        // An event comes out once, whatever the leads table holds: a row is updated once.
        let lead = leads::of_event_sql(mapped, "p");
        let with_leads = format!("{MARK}LEFT JOIN LATERAL ({lead}) l ON true{MARKED}, l.*");
        let alone = format!("{MARK}{MARKED}");
        Ok(Self {
            with_leads: session.statement(&with_leads).await?,
            alone: session.statement(&alone).await?,
            reads_leads: mapped.id_is_indexed,
        })
    }

    /// Whether leads should be read with their events: one look-up each. Without an index each were a look at the whole
    /// table, which is better made once.
    pub fn reads_leads(&self) -> bool {
        self.reads_leads
    }
}

/// Marks pending events as claimed by `instance_id` and reads them, within the claim's transaction; their leads too,
/// where `with_leads` says so. One lead that cannot be read fails the whole statement then.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn pick(
    client: &Client,
    statements: &PickStatements,
    instance_id: Uuid,
    request: &Request,
    with_leads: bool,
) -> Result<Picked, Error> {
    let (tenants, free): (Vec<&str>, Vec<i32>) = request.free.iter().map(|(t, n)| (t.as_str(), *n)).unzip();
    let params: [Param<'_>; 8] = [
        &request.permits,
        &tenants,
        &free,
        &request.cursor,
        &request.per_endpoint,
        &request.max_age_us,
        &instance_id,
        &request.since,
    ];
    let statement = if with_leads { &statements.with_leads } else { &statements.alone };
    let rows = client.query(statement, &params).await?;
    let mut picked = Picked { leads: with_leads.then(|| Leads::of_events(&rows)), ..Picked::default() };
    for row in &rows {
        let event = pending(row)?;
        if let Some(version) = row.try_get::<_, Option<&str>>("endpoint_version")?
            && !picked.endpoints.contains_key(&event.place.tenant_id)
        {
            picked.endpoints.insert(event.place.tenant_id.clone(), version.to_owned());
        }
        picked.events.push(event);
    }
    // The first event of a visitor and contact is the one that fires.
    picked.events.sort_by_key(|event| (event.place.queued_at, event.place.event_id));
    let mut inserted = HashSet::with_capacity(picked.events.len());
    let again = picked.events.iter().map(|event| {
        let lead = (event.place.tenant_id.as_str(), event.lead_id.as_str());
        event.kind == Kind::Inserted && !inserted.insert(lead)
    });
    let again: Vec<bool> = again.collect();
    picked.events.iter_mut().zip(again).for_each(|(event, again)| event.is_moved_row |= again);
    Ok(picked)
}

fn pending(row: &Row) -> Result<Pending, Error> {
    let decided: Option<&str> = row.try_get("decided_event")?;
    let last_conversation_at: Option<Timestamp> = row.try_get("decided_conversation_at")?;
    Ok(Pending {
        place: Place {
            tenant_id: row.try_get("event_tenant_id")?,
            queued_at: row.try_get("queued_at")?,
            event_id: row.try_get("event_id")?,
            row: row.try_get("row_at")?,
        },
        delivery_id: row.try_get("delivery_id")?,
        lead_id: row.try_get("event_lead_id")?,
        kind: Kind::parse(row.try_get("kind")?),
        previous_conversation_at: row.try_get("previous_conversation_at")?,
        conversation_at: row.try_get::<_, Option<Writable>>("conversation_at")?.and_then(|time| time.0),
        was_enabled: row.try_get("was_enabled")?,
        transaction_id: row.try_get("transaction_id")?,
        decided: decided.and_then(|word| word.parse().ok()).map(|kind| (kind, last_conversation_at)),
        expired: row.try_get("expired")?,
        is_moved_row: row.try_get("is_moved_row")?,
    })
}
