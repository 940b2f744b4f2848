//! What is counted while the daemon runs, and how it is told: in a text format, with Prometheus' conventions for
//! names and units. A tenant is never a label: there may be thousands.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::outcome::{Failure, SkipReason, Status};

/// The content type of what [`Metrics::text`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of an attempt's duration in seconds: from a receiver next door to the longest limit there is.
const BOUNDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];

/// How an event ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    status: &'static str,
    /// The failure or the reason, as in the log; empty where the status says it all.
    cause: &'static str,
}

/// An info metric is one that parsers of Prometheus' own format do not know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Ended {
    fn of(status: Status) -> Self {
        Self { status: status.as_str(), cause: status.failure().or(status.reason()).unwrap_or_default() }
    }
}

/// Counters that grow, and gauges that are set when somebody asks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: Family<Ended, Counter>,
    attempts: Histogram,
    recovered: Counter,
    write_failures: Counter,
    shortages: Counter,
    gauges: Gauges,
    /// Leads are missed, and those who look for them fail too.
    is_missing_leads: AtomicBool,
}

#[derive(Debug, Default, Clone)]
struct Gauges {
    in_flight: Gauge,
    unwritten: Gauge,
    database_up: Gauge,
    notified: Gauge,
    pending: Gauge<f64, AtomicU64>,
    oldest_pending: Gauge<f64, AtomicU64>,
    claims_up: Gauge,
    triggers_up: Gauge,
    unswept: Gauge,
    round_trip: Gauge<f64, AtomicU64>,
    unaccounted: Gauge<f64, AtomicU64>,
    reconciled_at: Gauge<f64, AtomicU64>,
    clock_ahead: Gauge<f64, AtomicU64>,
}

/// How things stand at the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    /// Deliveries that are claimed and not yet in the log.
    pub in_flight: usize,
    /// Those of them whose outcome waits to be written.
    pub unwritten: usize,
    /// Whether the database can be written to.
    pub database_up: bool,
    /// Whether notifications come through.
    pub notified: bool,
    /// Events that nobody has claimed; `None`: the database does not tell.
    pub pending: Option<i64>,
    /// The age of the oldest of them in seconds.
    pub oldest_pending_s: Option<f64>,
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "in_flight",
            "Deliveries claimed by this daemon and not yet in the log",
            self.in_flight.clone(),
        );
        registry.register("unwritten_outcomes", "Outcomes that wait to be written to the log", self.unwritten.clone());
        registry.register("database_up", "Whether the database can be written to", self.database_up.clone());
        registry.register(
            "notifications_up",
            "Whether notifications come through; else the daemon polls",
            self.notified.clone(),
        );
        registry.register("claims_up", "Whether events can be claimed; else the log says why", self.claims_up.clone());
        registry.register(
            "triggers_up",
            "Whether both triggers are on the leads table and switched on; else new leads are not queued",
            self.triggers_up.clone(),
        );
        registry.register(
            "unswept_misses",
            "How often triggers could not queue a lead, at most, since leads were last looked for that they had missed",
            self.unswept.clone(),
        );
        registry.register("pending_events", "Events of all tenants that no daemon has claimed", self.pending.clone());
        registry.register_with_unit(
            "oldest_pending_age",
            "Age of the oldest of them; 0: there is none",
            Unit::Seconds,
            self.oldest_pending.clone(),
        );
        registry.register_with_unit(
            "notify_round_trip",
            "Until a notification to itself came back, at the last try",
            Unit::Seconds,
            self.round_trip.clone(),
        );
        registry.register(
            "unaccounted_leads",
            "Leads captured within 24 hours of which nothing became, at the last count",
            self.unaccounted.clone(),
        );
        registry.register_with_unit(
            "reconciled_timestamp",
            "When the leads were last counted, since the epoch; 0: not yet",
            Unit::Seconds,
            self.reconciled_at.clone(),
        );
        registry.register_with_unit(
            "clock_ahead",
            "How far this host's clock is ahead of the database server's",
            Unit::Seconds,
            self.clock_ahead.clone(),
        );
        self.claims_up.set(1);
        self.triggers_up.set(1);
        for unknown in [&self.round_trip, &self.unaccounted, &self.clock_ahead] {
            unknown.set(f64::NAN);
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("lead_webhook");
        let (events, attempts) = (Family::<Ended, Counter>::default(), Histogram::new(BOUNDS));
        let [recovered, write_failures, shortages] = [(); 3].map(|()| Counter::default());
        let gauges = Gauges::default();
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The program", build);
        registry.register("events", "Events that ended, by status and cause as in the log", events.clone());
        registry.register_with_unit(
            "attempt_duration",
            "Whole attempts, whatever came of them",
            Unit::Seconds,
            attempts.clone(),
        );
        registry.register("recovered", "Leads that triggers had missed and the sweep has queued", recovered.clone());
        registry.register(
            "write_failures",
            "Times that heartbeat or outcomes could not be written",
            write_failures.clone(),
        );
        registry.register("shortages", "Attempts that this machine had no means for", shortages.clone());
        gauges.register(&mut registry);
        let is_missing_leads = AtomicBool::new(false);
        let metrics =
            Self { registry, events, attempts, recovered, write_failures, shortages, gauges, is_missing_leads };
        // A series that begins with its first failure has no rate then.
        let failed = Failure::ALL.map(Status::Failed);
        let skipped = SkipReason::ALL.map(Status::Skipped);
        for status in [Status::Delivered, Status::Interrupted].into_iter().chain(failed).chain(skipped) {
            let _ = metrics.events.get_or_create(&Ended::of(status));
        }
        metrics
    }
}

