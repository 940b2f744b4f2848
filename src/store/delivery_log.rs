//! The log: one row an event, written once. Only `interrupted` may be replaced, by whoever's attempt it was.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use jiff::Timestamp;
use tokio_postgres::{Error, error::SqlState, types::Type};
use uuid::Uuid;

use crate::{
    event::EventKind,
    outcome::{Outcome, SkipReason},
};

use super::{
    client::{Client, Statement},
    clocks::MOST_APART,
    outbox::{Place, RowAt, columns, is_place},
    rows::{Rows, row},
    session::{Param, Session},
};

/// Everything that one log row is made of.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event's place in the outbox.
    pub place: Place,
    /// The delivery.
    pub delivery_id: Uuid,
    /// The lead, as text.
    pub lead_id: String,
    /// What it was.
    pub event: EventKind,
    /// When the lead was captured, as the lead says.
    pub captured_at: Option<Timestamp>,
    /// With [`EventKind::ReEngaged`]: the last conversation before the silence.
    pub last_conversation_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Outcome,
}

/// The outbox row goes and the log row comes in one statement: the outbox rows `gone` go, the log rows of `which` come. The
/// deletion has arrays of its own: it keeps a copy of whatever it is joined with.
///
/// The times of an attempt are by the daemon's clock. Where that is apart from the server's they are put right by the
/// difference: days off they would stand at the wrong end of every list, and be pruned at once or never.
fn record_sql(name: &str, gone: &str, which: &str) -> String {
    format!(
        "\
-- delivery_log::{name}
WITH done AS (
    DELETE FROM lead_webhook.outbox o
    USING {gone}
      AND (o.claimed_by = $2::uuid OR o.claimed_by IS NULL)
    RETURNING o.event_id
), clock AS (
    SELECT make_interval(secs => CASE WHEN abs(ahead) > {most_apart} THEN ahead ELSE 0 END) AS ahead
    FROM (SELECT extract(epoch FROM $3::timestamptz - statement_timestamp())::float8 AS ahead) AS by
)
INSERT INTO lead_webhook.deliveries AS d
    (delivery_id, event_id, tenant_id, lead_id, event, status, failure, reason, http_status, error, response_content_type,
     response_length, response_error_code, response_excerpt, host, port, address, captured_at, queued_at, sent_at, finished_at,
     dns_us, connect_us, first_byte_us, total_us, instance_id, is_test, redelivery_of, last_conversation_at)
SELECT u.delivery_id, u.event_id, u.tenant_id, u.lead_id, u.event, u.status, u.failure, u.reason, u.http_status, u.error,
     u.response_content_type, u.response_length, u.response_error_code, u.response_excerpt, u.host, u.port, u.address,
     u.captured_at, u.queued_at, u.sent_at - (SELECT ahead FROM clock), u.finished_at - (SELECT ahead FROM clock),
     u.dns_us, u.connect_us, u.first_byte_us, u.total_us, u.instance_id, u.is_test, u.redelivery_of, u.last_conversation_at
FROM unnest($1::lead_webhook.deliveries[]) u{which}",
        most_apart = MOST_APART.as_secs(),
    )
}

/// Of rows that are found by their places, whichever are there.
static RECORD: LazyLock<String> = LazyLock::new(|| {
    let by_place = concat!(
        "unnest($4::uuid[], $5::text[], $6::timestamptz[]) AS u (event_id, tenant_id, queued_at)
    WHERE ",
        is_place!()
    );
    record_sql("record", by_place, "")
});

/// Of rows that are where the claim has left them, and of no others: that spares a search of the index for each. IS TRUE
/// keeps it to a hash of what has gone.
static RECORD_CLAIMED: LazyLock<String> = LazyLock::new(|| {
    let by_row = "unnest($4::uuid[], $5::tid[]) AS u (event_id, row_at)
    WHERE o.ctid = u.row_at AND o.event_id = u.event_id";
    record_sql("record_claimed", by_row, "\nWHERE (u.event_id IN (SELECT event_id FROM done)) IS TRUE")
});

/// Beside [`RECORD`]: written again after a lost answer it changes nothing; an `interrupted` that another daemon wrote of
/// this very delivery, or that a Test began with, gives way to the real outcome.
const OR_REPLACE: &str = "
ON CONFLICT (delivery_id) DO UPDATE SET
    status = excluded.status, failure = excluded.failure, reason = excluded.reason, http_status = excluded.http_status,
    error = excluded.error, response_content_type = excluded.response_content_type,
    response_length = excluded.response_length, response_error_code = excluded.response_error_code,
    response_excerpt = excluded.response_excerpt, host = excluded.host, port = excluded.port, address = excluded.address,
    captured_at = excluded.captured_at, sent_at = excluded.sent_at, finished_at = excluded.finished_at,
    dns_us = excluded.dns_us, connect_us = excluded.connect_us, first_byte_us = excluded.first_byte_us,
    total_us = excluded.total_us
