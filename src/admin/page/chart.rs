//! The last two weeks, a bar a day.

use std::collections::BTreeMap;

use askama::Template;
use jiff::{SignedDuration, Timestamp};

use crate::admin::api::stats::Stats;

/// Days of the chart.
const DAYS: i64 = 14;

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

#[derive(Default)]
struct Day {
    date: String,
    delivered: i64,
    failed: i64,
    interrupted: i64,
    skipped: i64,
}

/// Where the chart begins: a midnight, so that each day is whole.
pub(super) fn since(now: Timestamp) -> String {
    let first = now.saturating_sub(SignedDuration::from_hours(24 * (DAYS - 1))).unwrap_or(now);
    first.strftime("%Y-%m-%d").to_string()
}

/// The chart, as HTML.
pub(super) fn of(stats: &Stats, now: Timestamp) -> String {
    let date = |ago: i64| {
        let time = now.saturating_sub(SignedDuration::from_hours(24 * ago)).unwrap_or(now);
        time.strftime("%Y-%m-%d").to_string()
    };
    let mut days: BTreeMap<String, Day> =
        (0..DAYS).map(|ago| (date(ago), Day { date: date(ago), ..Day::default() })).collect();
    for point in &stats.over_time {
        if let Some(day) = point.since.get(..10).and_then(|date| days.get_mut(date)) {
            day.delivered += point.counts.delivered;
            day.failed += point.counts.failed;
            day.interrupted += point.counts.interrupted;
            day.skipped += point.counts.skipped;
        }
    }
    let days: Vec<Day> = days.into_values().collect();
    let most = days.iter().map(|day| day.delivered + day.failed + day.interrupted).max().unwrap_or_default().max(1);
    let bars = (0..).zip(&days).map(|(nth, day)| bar(nth, day, most)).collect();
    let sum = |of: fn(&Day) -> i64| days.iter().map(of).sum::<i64>();
    let summary = format!(
        "Deliveries of the last {DAYS} days: {} delivered, {} failed or interrupted",
        sum(|day| day.delivered),
        sum(|day| day.failed + day.interrupted)
    );
    Chart { width: DAYS * SLOT, summary, bars, days }.render().unwrap_or_default()
}

fn bar(nth: i64, day: &Day, most: i64) -> Bar {
    // What is there is seen, however little it is.
    let height = |count: i64| if count == 0 { 0 } else { (count * HEIGHT / most).max(2) };
    let (delivered, failed) = (height(day.delivered), height(day.failed + day.interrupted));
    let title =
        format!("{}: {} delivered, {} failed, {} interrupted", day.date, day.delivered, day.failed, day.interrupted);
    let delivered_y = HEIGHT + 10 - delivered;
    Bar { title, x: nth * SLOT, slot: SLOT, delivered, delivered_y, failed, failed_y: delivered_y - failed }
}
