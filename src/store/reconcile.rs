//! Every lead against outbox and log: what became of it, and what became of nothing. What the command `reconcile` shows
//! and tests hold.
//!
//! A slice of leads is one statement, so one snapshot: a lead that is being captured is not there yet, or is there with
//! its outbox row; one that is being recorded has its outbox row or its log row. None is unaccounted meanwhile.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_postgres::{Error, Row};

use super::{
    capture_clock::MOST_AHEAD,
    capture_index::{self, CaptureIndex},
    installation,
    lead_slices::{self, Pieces, SliceError, Slices},
    mapping::MappedSql,
    retention,
    session::Session,
    sweep::{WAS_ON, leads_sql},
};

/// How many of those that something is wrong with are named.
pub const NAMED: usize = 50;

/// So much later than the log begins the leads do that are looked at.
const MARGIN: SignedDuration = SignedDuration::from_hours(26);

/// Most leads are delivered that soon after they were captured, or never.
const SOON: &str = "interval '5 minutes'";

/// More rows of the log are not read at once for it: what was captured in some minutes need not have been sent then.
const MOST_SOON: usize = 50_000;

/// What became of the leads: each counts once, by the best that happened to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sent, and the receiver said 2xx, at first or in a redelivery.
    pub delivered: u64,
    /// May have arrived: the daemon died in between.
    pub interrupted: u64,
    /// Sent or not sendable, not delivered.
    pub failed: u64,
    /// Waits in the outbox.
    pub pending: u64,
    /// Is claimed in the outbox.
    pub in_flight: u64,
    /// Logged with the reason why it was not attempted.
    pub skipped: u64,
    /// Written by a muted session.
    pub muted: u64,
    /// The tenant's endpoint was not there, or not on, when it was captured.
    pub without_endpoint: u64,
    /// Nothing is known of it and it has no captured time, or one far ahead: it may be older than the install.
    pub undated: u64,
    /// Its values cannot be read, so that it cannot be told whether it is a lead.
    pub unreadable: u64,
    /// Nothing is known of it, though it should have been queued. Must be 0.
    pub unaccounted: u64,
}

impl Counts {
    /// All leads that were looked at.
    pub fn all(&self) -> u64 {
        let Self { delivered, interrupted, failed, pending, in_flight, skipped, .. } = self;
        let Self { muted, without_endpoint, undated, unreadable, unaccounted, .. } = self;
        [delivered, interrupted, failed, pending, in_flight, skipped, muted, without_endpoint, undated, unreadable]
            .into_iter()
            .sum::<u64>()
            + unaccounted
    }

    fn of(&mut self, class: &str) -> &mut u64 {
        match class {
            "delivered" => &mut self.delivered,
            "interrupted" => &mut self.interrupted,
            "failed" => &mut self.failed,
            "pending" => &mut self.pending,
            "in_flight" => &mut self.in_flight,
            "skipped" => &mut self.skipped,
            "muted" => &mut self.muted,
            "without_endpoint" => &mut self.without_endpoint,
            "undated" => &mut self.undated,
            _ => &mut self.unaccounted,
        }
    }
}

/// A lead that nothing became of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unaccounted {
    /// The tenant.
    pub tenant_id: String,
    /// The lead.
    pub lead_id: String,
    /// When it was captured, RFC 3339.
    pub captured_at: String,
    /// Whether it has a uniqueness key: an event of it was claimed once, and the log row is gone.
    pub was_claimed: bool,
}

/// A lead with more than one attempt for `lead.created`, none of them a redelivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SentTwice {
    /// The tenant.
    pub tenant_id: String,
    /// The lead.
    pub lead_id: String,
    /// How many attempts.
    pub attempts: i64,
}

/// What a reconciliation found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reconciled {
    /// Leads captured from here on were looked at; `None`: all, because no captured time is mapped.
    pub since: Option<Timestamp>,
    /// What became of them.
    pub counts: Counts,
    /// The first [`NAMED`] of the unaccounted.
    pub unaccounted: Vec<Unaccounted>,
    /// The first [`NAMED`] of the unreadable: the id and the reason, without a value.
    pub unreadable: Vec<(String, String)>,
    /// How many leads were sent as new more than once. The log cannot tell those from leads whose contact was taken away
    /// and another one given, which is a new lead by right.
    pub sent_twice: i64,
    /// The first [`NAMED`] of those.
    pub twice: Vec<SentTwice>,
}

/// Why leads could not be reconciled.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The installation is not complete. The operator must act.
    #[error("the schema is not installed here: run `lead-webhook migrate`")]
    NotInstalled,
    /// The leads cannot be read.
    #[error("the leads cannot be read: {0}")]
    Slices(#[from] SliceError),
    /// The database said no, or the connection is lost.
    #[error("the database refused")]
    Database(#[from] Error),
}

/// How the leads are gone through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By the index of their captured time.
    ByCapture,
    /// The whole table by id: the captured time has no index that serves.
    ByIdSince,
    /// The whole table by id: there is no captured time.
    ByIdAll,
}

