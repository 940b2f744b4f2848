//! Reading the log: the newest deliveries by filter, and one by its id, or by its event's while that still waits in the
//! outbox. The rows are as they stand in the table; serialised, they have its column names.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use tokio_postgres::{Error, Row, types::ToSql};
use uuid::Uuid;

use super::{leads::Writable, session::Session};

/// One row of the log, with the table's columns in the table's order.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the table's columns, which have their comments there")]
pub struct Delivery {
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
    pub response_content_type: Option<String>,
    pub response_length: Option<i64>,
    pub response_error_code: Option<String>,
    pub response_excerpt: Option<String>,
    pub host: Option<String>,
    pub port: Option<i32>,
    pub address: Option<IpAddr>,
    #[serde(serialize_with = "optional_time")]
    pub captured_at: Option<Timestamp>,
    #[serde(serialize_with = "time")]
    pub queued_at: Timestamp,
    #[serde(serialize_with = "optional_time")]
    pub sent_at: Option<Timestamp>,
    #[serde(serialize_with = "time")]
    pub finished_at: Timestamp,
    pub dns_us: Option<i32>,
    pub connect_us: Option<i32>,
    pub first_byte_us: Option<i32>,
    pub total_us: Option<i32>,
    pub is_test: bool,
    pub redelivery_of: Option<Uuid>,
    pub instance_id: Option<Uuid>,
    #[serde(serialize_with = "optional_time")]
    pub last_conversation_at: Option<Timestamp>,
}

/// RFC 3339 in UTC, with what decimals there are.
pub(super) fn time<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(time)
}

fn optional_time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

impl Delivery {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            delivery_id: row.try_get("delivery_id")?,
            event_id: row.try_get("event_id")?,
            tenant_id: row.try_get("tenant_id")?,
            lead_id: row.try_get("lead_id")?,
            event: row.try_get("event")?,
            status: row.try_get("status")?,
            failure: row.try_get("failure")?,
            reason: row.try_get("reason")?,
            http_status: row.try_get("http_status")?,
            error: row.try_get("error")?,
            response_content_type: row.try_get("response_content_type")?,
            response_length: row.try_get("response_length")?,
            response_error_code: row.try_get("response_error_code")?,
            response_excerpt: row.try_get("response_excerpt")?,
            host: row.try_get("host")?,
            port: row.try_get("port")?,
            address: row.try_get("address")?,
            captured_at: row.try_get("captured_at")?,
            queued_at: row.try_get("queued_at")?,
            sent_at: row.try_get("sent_at")?,
            finished_at: row.try_get("finished_at")?,
            dns_us: row.try_get("dns_us")?,
            connect_us: row.try_get("connect_us")?,
            first_byte_us: row.try_get("first_byte_us")?,
            total_us: row.try_get("total_us")?,
            is_test: row.try_get("is_test")?,
            redelivery_of: row.try_get("redelivery_of")?,
            instance_id: row.try_get("instance_id")?,
            last_conversation_at: row.try_get::<_, Option<Writable>>("last_conversation_at")?.and_then(|time| time.0),
        })
    }
}

/// The columns of [`Delivery`]; a macro because `concat!` takes literals only.
macro_rules! select {
    () => {
        "SELECT delivery_id, event_id, tenant_id, lead_id, event, status, failure, reason, http_status, error,
       response_content_type, response_length, response_error_code, response_excerpt, host, port, address,
       captured_at, queued_at, sent_at, finished_at, dns_us, connect_us, first_byte_us, total_us,
       is_test, redelivery_of, instance_id, last_conversation_at
FROM lead_webhook.deliveries
"
    };
}

/// Which deliveries; `None` is any.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this tenant.
    pub tenant_id: Option<String>,
    /// Of this lead.
    pub lead_id: Option<String>,
    /// With this status.
    pub status: Option<&'static str>,
    /// With one of these failures.
    pub failures: Option<Vec<&'static str>>,
    /// Of this event.
    pub event: Option<&'static str>,
    /// Finished then or later.
    pub since: Option<Timestamp>,
    /// Finished before.
    pub until: Option<Timestamp>,
    /// Only what comes after the delivery that ended then and has that id.
    pub after: Option<(Timestamp, Uuid)>,
    /// At most so many.
    pub limit: i64,
}

