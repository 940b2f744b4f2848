//! `lead-webhook reconcile`: every lead against outbox and log. Reads only.

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Failure,
    context::Context,
    database::failed,
    fields::{aligned, quoted},
    output,
    progress::Progress,
};
use crate::{
    control::time,
    store::{
        mapping::MappedSql,
        reconcile::{Counts, ReconcileError, Reconciled, Reconciliation, SentTwice, Unaccounted, Way},
    },
};

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Counts {
        since: Option<String>,
        #[serde(flatten)]
        counts: &'a Counts,
        sent_twice: i64,
    },
    Unaccounted(&'a Unaccounted),
    SentTwice(&'a SentTwice),
    Unreadable {
        lead_id: &'a str,
        error: &'a str,
    },
}

/// Goes through the leads and says what was found. Exit code 1 where any is unaccounted.
pub(super) async fn reconcile(context: &Context, since: Option<&str>, json: bool) -> Result<(), Failure> {
    let since = since.map(|text| time::parse(text, Timestamp::now())).transpose();
    let since = since.map_err(|problem| Failure::Arguments(format!("--since: {problem}")))?;
    let mut session = context.session().await?;
    let mapped = MappedSql::resolve(session.client(), &context.config.leads).await.map_err(Failure::operation)?;
    if since.is_some() && mapped.captured_at.is_none() {
        return Err(Failure::Arguments("--since: leads.columns.captured_at is not mapped".to_owned()));
    }
    let stopped = |error| match error {
        ReconcileError::Database(error) => failed(context)(error),
        error => Failure::operation(error),
    };
    let mut reconciliation = Reconciliation::begin(&mut session, mapped, since).await.map_err(stopped)?;
    if let Some(text) = remark(&reconciliation.way) {
        output::message(text);
    }
    let progress = Progress::new();
    while reconciliation.step(&mut session).await.map_err(stopped)? {
        progress.show(&format!("{} leads", reconciliation.looked_at()));
    }
    progress.end();
    let found = reconciliation.found();
    if json {
        lines(&found)?;
    } else {
        tell(&found)?;
    }
    advise(&found);
    match found.counts.unaccounted {
        0 => Ok(()),
        1 => Err(Failure::Operation("1 lead is unaccounted".to_owned())),
        n => Err(Failure::Operation(format!("{n} leads are unaccounted"))),
    }
}

fn remark(way: &Way) -> Option<&'static str> {
    match way {
        Way::ByCapture => None,
        Way::ByIdSince => {
            Some("note: the captured time has no index, the whole table is read: see `lead-webhook check`")
        }
        Way::ByIdAll => Some(
            "note: leads.columns.captured_at is not mapped: all leads are looked at, and those of which nothing is known \
             count as undated, because they may be older than the install",
        ),
    }
}

fn lines(found: &Reconciled) -> Result<(), Failure> {
    let Reconciled { since, counts, sent_twice, .. } = found;
    output::json(&Line::Counts { since: since.map(|since| since.to_string()), counts, sent_twice: *sent_twice })?;
    found.unaccounted.iter().try_for_each(|lead| output::json(&Line::Unaccounted(lead)))?;
    found.twice.iter().try_for_each(|lead| output::json(&Line::SentTwice(lead)))?;
    found.unreadable.iter().try_for_each(|(lead_id, error)| output::json(&Line::Unreadable { lead_id, error }))
}

fn tell(found: &Reconciled) -> Result<(), Failure> {
    let Reconciled { since, counts, sent_twice, .. } = found;
    let since =
        since.map_or_else(|| "all".to_owned(), |since| format!("captured since {}", time::to_the_second(since)));
    let rows = [
        ("leads", format!("{} ({since})", counts.all())),
        ("delivered", counts.delivered.to_string()),
        ("interrupted", counts.interrupted.to_string()),
        ("failed", counts.failed.to_string()),
        ("pending", counts.pending.to_string()),
        ("in flight", counts.in_flight.to_string()),
        ("skipped", counts.skipped.to_string()),
        ("muted", counts.muted.to_string()),
        ("without endpoint", counts.without_endpoint.to_string()),
        ("undated", counts.undated.to_string()),
        ("unreadable", counts.unreadable.to_string()),
        ("unaccounted", counts.unaccounted.to_string()),
        ("sent twice", sent_twice.to_string()),
    ];
    output::data(&aligned(&rows))?;
    for Unaccounted { tenant_id, lead_id, captured_at, was_claimed } in &found.unaccounted {
        let what = if *was_claimed { "was claimed, its log row is gone" } else { "was never queued" };
        let (tenant, lead) = (quoted(tenant_id), quoted(lead_id));
        output::data(&format!("unaccounted: tenant {tenant}, lead {lead}, captured {captured_at}: {what}"))?;
    }
    for SentTwice { tenant_id, lead_id, attempts } in &found.twice {
        output::data(&format!("sent twice: tenant {}, lead {}: {attempts} times", quoted(tenant_id), quoted(lead_id)))?;
    }
    for (lead_id, error) in &found.unreadable {
        output::data(&format!("unreadable: lead {}: {error}", quoted(lead_id)))?;
    }
    Ok(())
}

/// What there is to do about it.
fn advise(found: &Reconciled) {
    let rest = |what: &str, all: u64, named: usize| {
        let rest = all.saturating_sub(u64::try_from(named).unwrap_or(u64::MAX));
        if rest > 0 {
            output::message(&format!("{rest} more {what}"));
        }
    };
    rest("unaccounted", found.counts.unaccounted, found.unaccounted.len());
    rest("sent twice", u64::try_from(found.sent_twice).unwrap_or_default(), found.twice.len());
    rest("unreadable", found.counts.unreadable, found.unreadable.len());
    if found.unaccounted.iter().any(|lead| !lead.was_claimed) {
        output::message(
            "never queued: a daemon queues those of the last 24 hours when it starts, when a trigger has failed and when `migrate` \
             has put one back, where `lead-webhook check` says that the sweep is on; docs/operations.md tells how older ones are queued by hand",
        );
    }
    if found.unaccounted.iter().any(|lead| lead.was_claimed) {
        output::message(
            "claimed: it has a key and no log row: it may have been sent, and its log row was deleted; or `seed` made the \
             key while no captured time was mapped",
        );
    }
    if found.sent_twice > 0 {
        output::message(
            "sent twice: right only for a lead whose contact was taken away and another one given; see `lead-webhook \
             deliveries list --lead`",
        );
    }
}
