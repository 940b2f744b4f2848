//! `deliveries redeliver`: an operator's explicit second send. Each is a new delivery of the same event, made from the lead as
//! it is now, to the endpoint as it is now. One after the other, and no faster than asked for.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use super::{counted, read_filter, show, table};
use crate::{
    cli::{
        Failure, args,
        context::Context,
        database::{failed, vouch_for_keys},
        fields::quoted,
        output,
    },
    control::again::{self, Failed},
    dispatch::guard,
    outcome::SkipReason,
    pipeline::Pipeline,
    store::{
        delivery_list::{self, Delivery, Filter},
        delivery_log::Entry,
        mapping::MappedSql,
        redelivery,
        session::Session,
    },
    visitor::UniquenessKey,
};

/// How the command is to go about it.
pub(in crate::cli) struct Options<'a> {
    /// Deliveries, or events, by id.
    pub(in crate::cli) ids: &'a [String],
    /// Those that it lets through, where no id is given.
    pub(in crate::cli) filter: &'a args::Filter,
    /// So many a second.
    pub(in crate::cli) rate: u32,
    /// Only says which.
    pub(in crate::cli) dry_run: bool,
    /// One JSON object a line.
    pub(in crate::cli) json: bool,
}

/// What became of all.
#[derive(Default)]
struct Counts {
    delivered: usize,
    failed: usize,
    unsent: usize,
}

/// Sends again, and says how each ended. Well ended only if all were delivered.
pub(in crate::cli) async fn redeliver(context: &Context, options: &Options<'_>) -> Result<(), Failure> {
    let filter = read(options)?;
    let pipeline = context.pipeline()?;
    let mut session = context.session().await?;
    vouch_for_keys(context, &mut session, pipeline.keyring()).await?;
    let seen = guard::look(&mut session, pipeline.keyring()).await.map_err(failed(context))?;
    let seen = seen.map_err(|guarded| Failure::Operation(format!("nothing is sent: {guarded}")))?;
    let first = match &filter {
        Some(filter) => of_filter(context, &mut session, filter).await?,
        None => of_ids(context, &mut session, options.ids).await?,
    };
    if first.is_empty() {
        output::message("no delivery matches");
        return Ok(());
    }
    if options.dry_run {
        if options.json {
            first.iter().try_for_each(output::json)?;
        } else {
            output::data(&table::of(&first))?;
        }
        let what = counted(i64::try_from(first.len()).unwrap_or(i64::MAX));
        output::message(&format!("{what} would be sent again, if lead and endpoint are still there"));
        return Ok(());
    }
    let mapped = MappedSql::resolve(session.client(), &context.config.leads).await.map_err(Failure::operation)?;
    let mut work = Work { context, pipeline, key: seen.key, session, mapped, insisted: filter.is_none() };
    let counts = work.send_all(&first, options).await?;
    let Counts { delivered, failed, unsent } = counts;
    output::message(&format!(
        "{} sent again: {delivered} delivered, {failed} not; {unsent} not sent",
        delivered + failed
    ));
    if delivered == first.len() { Ok(()) } else { Err(Failure::Said) }
}

/// The filter, or `None` where ids are given.
fn read(options: &Options<'_>) -> Result<Option<Filter>, Failure> {
    let words = options.filter;
    let is_narrow = [&words.tenant, &words.lead, &words.since].iter().any(|word| word.is_some());
    let is_given =
        is_narrow || [&words.status, &words.failure, &words.event, &words.until].iter().any(|word| word.is_some());
    let problem = match (options.ids.is_empty(), is_given) {
        (false, true) => "ids and a filter are given: name deliveries by one of both",
        (true, _) if !is_narrow => "nothing is named: give ids, or at least one of --tenant, --lead and --since",
        (false, false) => return Ok(None),
        (true, _) => {
            let problems = |problems: Vec<String>| Failure::Arguments(problems.join("\n"));
            return read_filter(words).map(Some).map_err(problems);
        }
    };
    Err(Failure::Arguments(problem.to_owned()))
}

/// First deliveries that the filter lets through, oldest first, without those that were sent again already. Where it says no
/// status, those that failed or were interrupted. Of those that were skipped only what had waited too long: of the others
/// each was not to be sent, and is sent only where it is named.
async fn of_filter(context: &Context, session: &mut Session, filter: &Filter) -> Result<Vec<Delivery>, Failure> {
    let wanted = |delivery: &Delivery| {
        let is_wanted = filter.status.is_some() || ["failed", "interrupted"].contains(&delivery.status.as_str());
        let is_due = delivery.reason.as_deref().is_none_or(|reason| reason == SkipReason::Expired.as_str());
        is_wanted && is_due && !delivery.is_test && delivery.redelivery_of.is_none()
    };
    let mut first = Vec::new();
    let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
    let mut page = Filter { limit: PAGE, ..filter.clone() };
    loop {
        let found = delivery_list::list_from(session, &page).await.map_err(failed(context))?;
        let is_last = i64::try_from(found.len()).unwrap_or(i64::MAX) < PAGE;
        page.after = found.last().map(|last| (last.finished_at, last.delivery_id));
        let found: Vec<Delivery> = found.into_iter().filter(wanted).collect();
        let leads: Vec<_> = found.iter().map(|one| (one.lead_id.as_str(), one.tenant_id.as_str())).collect();
        let again = redelivery::sent_again(session, &leads).await.map_err(failed(context))?;
        first.extend(found.into_iter().filter(|one| !again.contains(&one.delivery_id)));
        if first.len() > limit {
            first.truncate(limit);
            output::message(&format!("these are the oldest {limit} of more: see --limit, --since and --until"));
            break;
        }
        if is_last {
            break;
        }
    }
    Ok(first)
}