/// The conditions of a [`Filter`].
macro_rules! filtered {
    () => {
        "WHERE ($1::text IS NULL OR tenant_id = $1)
  AND ($2::text IS NULL OR lead_id = $2)
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text[] IS NULL OR failure = ANY ($4))
  AND ($5::text IS NULL OR event = $5)
  AND ($6::timestamptz IS NULL OR finished_at >= $6)
  AND ($7::timestamptz IS NULL OR finished_at < $7)
"
    };
}

const LIST: &str = concat!(
    "-- delivery_list::list\n",
    select!(),
    filtered!(),
    "  AND ($8::timestamptz IS NULL OR finished_at <= $8 AND (finished_at < $8 OR delivery_id < $9))
ORDER BY finished_at DESC, delivery_id DESC
LIMIT $10"
);

/// The newest deliveries that `filter` lets through, newest first.
///
/// By the client, not kept prepared: a statement's first execution is planned with its values, so that filters which
/// are not given fall away and the tenant's or the lead's index serves. A plan for any values could use neither.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn list(session: &mut Session, filter: &Filter) -> Result<Vec<Delivery>, Error> {
    listed(session, LIST, filter).await
}

const LIST_FROM: &str = concat!(
    "-- delivery_list::list_from\n",
    select!(),
    filtered!(),
    "  AND ($8::timestamptz IS NULL OR finished_at >= $8 AND (finished_at > $8 OR delivery_id > $9))
ORDER BY finished_at, delivery_id
LIMIT $10"
);

/// The oldest deliveries that `filter` lets through, oldest first. As [`list`].
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn list_from(session: &mut Session, filter: &Filter) -> Result<Vec<Delivery>, Error> {
    listed(session, LIST_FROM, filter).await
}

async fn listed(session: &mut Session, sql: &str, filter: &Filter) -> Result<Vec<Delivery>, Error> {
    let Filter { tenant_id, lead_id, status, failures, event, since, until, after, limit } = filter;
    let (ended, id) = after.unzip();
    let values: [&(dyn ToSql + Sync); 10] =
        [tenant_id, lead_id, status, failures, event, since, until, &ended, &id, limit];
    let rows = session.client().query(sql, &values).await?;
    rows.iter().map(Delivery::from_row).collect()
}

/// The ids that begin alike: both ends are the same where the id is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// The least of them.
    pub first: Uuid,
    /// The greatest of them.
    pub last: Uuid,
}

impl Ids {
    /// Whether `id` is one of them.
    pub fn contain(&self, id: Uuid) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

/// The day of row `d` that the index over events begins with. A macro because `concat!` takes literals only.
macro_rules! day {
    () => {
        "date_bin('1 day', d.queued_at, '2000-01-01Z')"
    };
}

/// The index over events leaves redeliveries out, and is asked a day at a time, by a loose scan. Of an event whose first
/// delivery is pruned already the first that is left is found.
const FIND: &str = concat!(
    "\
-- delivery_list::find
WITH RECURSIVE day AS (
    (SELECT ",
    day!(),
    " AS begin FROM lead_webhook.deliveries d WHERE d.redelivery_of IS NULL ORDER BY 1 LIMIT 1)
    UNION ALL
    SELECT (SELECT ",
    day!(),
    " FROM lead_webhook.deliveries d
            WHERE ",
    day!(),
    " > day.begin AND d.redelivery_of IS NULL ORDER BY 1 LIMIT 1)
    FROM day WHERE day.begin IS NOT NULL
), named AS (
    SELECT d.delivery_id FROM lead_webhook.deliveries d WHERE d.delivery_id BETWEEN $1 AND $2
    UNION ALL
    SELECT e.delivery_id FROM day CROSS JOIN LATERAL (
        SELECT d.delivery_id FROM lead_webhook.deliveries d
        WHERE ",
    day!(),
    " = day.begin AND d.event_id BETWEEN $1 AND $2 AND d.redelivery_of IS NULL
        OFFSET 0) e
    UNION ALL
    (SELECT DISTINCT ON (d.event_id) d.delivery_id FROM lead_webhook.deliveries d
     WHERE d.event_id BETWEEN $1 AND $2 AND d.redelivery_of IS NOT NULL
       AND NOT EXISTS (SELECT FROM lead_webhook.deliveries f WHERE f.delivery_id = d.redelivery_of)
     ORDER BY d.event_id, d.finished_at)
)
",
    select!(),
    "WHERE delivery_id = ANY (ARRAY(SELECT n.delivery_id FROM named n))
ORDER BY finished_at, delivery_id
LIMIT $3"
);

/// At most `limit` rows whose delivery's or event's id is among `ids`; of an event only its first delivery that is there.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn find(session: &mut Session, ids: &Ids, limit: i64) -> Result<Vec<Delivery>, Error> {
    let rows = session.client().query(FIND, &[&ids.first, &ids.last, &limit]).await?;
    rows.iter().map(Delivery::from_row).collect()
}

const ONE: &str = concat!("-- delivery_list::one\n", select!(), "WHERE delivery_id = $1");

/// The delivery of this id.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn one(session: &mut Session, delivery_id: Uuid) -> Result<Option<Delivery>, Error> {
    session.client().query_opt(ONE, &[&delivery_id]).await?.as_ref().map(Delivery::from_row).transpose()
}

/// All of them are of the same lead.
const OF_EVENT: &str = concat!(
    "-- delivery_list::of_event\n",
    select!(),
    "WHERE lead_id = $1 AND tenant_id = $2 AND event_id = $3
ORDER BY finished_at, delivery_id"
);

/// Every delivery of the event that `one` is a delivery of, oldest first: redeliveries have the same event.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn of_event(session: &mut Session, one: &Delivery) -> Result<Vec<Delivery>, Error> {
    let rows = session.client().query(OF_EVENT, &[&one.lead_id, &one.tenant_id, &one.event_id]).await?;
    rows.iter().map(Delivery::from_row).collect()
}