WHERE d.status = 'interrupted' AND d.instance_id IS NOT DISTINCT FROM excluded.instance_id";

/// [`RECORD`] where a row may stand already. The check for it costs every row something, so it is made where it must be.
static RECORD_OR_REPLACE: LazyLock<String> = LazyLock::new(|| [&RECORD, OR_REPLACE].concat());

/// [`RECORD`] of what the claim itself decides. An event that has a log row already, as one may after a fail-over, is settled by
/// that: its row in the outbox must not keep all others from being claimed.
static RECORD_WITHIN: LazyLock<String> = LazyLock::new(|| [&RECORD, "\nON CONFLICT DO NOTHING"].concat());

/// Writes outcomes, many in one statement, whatever stands there already.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record(session: &mut Session, instance_id: Uuid, entries: &[&Entry]) -> Result<(), Error> {
    let batch = Batch::of(entries, &By::Daemon(instance_id));
    let others = [Type::UUID, Type::TIMESTAMPTZ, Type::UUID_ARRAY, Type::TID_ARRAY];
    let record = session.statement_of_rows(&RECORD_CLAIMED, "deliveries", &others).await?;
    match batch.write_claimed(session.shared(), &record).await {
        Ok(written) if usize::try_from(written) == Ok(entries.len()) => return Ok(()),
        // Some rows have moved since, as by VACUUM FULL, or are gone.
        Ok(_) => {}
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {}
        Err(error) => return Err(error),
    }
    let record = prepared(session, &RECORD_OR_REPLACE).await?;
    batch.write(session.shared(), &record).await
}

/// Writes the outcome of a Test over the row that [`test_limit::begin`](super::test_limit::begin) wrote: it has no place in
/// the outbox and no daemon.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record_test(session: &mut Session, entry: &Entry) -> Result<(), Error> {
    let record = prepared(session, &RECORD_OR_REPLACE).await?;
    Batch::of(&[entry], &By::Test).write(session.shared(), &record).await
}

/// The same for a redelivery of the delivery `first`, whose row [`redelivery::begin`](super::redelivery::begin) wrote.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record_redelivery(session: &mut Session, entry: &Entry, first: Uuid) -> Result<(), Error> {
    let record = prepared(session, &RECORD_OR_REPLACE).await?;
    Batch::of(&[entry], &By::Redelivery { of: first }).write(session.shared(), &record).await
}

/// The statement that [`record_within`] runs.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record_within_statement(session: &mut Session) -> Result<Statement, Error> {
    prepared(session, &RECORD_WITHIN).await
}

async fn prepared(session: &mut Session, sql: &str) -> Result<Statement, Error> {
    let others = [Type::UUID, Type::TIMESTAMPTZ, Type::UUID_ARRAY, Type::TEXT_ARRAY, Type::TIMESTAMPTZ_ARRAY];
    session.statement_of_rows(sql, "deliveries", &others).await
}

/// Writes outcomes that the claim itself decided, in its transaction.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record_within(
    client: &Client,
    statement: &Statement,
    instance_id: Uuid,
    entries: &[&Entry],
) -> Result<(), Error> {
    Batch::of(entries, &By::Daemon(instance_id)).write(client, statement).await
}

/// Whose attempts were made.
enum By {
    /// This daemon's: events out of the outbox.
    Daemon(Uuid),
    /// A Test.
    Test,
    /// An operator's second send of that delivery.
    Redelivery { of: Uuid },
}

impl By {
    fn instance_id(&self) -> Option<Uuid> {
        if let Self::Daemon(instance_id) = self { Some(*instance_id) } else { None }
    }
}

row! {
    /// A log row as it is written at first.
    struct LogRow<'a> {
        delivery_id: Uuid,
        event_id: Uuid,
        tenant_id: &'a str,
        lead_id: &'a str,
        event: &'a str,
        status: &'a str,
        failure: Option<&'a str>,
        reason: Option<&'a str>,
        http_status: Option<i16>,
        error: Option<String>,
        response_content_type: Option<&'a str>,
        response_length: Option<i64>,
        response_error_code: Option<&'a str>,
        response_excerpt: Option<&'a str>,
        host: Option<&'a str>,
        port: Option<i32>,
        address: Option<IpAddr>,
        captured_at: Option<Timestamp>,
        queued_at: Timestamp,
        sent_at: Option<Timestamp>,
        finished_at: Timestamp,
        dns_us: Option<i32>,
        connect_us: Option<i32>,
        first_byte_us: Option<i32>,
        total_us: Option<i32>,
        instance_id: Option<Uuid>,
        is_test: bool,
        redelivery_of: Option<Uuid>,
        last_conversation_at: Option<Timestamp>,
    }
}

