//! The log in figures: by tenant, by failure and over time. Tests are left out: they are nobody's leads.

use jiff::Timestamp;
use serde::Serialize;
use tokio_postgres::{Error, Row};

use super::session::Session;

/// Which deliveries.
#[derive(Debug, Clone)]
pub struct Span {
    /// Of these tenants; `None`: of all.
    pub tenants: Option<Vec<String>>,
    /// Ended then or later.
    pub since: Timestamp,
    /// Ended before.
    pub until: Timestamp,
}

/// How many deliveries ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the log's statuses")]
pub struct Counts {
    pub delivered: i64,
    pub failed: i64,
    pub interrupted: i64,
    pub skipped: i64,
}

impl Counts {
    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            delivered: row.try_get("delivered")?,
            failed: row.try_get("failed")?,
            interrupted: row.try_get("interrupted")?,
            skipped: row.try_get("skipped")?,
        })
    }

    /// The part of what was to be sent that arrived, 0 to 1; `None`: nothing was.
    pub fn success(&self) -> Option<f64> {
        let attempted = self.delivered + self.failed + self.interrupted;
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        (attempted > 0).then(|| self.delivered as f64 / attempted as f64)
    }
}

/// One tenant's deliveries, or everybody's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OfTenant {
    /// `None`: of all.
    pub tenant_id: Option<String>,
    /// How they ended.
    #[serde(flatten)]
    pub counts: Counts,
    /// 50th, 95th and 99th percentile of the whole attempt, in microseconds; `None`: there was none.
    pub latency_us: Option<Vec<i32>>,
}

/// `FILTER` for each status, as [`Counts`] reads them.
macro_rules! counts {
    () => {
        "count(*) FILTER (WHERE d.status = 'delivered') AS delivered, count(*) FILTER (WHERE d.status = 'failed') AS failed,
       count(*) FILTER (WHERE d.status = 'interrupted') AS interrupted, count(*) FILTER (WHERE d.status = 'skipped') AS skipped"
    };
}

/// The deliveries of a [`Span`].
macro_rules! of_span {
    () => {
        "FROM lead_webhook.deliveries d
WHERE d.finished_at >= $1 AND d.finished_at < $2 AND ($3::text[] IS NULL OR d.tenant_id = ANY ($3)) AND NOT d.is_test"
    };
}

const BY_TENANT: &str = concat!(
    "-- delivery_stats::by_tenant
SELECT d.tenant_id, ",
    counts!(),
    ",
       percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY d.total_us)
           FILTER (WHERE d.sent_at IS NOT NULL AND ($5 OR d.http_status IS NOT NULL)) AS latency_us
",
    of_span!(),
    "
GROUP BY GROUPING SETS ((d.tenant_id), ())
ORDER BY grouping(d.tenant_id) DESC, count(*) DESC, d.tenant_id
LIMIT $4"
);

/// All deliveries in one, then those of each tenant, the busiest first: of `most` at most. The time of those that came to no
/// HTTP status counts where it is `timed`.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn by_tenant(
    session: &mut Session,
    span: &Span,
    most: i64,
    timed: bool,
) -> Result<(OfTenant, Vec<OfTenant>), Error> {
    let Span { tenants, since, until } = span;
    let rows = session.client().query(BY_TENANT, &[since, until, tenants, &(most + 1), &timed]).await?;
    let read = |row: &Row| {
        Ok::<_, Error>(OfTenant {
            tenant_id: row.try_get("tenant_id")?,
            counts: Counts::from_row(row)?,
            latency_us: row.try_get("latency_us")?,
        })
    };
    let mut all = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?.into_iter();
    let nothing = OfTenant { tenant_id: None, counts: Counts::default(), latency_us: None };
    Ok((all.next().unwrap_or(nothing), all.collect()))
}

/// Deliveries that failed alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the table's columns, which have their comments there")]
pub struct Alike {
    pub failure: String,
    pub http_status: Option<i16>,
    pub response_error_code: Option<String>,
    pub host: Option<String>,
    /// How many.
    pub deliveries: i64,
    /// Of how many tenants.
    pub tenants: i64,
    #[serde(serialize_with = "super::delivery_list::time")]
    /// When the latest of them ended.
    pub latest: Timestamp,
}

const FAILURES: &str = concat!(
    "-- delivery_stats::failures
SELECT d.failure, d.http_status, d.response_error_code, d.host, count(*) AS deliveries, count(DISTINCT d.tenant_id) AS tenants,
       max(d.finished_at) AS latest
",
    of_span!(),
    " AND d.status = 'failed'
GROUP BY 1, 2, 3, 4
ORDER BY 5 DESC, 1, 2, 3, 4
LIMIT $4"
);

/// What failed, the most frequent first: `kinds` at most.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn failures(session: &mut Session, span: &Span, kinds: i64) -> Result<Vec<Alike>, Error> {
    let Span { tenants, since, until } = span;
    let rows = session.client().query(FAILURES, &[since, until, tenants, &kinds]).await?;
    rows.iter()
        .map(|row| {
            Ok(Alike {
                failure: row.try_get("failure")?,
                http_status: row.try_get("http_status")?,
                response_error_code: row.try_get("response_error_code")?,
                host: row.try_get("host")?,
                deliveries: row.try_get("deliveries")?,
                tenants: row.try_get("tenants")?,
                latest: row.try_get("latest")?,
            })
        })
        .collect()
}

/// The deliveries of one stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stretch {
    /// Its number, from 0.
    pub number: i64,
    /// How they ended.
    #[serde(flatten)]
    pub counts: Counts,
}

const OVER_TIME: &str = concat!(
    "-- delivery_stats::over_time
SELECT floor(extract(epoch FROM d.finished_at - $1) / $4::float8)::bigint AS number, ",
    counts!(),
    "
",
    of_span!(),
    "
GROUP BY 1
ORDER BY 1"
);

/// The span in stretches of so many seconds; those without a delivery are left out.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn over_time(session: &mut Session, span: &Span, seconds: f64) -> Result<Vec<Stretch>, Error> {
    let Span { tenants, since, until } = span;
    let rows = session.client().query(OVER_TIME, &[since, until, tenants, &seconds]).await?;
    rows.iter().map(|row| Ok(Stretch { number: row.try_get("number")?, counts: Counts::from_row(row)? })).collect()
}