/// An event without a log row yet, with the outbox's columns and its daemon's.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the tables' columns, which have their comments there")]
pub struct Waiting {
    /// `pending`, or `in_flight` once a daemon has claimed it.
    pub status: String,
    pub event_id: Uuid,
    pub tenant_id: String,
    pub lead_id: String,
    /// `None`: the claim has not decided yet.
    pub event: Option<String>,
    pub kind: String,
    pub was_enabled: bool,
    #[serde(serialize_with = "time")]
    pub queued_at: Timestamp,
    pub delivery_id: Option<Uuid>,
    #[serde(serialize_with = "optional_time")]
    pub claimed_at: Option<Timestamp>,
    pub claimed_by: Option<Uuid>,
    /// The host of the daemon in `claimed_by`.
    pub host: Option<String>,
    pub process_id: Option<i32>,
    #[serde(serialize_with = "optional_time")]
    pub renewed_at: Option<Timestamp>,
}

const WAITING: &str = "\
-- delivery_list::waiting
SELECT CASE WHEN o.claimed_by IS NULL THEN 'pending' ELSE 'in_flight' END AS status,
       o.event_id, o.tenant_id, o.lead_id, o.event, o.kind, o.was_enabled, o.queued_at, o.delivery_id, o.claimed_at,
       o.claimed_by, i.host, i.process_id, i.renewed_at
FROM lead_webhook.outbox o
LEFT JOIN lead_webhook.instances i ON i.instance_id = o.claimed_by
WHERE o.event_id BETWEEN $1 AND $2 OR o.delivery_id BETWEEN $1 AND $2
ORDER BY o.queued_at, o.event_id
LIMIT $3";

/// At most `limit` events in the outbox whose own or whose delivery's id is among `ids`. Reads the whole outbox, which
/// is short wherever daemons keep up.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn waiting(session: &mut Session, ids: &Ids, limit: i64) -> Result<Vec<Waiting>, Error> {
    let rows = session.client().query(WAITING, &[&ids.first, &ids.last, &limit]).await?;
    rows.iter()
        .map(|row| {
            Ok(Waiting {
                status: row.try_get("status")?,
                event_id: row.try_get("event_id")?,
                tenant_id: row.try_get("tenant_id")?,
                lead_id: row.try_get("lead_id")?,
                event: row.try_get("event")?,
                kind: row.try_get("kind")?,
                was_enabled: row.try_get("was_enabled")?,
                queued_at: row.try_get("queued_at")?,
                delivery_id: row.try_get("delivery_id")?,
                claimed_at: row.try_get("claimed_at")?,
                claimed_by: row.try_get("claimed_by")?,
                host: row.try_get("host")?,
                process_id: row.try_get("process_id")?,
                renewed_at: row.try_get("renewed_at")?,
            })
        })
        .collect()
}
