//! `deliveries follow`: each delivery as it ends, until somebody has seen enough.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Row, Table, Width};
use jiff::{SignedDuration, Timestamp};
use tokio::time::sleep;
use uuid::Uuid;

use super::table::{self, begin, finish, or_absent, text};
use crate::{
    cli::{Failure, args, context::Context, database::failed, fields::terminal_width, output},
    control::time::to_the_second,
    store::{
        delivery_list::{self, Delivery, Filter},
        session::Session,
    },
};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Outcomes are written in batches, by several daemons with a clock each: one may come so much behind others.
const OVERLAP: SignedDuration = SignedDuration::from_secs(10);

/// Of one look. What is more than that comes with the next.
const MOST: i64 = 10_000;

/// Shows the latest deliveries, then each that ends. Ends with its reader (`| head`) or an error; a database that is away
/// is waited for.
pub(super) async fn follow(context: &Context, words: &args::Filter, json: bool) -> Result<(), Failure> {
    let filter = super::read_filter(words).map_err(|problems| Failure::Arguments(problems.join("\n")))?;
    let mut session = context.session().await?;
    let mut latest = delivery_list::list(&mut session, &filter).await.map_err(failed(context))?;
    latest.reverse();
    let lines = Lines::new(terminal_width(), json);
    lines.header()?;
    // What ended before those that are shown first is not shown, and where there is none, what ended before now. A daemon's
    // clock that is ahead must not hide what others write.
    let now = Timestamp::now();
    let from = latest.first().map_or(now, |first| first.finished_at.min(now));
    let mut seen = Seen { latest: from, shown: HashSet::new(), order: VecDeque::new() };
    lines.show(&seen.new_of(latest))?;
    while output::is_read() {
        sleep(EVERY).await;
        let since = seen.latest.checked_sub(OVERLAP).unwrap_or(seen.latest).max(from);
        let look = Filter { since: Some(since), limit: MOST, ..filter.clone() };
        match delivery_list::list_from(&mut session, &look).await {
            Ok(deliveries) => lines.show(&seen.new_of(deliveries))?,
            Err(_) if session.is_closed() => {
                let Some(another) = again(context).await? else { break };
                session = another;
            }
            Err(error) => return Err(failed(context)(error)),
        }
    }
    Ok(())
}

/// Another session, as soon as there is one. `None`: nobody waits for it.
async fn again(context: &Context) -> Result<Option<Session>, Failure> {
    output::message("the connection is lost, trying again");
    while output::is_read() {
        sleep(EVERY).await;
        match context.session().await {
            Err(Failure::Operation(_)) => {}
            session => return session.map(Some),
        }
    }
    Ok(None)
}

/// What was shown of late.
struct Seen {
    latest: Timestamp,
    shown: HashSet<(Uuid, String)>,
    order: VecDeque<(Timestamp, (Uuid, String))>,
}

impl Seen {
    /// Those that were not shown yet. One that was `interrupted` is shown again with its real outcome.
    fn new_of(&mut self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let new =
            deliveries.into_iter().filter(|d| self.shown.insert((d.delivery_id, d.status.clone()))).collect::<Vec<_>>();
        let now = Timestamp::now();
        for delivery in &new {
            self.latest = self.latest.max(delivery.finished_at.min(now));
            self.order.push_back((delivery.finished_at, (delivery.delivery_id, delivery.status.clone())));
        }
        // Twice the overlap: by then no look finds it again.
        let old = self.latest.checked_sub(OVERLAP * 2).unwrap_or(self.latest);
        while let Some((at, _)) = self.order.front()
            && *at < old
            && let Some((_, key)) = self.order.pop_front()
        {
            self.shown.remove(&key);
        }
        new
    }
}

/// How deliveries are shown, one a line.
struct Lines {
    width: Option<u16>,
    json: bool,
}

