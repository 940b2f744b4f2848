//! `lead-webhook deliveries`: the log, listed, shown, followed, counted, sent again and pruned.

mod filter;
mod follow;
mod prune;
mod redeliver;
mod show;
mod stats;
mod table;

use jiff::Timestamp;

use super::{
    Failure,
    args::{DeliveriesCommand, Filter},
    context::Context,
    database::failed,
    output,
};
use crate::store::delivery_list;

/// Runs one of the commands on the log.
pub(super) async fn run(context: &Context, command: DeliveriesCommand) -> Result<(), Failure> {
    match command {
        DeliveriesCommand::List { filter, json } => list(context, &filter, json).await,
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

async fn list(context: &Context, words: &Filter, json: bool) -> Result<(), Failure> {
    let mut filter =
        filter::read(words, Timestamp::now()).map_err(|problems| Failure::Arguments(problems.join("\n")))?;
    let shown = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    // One more, to tell whether there are more.
    filter.limit = filter.limit.saturating_add(1);
    let mut session = context.session().await?;
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
        output::message(&format!("these are the newest {shown} of more: see --limit, --since and --until"));
    }
    Ok(())
}