impl Metrics {
    /// An event ended so; `attempt`: how long the attempt took, where there was one.
    pub fn ended(&self, status: Status, attempt: Option<Duration>) {
        self.events.get_or_create(&Ended::of(status)).inc();
        if let Some(attempt) = attempt {
            self.attempts.observe(attempt.as_secs_f64());
        }
    }

    /// So many events were logged as interrupted.
    pub fn interrupted(&self, events: u64) {
        self.events.get_or_create(&Ended::of(Status::Interrupted)).inc_by(events);
    }

    /// The sweep has queued so many leads.
    pub fn recovered(&self, leads: u64) {
        self.recovered.inc_by(leads);
    }

    /// The database could not be written to.
    pub fn write_failed(&self) {
        self.write_failures.inc();
    }

    /// An attempt could not be made for want of means.
    pub fn fell_short(&self) {
        self.shortages.inc();
    }

    /// Whether the last claim could be made.
    pub fn claims(&self, is_up: bool) {
        self.gauges.claims_up.set(is_up.into());
    }

    /// Whether events can be claimed.
    pub fn is_claiming(&self) -> bool {
        self.gauges.claims_up.get() != 0
    }

    /// Whether both triggers fire.
    pub fn triggers(&self, fire: bool) {
        self.gauges.triggers_up.set(fire.into());
    }

    /// Whether new leads are queued.
    pub fn is_queueing(&self) -> bool {
        self.gauges.triggers_up.get() != 0
    }

    /// Triggers could not queue leads so often since the latest sweep; where that `is_stuck`, those are missed for good.
    pub fn unswept(&self, misses: i64, is_stuck: bool) {
        self.gauges.unswept.set(misses);
        self.is_missing_leads.store(is_stuck && misses > 0, Ordering::Relaxed);
    }

    /// Whether triggers miss leads and nobody can look for those.
    pub fn is_missing_leads(&self) -> bool {
        self.is_missing_leads.load(Ordering::Relaxed)
    }

    /// A notification to itself came back after so long; `None`: it did not.
    pub fn notified(&self, after: Option<Duration>) {
        self.gauges.round_trip.set(after.map_or(f64::NAN, |after| after.as_secs_f64()));
    }

    /// This host's clock is so far ahead of the server's.
    pub fn clock_ahead(&self, by: SignedDuration) {
        self.gauges.clock_ahead.set(by.as_secs_f64());
    }

    /// How many leads are unaccounted, and when that was known; `None`: it cannot be told.
    #[expect(clippy::cast_precision_loss, reason = "a table has less than 2^52 rows")]
    pub fn reconciled(&self, found: Option<(u64, Timestamp)>) {
        self.gauges.unaccounted.set(found.map_or(f64::NAN, |(unaccounted, _)| unaccounted as f64));
        if let Some((_, at)) = found {
            self.gauges.reconciled_at.set(at.as_second() as f64);
        }
    }

    /// Everything, as text.
    pub fn text(&self, now: &Snapshot) -> String {
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let Gauges { in_flight, unwritten, database_up, notified, pending, oldest_pending, clock_ahead, .. } =
            &self.gauges;
        in_flight.set(count(now.in_flight));
        unwritten.set(count(now.unwritten));
        database_up.set(now.database_up.into());
        if !now.database_up {
            // Until the next heartbeat compares them.
            clock_ahead.set(f64::NAN);
        }
        notified.set(now.notified.into());
        #[expect(clippy::cast_precision_loss, reason = "an outbox has less than 2^52 rows")]
        pending.set(now.pending.map_or(f64::NAN, |pending| pending as f64));
        oldest_pending.set(now.pending.map_or(f64::NAN, |_| now.oldest_pending_s.unwrap_or_default().max(0.0)));
        let mut text = String::new();
        // Writing to memory cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Snapshot = Snapshot {
        in_flight: 3,
        unwritten: 1,
        database_up: true,
        notified: false,
        pending: Some(7),
        oldest_pending_s: Some(1.5),
    };

    #[test]
    fn names_and_units_are_those_of_prometheus() {
        let metrics = Metrics::default();
        metrics.ended(Status::Delivered, Some(Duration::from_millis(30)));
        metrics.ended(Status::Failed(Failure::Timeout), Some(Duration::from_secs(15)));
        metrics.ended(Status::Skipped(SkipReason::Duplicate), None);
        metrics.interrupted(2);
        let text = metrics.text(&NOW);
        for line in [
            r#"lead_webhook_events_total{status="delivered",cause=""} 1"#,
            r#"lead_webhook_events_total{status="failed",cause="timeout"} 1"#,
            r#"lead_webhook_events_total{status="failed",cause="dns"} 0"#,
            r#"lead_webhook_events_total{status="skipped",cause="duplicate"} 1"#,
            r#"lead_webhook_events_total{status="interrupted",cause=""} 2"#,
            r#"lead_webhook_attempt_duration_seconds_bucket{le="0.05"} 1"#,
            "lead_webhook_attempt_duration_seconds_count 2",
            "lead_webhook_in_flight 3",
            "lead_webhook_database_up 1",
            "lead_webhook_notifications_up 0",
            "lead_webhook_claims_up 1",
            "lead_webhook_triggers_up 1",
            "lead_webhook_pending_events 7.0",
            "lead_webhook_oldest_pending_age_seconds 1.5",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        for unknown in ["notify_round_trip_seconds NaN", "unaccounted_leads NaN", "reconciled_timestamp_seconds 0.0"] {
            assert!(text.contains(&format!("lead_webhook_{unknown}\n")), "{unknown}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let away = metrics.text(&Snapshot { pending: None, database_up: false, ..NOW });
        assert!(
            away.contains("lead_webhook_pending_events NaN") && away.contains("lead_webhook_database_up 0"),
            "{away}"
        );
    }
}