/// A reconciliation under way.
pub struct Reconciliation {
    /// How the leads are gone through.
    pub way: Way,
    mapped: MappedSql,
    slices: Slices,
    found: Reconciled,
}

impl Reconciliation {
    /// Looks for what was sent twice, and begins with the leads: those captured since the latest of the install, where the
    /// log begins, and `since`. The session is planned for slices from here on.
    ///
    /// # Errors
    /// [`ReconcileError`].
    pub async fn begin(
        session: &mut Session,
        mapped: MappedSql,
        since: Option<Timestamp>,
    ) -> Result<Self, ReconcileError> {
        let new = installation::read(session).await?.ok_or(ReconcileError::NotInstalled)?.leads_since;
        // A captured time may be ahead of the time at which its delivery ended.
        let logged = retention::edge(session).await?.and_then(|edge| edge.checked_add(MARGIN).ok());
        let since = new.max(since.unwrap_or(new)).max(logged.unwrap_or(new));
        let (sent_twice, twice) = sent_twice(session, since).await?;
        let index = capture_index::look(session.client(), &mapped).await?;
        let (way, slices) = match &mapped.captured_at {
            None => (Way::ByIdAll, Slices::by_id(&mapped, None)),
            Some(captured) if index == CaptureIndex::Usable => {
                (Way::ByCapture, Slices::by_capture(&mapped, captured, since))
            }
            Some(captured) => (Way::ByIdSince, Slices::by_id(&mapped, Some((captured, since)))),
        };
        lead_slices::plan(session.client()).await?;
        let found = Reconciled {
            since: (way != Way::ByIdAll).then_some(since),
            counts: Counts::default(),
            unaccounted: Vec::new(),
            unreadable: Vec::new(),
            sent_twice,
            twice,
        };
        Ok(Self { way, mapped, slices, found })
    }

    /// Goes on in another session, which is planned for slices from here on.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn go_on(&self, session: &mut Session) -> Result<(), ReconcileError> {
        Ok(lead_slices::plan(session.client()).await?)
    }

    /// Looks at the next slice. `false`: there are no more.
    ///
    /// # Errors
    /// [`ReconcileError`].
    pub async fn step(&mut self, session: &mut Session) -> Result<bool, ReconcileError> {
        let Some(mut pieces) = self.slices.next(session.client()).await? else { return Ok(false) };
        while let Some(piece) = pieces.next(session.client()).await? {
            match session.client().query(&slice_sql(&self.mapped, &self.way, &piece.condition), &[]).await {
                Ok(rows) => rows.iter().try_for_each(|row| self.found.take(row))?,
                Err(error) => pieces.failed(piece, error)?,
            }
        }
        self.found.take_unreadable(pieces);
        Ok(true)
    }

    /// What was found so far.
    pub fn found(self) -> Reconciled {
        self.found
    }

    /// How many leads were looked at so far.
    pub fn looked_at(&self) -> u64 {
        self.found.counts.all()
    }
}

impl Reconciled {
    fn take(&mut self, row: &Row) -> Result<(), Error> {
        let leads = u64::try_from(row.try_get::<_, i64>("leads")?).unwrap_or_default();
        *self.counts.of(row.try_get("class")?) += leads;
        if let Some(tenant_id) = row.try_get::<_, Option<String>>("tenant_id")?
            && self.unaccounted.len() < NAMED
        {
            self.unaccounted.push(Unaccounted {
                tenant_id,
                lead_id: row.try_get("lead_id")?,
                captured_at: row.try_get("captured_at")?,
                was_claimed: row.try_get("was_claimed")?,
            });
        }
        Ok(())
    }

    fn take_unreadable(&mut self, pieces: Pieces) {
        let broken = pieces.broken();
        self.counts.unreadable += u64::try_from(broken.len()).unwrap_or_default();
        let room = NAMED.saturating_sub(self.unreadable.len());
        self.unreadable.extend(broken.into_iter().take(room));
    }
}

