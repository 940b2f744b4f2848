//! The log: one row an event, written once. Only `interrupted` may be replaced, by whoever's attempt it was.

use std::{net::IpAddr, sync::LazyLock, time::Duration};

use jiff::Timestamp;
use tokio_postgres::{Error, error::SqlState};
use uuid::Uuid;

use crate::{
    event::EventKind,
    outcome::{Outcome, SkipReason},
};

use super::{
    client::{Client, Statement},
    outbox::{Place, is_place},
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

/// The outbox row goes and the log row comes in one statement. The keys are unnested by themselves: the deletion keeps a
/// copy of whatever it is joined with.
const RECORD: &str = concat!(
    "\
-- delivery_log::record
WITH done AS (
    DELETE FROM lead_webhook.outbox o
    USING unnest($1::text[], $2::timestamptz[], $3::uuid[]) AS u (tenant_id, queued_at, event_id)
    WHERE ",
    is_place!(),
    "
      AND (o.claimed_by = $26::uuid OR o.claimed_by IS NULL)
)
INSERT INTO lead_webhook.deliveries AS d
    (delivery_id, event_id, tenant_id, lead_id, event, status, failure, reason, http_status, error, response_content_type,
     response_length, response_error_code, response_excerpt, host, port, address, captured_at, queued_at, sent_at, finished_at,
     dns_us, connect_us, first_byte_us, total_us, instance_id, is_test, last_conversation_at)
SELECT u.delivery_id, u.event_id, u.tenant_id, u.lead_id, u.event, u.status, u.failure, u.reason, u.http_status, u.error,
     u.response_content_type, u.response_length, u.response_error_code, u.response_excerpt, u.host, u.port, u.address,
     u.captured_at, u.queued_at, u.sent_at, u.finished_at, u.dns_us, u.connect_us, u.first_byte_us, u.total_us, $26, $27,
     u.last_conversation_at
FROM unnest($1::text[], $2::timestamptz[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[],
        $8::text[], $9::text[], $10::text[], $11::smallint[], $12::text[], $13::text[], $14::bigint[], $15::text[], $16::text[],
        $17::text[], $18::integer[], $19::inet[], $20::timestamptz[], $21::timestamptz[],
        $22::integer[], $23::integer[], $24::integer[], $25::integer[], $28::timestamptz[])
    AS u (tenant_id, queued_at, event_id, delivery_id, lead_id, event, captured_at,
        status, failure, reason, http_status, error, response_content_type, response_length, response_error_code, response_excerpt,
        host, port, address, sent_at, finished_at, dns_us, connect_us, first_byte_us, total_us, last_conversation_at)"
);

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
static RECORD_OR_REPLACE: LazyLock<String> = LazyLock::new(|| [RECORD, OR_REPLACE].concat());

/// Writes outcomes, many in one statement, whatever stands there already.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record(session: &mut Session, instance_id: Uuid, entries: &[&Entry]) -> Result<(), Error> {
    let columns = Columns::of(entries);
    let (instance_id, is_test) = (Some(instance_id), false);
    let params = columns.params(&instance_id, &is_test);
    let recorded = match session.execute(RECORD, &params).await {
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            session.execute(&RECORD_OR_REPLACE, &params).await
        }
        recorded => recorded,
    };
    recorded.map(drop)
}

/// Writes the outcome of a Test over the row that [`test_limit::begin`](super::test_limit::begin) wrote: it has no place in
/// the outbox and no daemon.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record_test(session: &mut Session, entry: &Entry) -> Result<(), Error> {
    let columns = Columns::of(&[entry]);
    session.execute(&RECORD_OR_REPLACE, &columns.params(&None, &true)).await?;
    Ok(())
}

/// The same for a redelivery, whose row [`redelivery::begin`](super::redelivery::begin) wrote.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record_redelivery(session: &mut Session, entry: &Entry) -> Result<(), Error> {
    let columns = Columns::of(&[entry]);
    session.execute(&RECORD_OR_REPLACE, &columns.params(&None, &false)).await?;
    Ok(())
}

/// The statement that [`record_within`] runs.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn record_statement(session: &mut Session) -> Result<Statement, Error> {
    session.statement(&RECORD_OR_REPLACE).await
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
    let columns = Columns::of(entries);
    client.execute(statement, &columns.params(&Some(instance_id), &false)).await?;
    Ok(())
}

/// A column of which every value may be null.
type Sparse<T> = Option<Vec<Option<T>>>;