/// Rows read at a time.
const PAGE: i64 = 10_000;

/// The first delivery of each event that an id names.
async fn of_ids(context: &Context, session: &mut Session, ids: &[String]) -> Result<Vec<Delivery>, Failure> {
    let (mut first, mut problems) = (Vec::<Delivery>::new(), Vec::new());
    let mut are_ids = true;
    for text in ids {
        let Some(ids) = show::parse(text) else {
            are_ids = false;
            problems.push(show::not_an_id(text));
            continue;
        };
        let found = delivery_list::find(session, &ids, 2).await.map_err(failed(context))?;
        match found.as_slice() {
            [] => problems.push(format!("no delivery and no event of the log has the id {text}")),
            [one] if one.is_test => problems.push(format!("{text} is a Test: `lead-webhook test` sends another one")),
            [one] => {
                let all = delivery_list::of_event(session, one).await.map_err(failed(context))?;
                match all.into_iter().find(|delivery| delivery.redelivery_of.is_none()) {
                    Some(one) if first.iter().any(|known| known.delivery_id == one.delivery_id) => {}
                    Some(one) => first.push(one),
                    None => problems.push(format!(
                        "{text}: the event's first delivery is no longer in the log, so it cannot be sent again"
                    )),
                }
            }
            _ => problems.push(format!("several ids begin with {text}: give more of it")),
        }
    }
    match problems.join("\n") {
        _ if problems.is_empty() => Ok(first),
        text if are_ids => Err(Failure::Operation(text)),
        text => Err(Failure::Arguments(text)),
    }
}

struct Work<'a> {
    context: &'a Context,
    pipeline: Pipeline,
    key: UniquenessKey,
    session: Session,
    mapped: MappedSql,
    /// Ids were given: also what was sent again already.
    insisted: bool,
}

impl Work<'_> {
    async fn send_all(&mut self, first: &[Delivery], options: &Options<'_>) -> Result<Counts, Failure> {
        let mut counts = Counts::default();
        let pace = Duration::from_secs(1) / options.rate;
        for (at, delivery) in first.iter().enumerate() {
            let next = Instant::now() + pace;
            match self.send(delivery).await? {
                Err(why) => {
                    counts.unsent += 1;
                    output::message(&format!(
                        "tenant {}, lead {}: not sent: {why}",
                        quoted(&delivery.tenant_id),
                        quoted(&delivery.lead_id)
                    ));
                }
                Ok(sent) => {
                    match sent.status.as_str() {
                        "delivered" => counts.delivered += 1,
                        _ => counts.failed += 1,
                    }
                    if options.json {
                        output::json(&sent)?;
                    } else {
                        output::data(&line(&sent))?;
                    }
                }
            }
            if at + 1 < first.len() {
                sleep_until(next).await;
            }
        }
        Ok(counts)
    }

    /// The new delivery as it is logged, or why nothing was sent.
    async fn send(&mut self, first: &Delivery) -> Result<Result<Delivery, String>, Failure> {
        let Self { session, pipeline, key, mapped, .. } = self;
        let prepared = again::prepare(session, pipeline, key, mapped, first, self.insisted).await;
        let prepared = match prepared.map_err(|error| match error {
            Failed::Database(error) => failed(self.context)(error),
            Failed::Leads(error) => Failure::operation(error),
        })? {
            Ok(prepared) => prepared,
            Err(unsent) => return Ok(Err(unsent.to_string())),
        };
        let entry = prepared.send(&self.pipeline).await;
        Ok(self.record(&entry, first).await?.ok_or_else(|| "its log row is gone".to_owned()))
    }

    /// Writes how it ended. While the database is away it is tried again; where that is of no use, it is said: nobody else
    /// knows it.
    async fn record(&mut self, entry: &Entry, first: &Delivery) -> Result<Option<Delivery>, Failure> {
        let until = Instant::now() + again::WRITTEN_WITHIN;
        loop {
            let error = match again::record(&mut self.session, entry, first).await {
                Ok(sent) => return Ok(sent),
                Err(error) => failed(self.context)(error),
            };
            if Instant::now() >= until {
                output::message(&format!(
                    "{}: tenant {}, lead {}, delivery {}: this could not be written, the log says interrupted",
                    entry.outcome.status,
                    quoted(&entry.place.tenant_id),
                    quoted(&entry.lead_id),
                    entry.delivery_id
                ));
                return Err(error);
            }
            sleep(Duration::from_secs(1)).await;
            if let Ok(session) = self.context.session().await {
                self.session = session;
            }
        }
    }
}

fn line(sent: &Delivery) -> String {
    let detail = sent.failure.as_deref().map_or_else(String::new, |failure| format!(" / {failure}"));
    let http = sent.http_status.map_or_else(String::new, |status| format!(" {status}"));
    let (tenant, lead) = (quoted(&sent.tenant_id), quoted(&sent.lead_id));
    format!("{}{detail}{http}: tenant {tenant}, lead {lead}, delivery {}", sent.status, sent.delivery_id)
}
