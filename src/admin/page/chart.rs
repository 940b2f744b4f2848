//! The last two weeks, a bar a day.

use askama::Template;
use jiff::{SignedDuration, Timestamp};

use crate::store::delivery_stats::{Counts, Stretch};

/// Days of the chart, and the seconds of one.
const DAYS: i64 = 14;
const DAY: i64 = 86_400;

/// Units of width for a day, and of height for the most.
const SLOT: i64 = 40;
const HEIGHT: i64 = 110;

#[derive(Template)]
#[template(path = "chart.html", config = "src/admin/page/askama.toml")]
struct Chart {
    width: i64,
    summary: String,
    bars: Vec<Bar>,
    days: Vec<Day>,
}

struct Bar {
    title: String,
    x: i64,
    slot: i64,
    delivered: i64,
    delivered_y: i64,
    failed: i64,
    failed_y: i64,
}

struct Day {
    date: String,
    counts: Counts,
}

impl Day {
    fn missed(&self) -> i64 {
        self.counts.failed + self.counts.interrupted
    }
}

/// Where the chart begins: a midnight (UTC), so that each day is whole.
pub(super) fn since(now: Timestamp) -> Timestamp {
    let first = now.as_second().div_euclid(DAY) * DAY - (DAYS - 1) * DAY;
    Timestamp::from_second(first).unwrap_or(now)
}

/// The chart of the days since then, as HTML.
pub(super) fn of(told: &[Stretch], since: Timestamp) -> String {
    let day = |number: i64| Day {
        date: (since + SignedDuration::from_secs(number * DAY)).strftime("%Y-%m-%d").to_string(),
        counts: told.iter().find(|day| day.number == number).map(|day| day.counts).unwrap_or_default(),
    };
    let days: Vec<Day> = (0..DAYS).map(day).collect();
    let most = days.iter().map(|day| day.counts.delivered + day.missed()).max().unwrap_or_default().max(1);
    let bars = (0..).zip(&days).map(|(nth, day)| bar(nth, day, most)).collect();
    let sum = |of: fn(&Day) -> i64| days.iter().map(of).sum::<i64>();
    let summary = format!(
        "Deliveries of the last {DAYS} days: {} delivered, {} failed or interrupted",
        sum(|day| day.counts.delivered),
        sum(Day::missed)
    );
    Chart { width: DAYS * SLOT, summary, bars, days }.render().unwrap_or_default()
}

fn bar(nth: i64, day: &Day, most: i64) -> Bar {
    // What is there is seen, however little it is.
    let height = |count: i64| if count == 0 { 0 } else { (count * HEIGHT / most).max(2) };
    let (delivered, failed) = (height(day.counts.delivered), height(day.missed()));
    let title = format!(
        "{}: {} delivered, {} failed, {} interrupted",
        day.date, day.counts.delivered, day.counts.failed, day.counts.interrupted
    );
    let delivered_y = HEIGHT + 10 - delivered;
    Bar { title, x: nth * SLOT, slot: SLOT, delivered, delivered_y, failed, failed_y: delivered_y - failed }
}
