//! `lead-webhook deliveries`: the log, listed, shown, followed, counted, sent again and pruned.

mod follow;
mod prune;
mod redeliver;
mod show;
mod stats;
mod table;

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Failure,
    args::{DeliveriesCommand, Filter},
    context::Context,
    database::failed,
    output,
};
use crate::{
    control::filter::{self, Problem},
    store::{
        delivery_list::{self, Ids},
        session::Session,
    },
};

/// Runs one of the commands on the log.
pub(super) async fn run(context: &Context, command: DeliveriesCommand) -> Result<(), Failure> {
    match command {
        DeliveriesCommand::List { filter, after, json } => list(context, &filter, after.as_deref(), json).await,
        DeliveriesCommand::Show { id, json } => show::show(context, &id, json).await,
        DeliveriesCommand::Follow { filter, json } => follow::follow(context, &filter, json).await,
        DeliveriesCommand::Stats { tenant, since, until, limit, json } => {
            let (tenant, until) = (tenant.as_deref(), until.as_deref());
            stats::stats(context, &stats::Words { tenant, since: &since, until, limit }, json).await
        }
        DeliveriesCommand::Redeliver { ids, filter, rate, dry_run, json } => {
            let options = redeliver::Options { ids: &ids, filter: &filter, rate, dry_run, json };
            redeliver::redeliver(context, &options).await
        }
        DeliveriesCommand::Prune { before, dry_run, json } => {
            prune::prune(context, before.as_deref(), dry_run, json).await
        }
    }
}

async fn list(context: &Context, words: &Filter, after: Option<&str>, json: bool) -> Result<(), Failure> {
    let filter = read_filter(words);
    let after = after.map(|text| show::parse(text).ok_or_else(|| format!("--after: {}", show::not_an_id(text))));
    let after = after.transpose();
    let (mut filter, after) = match (filter, after) {
        (Ok(filter), Ok(after)) => (filter, after),
        (filter, after) => {
            let problems = filter.err().into_iter().flatten().chain(after.err()).collect::<Vec<_>>();
            return Err(Failure::Arguments(problems.join("\n")));
        }
    };
    let shown = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    // One more, to tell whether there are more.
    filter.limit = filter.limit.saturating_add(1);
    let mut session = context.session().await?;
    if let Some(ids) = after {
        filter.after = Some(place_of(context, &mut session, &ids).await?);
    }
    let mut deliveries = delivery_list::list(&mut session, &filter).await.map_err(failed(context))?;
    let has_more = deliveries.len() > shown;
    deliveries.truncate(shown);
    if json {
        deliveries.iter().try_for_each(output::json)?;
    } else if !deliveries.is_empty() {
        output::data(&table::of(&deliveries))?;
    }
    if deliveries.is_empty() {
        output::message("no delivery matches");
    } else if has_more {
        let last = deliveries.last().map(|last| last.delivery_id).unwrap_or_default();
        output::message(&format!("there are more: --after {last}"));
    }
    Ok(())
}

/// The filter that the options spell.
///
/// # Errors
/// Every problem, each with its option.
fn read_filter(options: &Filter) -> Result<delivery_list::Filter, Vec<String>> {
    let Filter { tenant, lead, status, failure, event, since, until, limit } = options;
    let words = filter::Words {
        tenant: tenant.as_deref(),
        lead: lead.as_deref(),
        status: status.as_deref(),
        failure: failure.as_deref(),
        event: event.as_deref(),
        since: since.as_deref(),
        until: until.as_deref(),
        limit: *limit,
    };
    let lines = |problems: Vec<Problem>| {
        problems.into_iter().map(|Problem { word, text }| format!("--{word} {text}")).collect()
    };
    filter::read(&words, Timestamp::now()).map_err(lines)
}

/// Where the delivery stands that `--after` names.
async fn place_of(context: &Context, session: &mut Session, ids: &Ids) -> Result<(Timestamp, Uuid), Failure> {
    let mut found = delivery_list::find(session, ids, 3).await.map_err(failed(context))?;
    found.retain(|delivery| ids.contain(delivery.delivery_id));
    match found.as_slice() {
        [one] => Ok((one.finished_at, one.delivery_id)),
        [] => Err(Failure::Operation("--after: no delivery has this id".to_owned())),
        _ => Err(Failure::Operation("--after: several deliveries' ids begin so: give more digits".to_owned())),
    }
}

/// So many deliveries, in words.
fn counted(deliveries: i64) -> String {
    if deliveries == 1 { "1 delivery".to_owned() } else { format!("{deliveries} deliveries") }
}
