//! How often a tenant's endpoint may be tested, and the log row that a Test begins with.
//!
//! The log is what counts, on the server's clock, so that the limit holds over all processes that test: a Test is
//! written down as `interrupted` before it is sent, and its outcome replaces that. One that dies in between has been
//! counted, and stands in the log as what it is.

use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::Error;
use uuid::Uuid;

use super::session::{Param, Session};
use crate::event::Event;

/// So many Tests of one tenant's endpoint in [`PERIOD`] (specification, section 6): enough to try things out, too few
/// to look for open ports.
pub const MOST: u32 = 10;

/// Any such stretch of time, not the clock's own minutes.
pub const PERIOD: Duration = Duration::from_secs(60);

/// Whether a Test may be sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Begun {
    /// Yes; it was asked for at this time of the server's.
    At(Timestamp),
    /// Not before so long.
    Refused(Duration),
}

/// Two that begin at once must count each other.
const ONE_BY_ONE: &str = "\
-- test_limit::one_by_one
SELECT pg_advisory_xact_lock(hashtextextended('lead-webhook test ' || $1::text, 0))";

const BEGIN: &str = "\
-- test_limit::begin
WITH limiting AS (
    SELECT queued_at FROM lead_webhook.deliveries
    WHERE tenant_id = $1::text AND is_test AND queued_at > statement_timestamp() - make_interval(secs => $2)
      AND queued_at <= statement_timestamp()
    ORDER BY queued_at DESC OFFSET $3::bigint - 1 LIMIT 1
), begun AS (
    INSERT INTO lead_webhook.deliveries
        (delivery_id, event_id, tenant_id, lead_id, event, status, captured_at, queued_at, finished_at, is_test)
    SELECT $4::uuid, $5::uuid, $1, $6::text, $7::text, 'interrupted', $8::timestamptz, statement_timestamp(), statement_timestamp(), true
    WHERE NOT EXISTS (SELECT FROM limiting)
    RETURNING queued_at
)
SELECT (SELECT queued_at FROM begun),
       (SELECT extract(epoch FROM queued_at - statement_timestamp())::float8 + $2 FROM limiting)";

/// Writes down that a Test begins, unless there were [`MOST`] of its tenant in the [`PERIOD`] before.
///
/// # Errors
/// What the database says, or that the connection is lost. Then nothing may be sent: it would not be counted.
pub async fn begin(session: &mut Session, event: &Event, delivery_id: Uuid) -> Result<Begun, Error> {
    let (one_by_one, begin) = (session.statement(ONE_BY_ONE).await?, session.statement(BEGIN).await?);
    let Event { tenant_id, event_id, lead_id, captured_at, .. } = event;
    let (period, most, kind) = (PERIOD.as_secs_f64(), i64::from(MOST), event.kind.as_str());
    let transaction = session.begin().await?;
    transaction.query_one(&one_by_one, &[tenant_id]).await?;
    let params: [Param<'_>; 8] = [tenant_id, &period, &most, &delivery_id, event_id, lead_id, &kind, captured_at];
    let row = transaction.query_one(&begin, &params).await?;
    transaction.commit().await?;
    Ok(match row.try_get::<_, Option<Timestamp>>(0)? {
        Some(at) => Begun::At(at),
        None => Begun::Refused(Duration::try_from_secs_f64(row.try_get(1)?).unwrap_or(PERIOD)),
    })
}