/// A column's heading, and how wide it is on a terminal; `None`: as wide as there is room for.
type Column = (&'static str, Option<u16>);

const WIDE: [Column; 8] = [
    ("finished (UTC)", Some(19)),
    ("status", Some(21)),
    ("http", Some(4)),
    ("ms", Some(7)),
    ("delivery", Some(table::SHORT_ID)),
    ("tenant", None),
    ("lead", None),
    ("host", None),
];

/// The day is today's, and the host has no room.
const NARROW: [Column; 7] = [
    ("UTC", Some(8)),
    ("status", Some(21)),
    ("http", Some(4)),
    ("ms", Some(7)),
    ("delivery", Some(8)),
    ("tenant", None),
    ("lead", None),
];

/// Less than that is narrow.
const ENOUGH: u16 = 110;

/// Blanks between two columns.
const GAP: u16 = 2;

impl Lines {
    fn new(width: Option<u16>, json: bool) -> Self {
        Self { width, json }
    }

    fn columns(&self) -> &'static [Column] {
        if self.width.is_some_and(|width| width < ENOUGH) { &NARROW } else { &WIDE }
    }

    fn header(&self) -> Result<(), Failure> {
        // Elsewhere each line is the same, whenever somebody begins to read.
        if self.json || self.width.is_none() {
            return Ok(());
        }
        output::data(&self.line(self.columns().iter().map(|(heading, _)| Cell::new(heading)).collect()))
    }

    fn show(&self, deliveries: &[Delivery]) -> Result<(), Failure> {
        deliveries.iter().try_for_each(|delivery| {
            if self.json {
                return output::json(delivery);
            }
            let cells = self.columns().iter().map(|column| self.cell(*column, delivery)).collect();
            output::data(&self.line(cells))
        })
    }

    fn cell(&self, (heading, width): Column, delivery: &Delivery) -> Cell {
        let id = delivery.delivery_id.to_string();
        match heading {
            "finished (UTC)" => Cell::new(to_the_second(delivery.finished_at)),
            "UTC" => Cell::new(delivery.finished_at.strftime("%H:%M:%S")),
            "status" => table::status(delivery),
            "http" => Cell::new(or_absent(delivery.http_status)),
            "ms" => Cell::new(or_absent(table::millis(delivery))).set_alignment(CellAlignment::Right),
            "delivery" => match (self.width, width) {
                (Some(_), Some(width)) => Cell::new(table::cut_id(&id, width)),
                _ => Cell::new(id),
            },
            "tenant" => text(&delivery.tenant_id),
            "lead" => text(&delivery.lead_id),
            _ => text(delivery.host.as_deref().unwrap_or(table::ABSENT)),
        }
    }

    /// A table of one row, whose columns stand where those of all others do; what does not fit is cut.
    fn line(&self, cells: Vec<Cell>) -> String {
        let mut table = Table::new();
        begin(&mut table, Row::new());
        let mut row = Row::from(cells);
        row.max_height(1);
        table.add_row(row);
        finish(&mut table);
        if let Some(width) = self.width {
            let columns = self.columns();
            let fixed: u16 = columns.iter().filter_map(|(_, width)| width.map(|width| width + GAP)).sum();
            let flexible = columns.iter().filter(|(_, width)| width.is_none()).count();
            let each = width.saturating_sub(fixed) / u16::try_from(flexible).unwrap_or(1).max(1);
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
            for (column, (_, width)) in table.column_iter_mut().zip(columns) {
                let width = width.map_or(each, |width| width + GAP).max(GAP + 1);
                column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width)));
            }
        }
        table.trim_fmt().trim_start_matches('\n').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_columns_where_the_others_have_them() {
        for width in [80, 140] {
            let lines = Lines::new(Some(width), false);
            let row = |tenant: &str| {
                let value = |(heading, _): &Column| Cell::new(if *heading == "tenant" { tenant } else { heading });
                lines.line(lines.columns().iter().map(value).collect())
            };
            let [header, one, other] = ["tenant", "a", "a-tenant-with-quite-a-long-name"].map(row);
            for line in [&header, &one, &other] {
                assert!(!line.contains('\n') && line.chars().count() <= usize::from(width), "{width}: {line:?}");
            }
            let at = |line: &str, word: &str| line.find(word).unwrap();
            assert_eq!(at(&header, "tenant"), at(&other, "a-tenan"));
            assert_eq!(at(&header, "lead"), at(&one, "lead"));
            assert!(other.contains('…'), "{other}");
        }
        let lines = Lines::new(None, false);
        assert!(lines.line(vec![Cell::new("a-tenant-with-quite-a-long-name")]).contains("long-name"));
    }
}