/// Entries as the arrays that the statement unnests; `None`: null in every entry, which then costs nothing.
struct Columns<'a> {
    tenant: Vec<&'a str>,
    queued: Vec<Timestamp>,
    event_id: Vec<Uuid>,
    delivery: Vec<Uuid>,
    lead: Vec<&'a str>,
    event: Vec<&'a str>,
    captured: Sparse<Timestamp>,
    status: Vec<&'a str>,
    failure: Sparse<&'a str>,
    reason: Sparse<&'a str>,
    http_status: Sparse<i16>,
    error: Sparse<String>,
    content_type: Sparse<&'a str>,
    length: Sparse<i64>,
    error_code: Sparse<&'a str>,
    excerpt: Sparse<&'a str>,
    host: Sparse<&'a str>,
    port: Sparse<i32>,
    address: Sparse<IpAddr>,
    sent: Sparse<Timestamp>,
    finished: Vec<Timestamp>,
    dns: Sparse<i32>,
    connect: Sparse<i32>,
    first_byte: Sparse<i32>,
    total: Sparse<i32>,
    last_conversation: Sparse<Timestamp>,
}

impl<'a> Columns<'a> {
    fn of(entries: &[&'a Entry]) -> Self {
        fn each<'e, T>(entries: &[&'e Entry], value: impl Fn(&'e Entry) -> T) -> Vec<T> {
            entries.iter().map(|entry| value(entry)).collect()
        }
        fn some<'e, T>(entries: &[&'e Entry], value: impl Fn(&'e Entry) -> Option<T>) -> Sparse<T> {
            let values = each(entries, value);
            values.iter().any(Option::is_some).then_some(values)
        }
        let answer = |e: &'a Entry| e.outcome.answer.as_ref();
        Self {
            tenant: each(entries, |e| e.place.tenant_id.as_str()),
            queued: each(entries, |e| e.place.queued_at),
            event_id: each(entries, |e| e.place.event_id),
            delivery: each(entries, |e| e.delivery_id),
            lead: each(entries, |e| e.lead_id.as_str()),
            event: each(entries, |e| e.event.as_str()),
            captured: some(entries, |e| e.captured_at),
            status: each(entries, |e| e.outcome.status.as_str()),
            failure: some(entries, |e| e.outcome.status.failure()),
            reason: some(entries, |e| e.outcome.status.reason()),
            http_status: some(entries, |e| answer(e).and_then(|a| i16::try_from(a.http_status).ok())),
            error: some(entries, |e| e.outcome.error.as_deref().map(error_text)),
            content_type: some(entries, |e| answer(e).and_then(|a| a.content_type.as_deref())),
            length: some(entries, |e| answer(e).and_then(|a| a.length).and_then(|n| i64::try_from(n).ok())),
            error_code: some(entries, |e| answer(e).and_then(|a| a.error_code.as_deref())),
            excerpt: some(entries, |e| answer(e).and_then(|a| a.excerpt.as_deref())),
            host: some(entries, |e| e.outcome.destination.as_ref().map(|d| d.host.as_str())),
            port: some(entries, |e| e.outcome.destination.as_ref().map(|d| i32::from(d.port))),
            address: some(entries, |e| e.outcome.address),
            sent: some(entries, |e| e.outcome.sent_at),
            finished: each(entries, |e| e.outcome.finished_at),
            dns: some(entries, |e| e.outcome.timing.dns.map(micros)),
            connect: some(entries, |e| e.outcome.timing.connect.map(micros)),
            first_byte: some(entries, |e| e.outcome.timing.first_byte.map(micros)),
            total: some(entries, |e| e.outcome.timing.total.map(micros)),
            last_conversation: some(entries, |e| e.last_conversation_at),
        }
    }

    fn params<'p>(&'p self, instance_id: &'p Option<Uuid>, is_test: &'p bool) -> [Param<'p>; 28] {
        [
            &self.tenant,
            &self.queued,
            &self.event_id,
            &self.delivery,
            &self.lead,
            &self.event,
            &self.captured,
            &self.status,
            &self.failure,
            &self.reason,
            &self.http_status,
            &self.error,
            &self.content_type,
            &self.length,
            &self.error_code,
            &self.excerpt,
            &self.host,
            &self.port,
            &self.address,
            &self.sent,
            &self.finished,
            &self.dns,
            &self.connect,
            &self.first_byte,
            &self.total,
            instance_id,
            is_test,
            &self.last_conversation,
        ]
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