impl<'a> LogRow<'a> {
    fn of(entry: &'a Entry, by: &By) -> Self {
        let Outcome { status, answer, error, destination, address, sent_at, finished_at, timing } = &entry.outcome;
        let answer = answer.as_ref();
        Self {
            delivery_id: entry.delivery_id,
            event_id: entry.place.event_id,
            tenant_id: &entry.place.tenant_id,
            lead_id: &entry.lead_id,
            event: entry.event.as_str(),
            status: status.as_str(),
            failure: status.failure(),
            reason: status.reason(),
            http_status: answer.and_then(|a| i16::try_from(a.http_status).ok()),
            error: error.as_deref().map(error_text),
            response_content_type: answer.and_then(|a| a.content_type.as_deref()),
            response_length: answer.and_then(|a| a.length).and_then(|n| i64::try_from(n).ok()),
            response_error_code: answer.and_then(|a| a.error_code.as_deref()),
            response_excerpt: answer.and_then(|a| a.excerpt.as_deref()),
            host: destination.as_ref().map(|d| d.host.as_str()),
            port: destination.as_ref().map(|d| i32::from(d.port)),
            address: *address,
            captured_at: entry.captured_at,
            queued_at: entry.place.queued_at,
            sent_at: *sent_at,
            finished_at: *finished_at,
            dns_us: timing.dns.map(micros),
            connect_us: timing.connect.map(micros),
            first_byte_us: timing.first_byte.map(micros),
            total_us: timing.total.map(micros),
            instance_id: by.instance_id(),
            is_test: matches!(by, By::Test),
            redelivery_of: if let By::Redelivery { of } = by { Some(*of) } else { None },
            last_conversation_at: entry.last_conversation_at,
        }
    }
}

/// Outcomes as the parameters of a statement.
struct Batch<'a> {
    rows: Rows<LogRow<'a>>,
    tenants: Vec<&'a str>,
    queued: Vec<Timestamp>,
    events: Vec<Uuid>,
    found_at: Vec<RowAt>,
    instance_id: Option<Uuid>,
}

impl<'a> Batch<'a> {
    fn of(entries: &[&'a Entry], by: &By) -> Self {
        let rows = Rows(entries.iter().map(|entry| LogRow::of(entry, by)).collect());
        let (tenants, queued, events) = columns(entries.iter().map(|entry| &entry.place));
        let found_at = entries.iter().map(|entry| entry.place.row).collect();
        Self { rows, tenants, queued, events, found_at, instance_id: by.instance_id() }
    }

    async fn write(&self, client: &Client, statement: &Statement) -> Result<(), Error> {
        let now = Timestamp::now();
        let params: [Param<'_>; 6] = [&self.rows, &self.instance_id, &now, &self.events, &self.tenants, &self.queued];
        client.execute(statement, &params).await?;
        Ok(())
    }

    /// How many it has written.
    async fn write_claimed(&self, client: &Client, statement: &Statement) -> Result<u64, Error> {
        let now = Timestamp::now();
        let params: [Param<'_>; 5] = [&self.rows, &self.instance_id, &now, &self.events, &self.found_at];
        client.execute(statement, &params).await
    }
}

/// At most this many bytes of an error's text are kept; the table's CHECK says the same.
const ERROR_BYTES: usize = 1024;

/// A text that the column takes: without NUL, cut at a character's border.
fn error_text(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(ERROR_BYTES));
    for character in text.chars().filter(|c| *c != '\0') {
        if kept.len() + character.len_utf8() > ERROR_BYTES {
            break;
        }
        kept.push(character);
    }
    kept
}

/// Whole microseconds; the longest attempt is a minute.
fn micros(duration: Duration) -> i32 {
    i32::try_from(duration.as_micros()).unwrap_or(i32::MAX)
}

/// What a skipped event's `error` says beside its reason; `None`: the reason says it all.
pub fn skip_text(reason: SkipReason) -> Option<String> {
    match reason {
        SkipReason::Expired => Some("older than delivery.max_age when it was claimed".to_owned()),
        _ => None,
    }
}