/// One row a class, and one for each lead that is unaccounted. A lead without a tenant belongs to nobody.
///
/// Delivered is the best that can become of a lead. Those that were delivered soon stand together in the log, which is
/// quicker to read than a row here and a row there; the others are looked up one by one.
fn slice_sql(mapped: &MappedSql, way: &Way, condition: &str) -> String {
    // Leads that stand together by their ids were captured whenever.
    let soon = if *way == Way::ByCapture { SOON } else { "NULL::interval" };
    let captured_at = mapped.captured_at.as_ref().map_or("NULL::timestamptz", |captured| captured.sql.as_str());
    let leads = leads_sql(mapped, captured_at, condition);
    let [of_log, of_soon, of_outbox, of_keys, of_mutes] = ["d", "s", "o", "u", "m"].map(|row| mapped.same_tenant(row));
    // Where ids are unique, an event of the lead is one whoever it belonged to.
    let tenant = if mapped.id_is_unique { "NULL::text" } else { "tenant_id" };
    format!(
        "-- reconcile::slice
WITH l AS MATERIALIZED (SELECT l.* FROM {leads} WHERE l.tenant_id IS NOT NULL),
soon AS (
    SELECT {tenant} AS tenant_id, lead_id
    FROM (SELECT tenant_id, lead_id, status, is_test FROM lead_webhook.deliveries
          WHERE finished_at >= (SELECT min(captured_at) FROM l)
            AND finished_at <= (SELECT max(captured_at) FROM l) + {soon}
          ORDER BY finished_at LIMIT {MOST_SOON}) d
    WHERE status = 'delivered' AND NOT is_test
    GROUP BY 1, 2)
SELECT l.class, count(*) AS leads,
       CASE WHEN l.class = 'unaccounted' THEN l.tenant_id END AS tenant_id,
       CASE WHEN l.class = 'unaccounted' THEN l.lead_id END AS lead_id,
       CASE WHEN l.class = 'unaccounted' THEN to_char(l.captured_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') END AS captured_at,
       CASE WHEN l.class = 'unaccounted' THEN EXISTS (
           SELECT FROM lead_webhook.uniqueness u
           WHERE u.lead_id = l.lead_id AND {of_keys} OFFSET 0) END AS was_claimed
FROM (
    SELECT l.tenant_id, l.lead_id, l.captured_at,
           CASE WHEN l.best < 'd' THEN substr(l.best, 3)
                WHEN l.in_flight THEN 'in_flight'
                WHEN NOT l.in_flight THEN 'pending'
                WHEN l.best IS NOT NULL THEN substr(l.best, 3)
                WHEN EXISTS (SELECT FROM lead_webhook.muted m
                             WHERE m.lead_id = l.lead_id AND {of_mutes} OFFSET 0) THEN 'muted'
                WHEN l.captured_at IS NULL OR l.captured_at > clock_timestamp() + {MOST_AHEAD} THEN 'undated'
                WHEN NOT {WAS_ON} THEN 'without_endpoint'
                ELSE 'unaccounted' END AS class
    FROM (
        SELECT l.*, o.in_flight, CASE WHEN s.lead_id IS NOT NULL THEN 'a delivered' ELSE (
            SELECT min(CASE d.status WHEN 'delivered' THEN 'a delivered' WHEN 'interrupted' THEN 'b interrupted'
                                     WHEN 'failed' THEN 'c failed' ELSE 'd skipped' END COLLATE \"C\")
            FROM lead_webhook.deliveries d
            WHERE d.lead_id = l.lead_id AND {of_log} AND NOT d.is_test) END AS best
        FROM l
        LEFT JOIN soon s ON s.lead_id = l.lead_id AND {of_soon}
        LEFT JOIN (SELECT {tenant} AS tenant_id, lead_id::text AS lead_id, bool_or(claimed_by IS NOT NULL) AS in_flight
                   FROM lead_webhook.outbox GROUP BY 1, 2) o
          ON o.lead_id = l.lead_id AND {of_outbox}
        OFFSET 0
    ) l
    OFFSET 0
) l
GROUP BY 1, 3, 4, 5, 6"
    )
}

const SENT_TWICE: &str = "\
-- reconcile::sent_twice
SELECT t.tenant_id, t.lead_id, t.attempts, count(*) OVER () AS leads
FROM (SELECT d.tenant_id, d.lead_id, count(*) AS attempts
      FROM lead_webhook.deliveries d
      WHERE d.finished_at >= $1 AND d.event = 'lead.created' AND NOT d.is_test AND d.redelivery_of IS NULL
        AND (d.sent_at IS NOT NULL OR d.status = 'interrupted')
      GROUP BY 1, 2
      HAVING count(*) > 1) t
ORDER BY 1, 2
LIMIT $2";

async fn sent_twice(session: &mut Session, since: Timestamp) -> Result<(i64, Vec<SentTwice>), Error> {
    let limit = i64::try_from(NAMED).unwrap_or(i64::MAX);
    let rows = session.query(SENT_TWICE, &[&since, &limit]).await?;
    let all = rows.first().map_or(Ok(0), |row| row.try_get("leads"))?;
    let twice = |row: &Row| {
        Ok(SentTwice {
            tenant_id: row.try_get("tenant_id")?,
            lead_id: row.try_get("lead_id")?,
            attempts: row.try_get("attempts")?,
        })
    };
    Ok((all, rows.iter().map(twice).collect::<Result<_, Error>>()?))
}
