//! `deliveries stats`: the log in figures, for one look: who sends how much, what arrives, what fails and since when.

use comfy_table::{Cell, CellAlignment, Color, Row, Table};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::table::{ABSENT, begin, cut, finish, or_absent, text};
use crate::{
    cli::{
        Failure,
        context::Context,
        database::failed,
        fields::{aligned, terminal_width},
        output,
    },
    control::time::{self, span, to_the_second},
    store::delivery_stats::{self, Alike, Counts, OfTenant, Span, Stretch},
};

/// Kinds of failures that are named.
const KINDS: i64 = 10;

/// What a line of dots is cut into; the first that makes it no longer than [`MOST_DOTS`].
const STRETCHES: [(&str, i64); 6] = [
    ("5 minutes", 300),
    ("an hour", 3_600),
    ("6 hours", 6 * 3_600),
    ("a day", 86_400),
    ("a week", 7 * 86_400),
    ("30 days", 30 * 86_400),
];

const MOST_DOTS: i64 = 60;

/// A line of `--json`.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    All {
        since: String,
        until: String,
        success: Option<f64>,
        #[serde(flatten)]
        figures: &'a OfTenant,
    },
    Tenant {
        success: Option<f64>,
        #[serde(flatten)]
        figures: &'a OfTenant,
    },
    Failure(&'a Alike),
    Time {
        since: String,
        #[serde(flatten)]
        counts: &'a Counts,
    },
}

/// Everything that is shown.
struct Stats {
    span: Span,
    all: OfTenant,
    tenants: Vec<OfTenant>,
    failures: Vec<Alike>,
    stretch: (&'static str, i64),
    over_time: Vec<Stretch>,
}

/// What of the log, as the command line has it.
pub(super) struct Words<'a> {
    pub(super) tenant: Option<&'a str>,
    pub(super) since: &'a str,
    pub(super) until: Option<&'a str>,
    pub(super) limit: u32,
}

/// Asks and shows.
pub(super) async fn stats(context: &Context, words: &Words<'_>, json: bool) -> Result<(), Failure> {
    // Up to the second, so that what has just ended counts.
    let now = Timestamp::from_second(Timestamp::now().as_second() + 1).map_err(Failure::operation)?;
    let span = read(words, now).map_err(|problems| Failure::Arguments(problems.join("\n")))?;
    let stretch = stretch(&span);
    let mut session = context.session().await?;
    let limit = i64::from(words.limit);
    let (all, mut tenants) =
        delivery_stats::by_tenant(&mut session, &span, limit + 1, true).await.map_err(failed(context))?;
    let failures = delivery_stats::failures(&mut session, &span, KINDS).await.map_err(failed(context))?;
    #[expect(clippy::cast_precision_loss, reason = "at most 30 days in seconds")]
    let seconds = stretch.1 as f64;
    let over_time = delivery_stats::over_time(&mut session, &span, seconds).await.map_err(failed(context))?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = tenants.len() > shown;
    tenants.truncate(shown);
    let stats = Stats { span, all, tenants, failures, stretch, over_time };
    if json {
        stats.lines()?;
    } else {
        output::data(&stats.text(terminal_width()))?;
    }
    if has_more {
        output::message(&format!("these are the {shown} busiest tenants of more: see --limit"));
    }
    Ok(())
}

fn read(words: &Words<'_>, now: Timestamp) -> Result<Span, Vec<String>> {
    let mut problems = Vec::new();
    let mut point = |option: &str, text: &str| match time::parse(text, now) {
        Ok(time) => time,
        Err(problem) => {
            problems.push(format!("{option} {problem}"));
            now
        }
    };
    let since = point("--since", words.since);
    let until = words.until.map_or(now, |text| point("--until", text));
    if problems.is_empty() && since >= until {
        problems.push(format!("--since {since} is not before --until {until}"));
    }
    match problems.is_empty() {
        true => Ok(Span { tenants: words.tenant.map(|tenant| vec![tenant.to_owned()]), since, until }),
        false => Err(problems),
    }
}

fn stretch(span: &Span) -> (&'static str, i64) {
    let seconds = span.until.duration_since(span.since).as_secs();
    let [.., longest] = STRETCHES;
    STRETCHES.into_iter().find(|(_, stretch)| seconds <= stretch * MOST_DOTS).unwrap_or(longest)
}

impl Stats {
    fn lines(&self) -> Result<(), Failure> {
        let Span { since, until, .. } = &self.span;
        let (since, until, success) = (since.to_string(), until.to_string(), self.all.counts.success());
        output::json(&Line::All { since, until, success, figures: &self.all })?;
        for figures in &self.tenants {
            output::json(&Line::Tenant { success: figures.counts.success(), figures })?;
        }
        self.failures.iter().try_for_each(|alike| output::json(&Line::Failure(alike)))?;
        self.over_time.iter().try_for_each(|stretch| {
            let after = SignedDuration::from_secs(stretch.number.saturating_mul(self.stretch.1));
            let since = self.span.since.checked_add(after).unwrap_or(self.span.since).to_string();
            output::json(&Line::Time { since, counts: &stretch.counts })
        })
    }

    fn text(&self, width: Option<u16>) -> String {
        let Span { since, until, .. } = &self.span;
        let took = span(until.duration_since(*since));
        let mut parts = vec![format!("{} to {} UTC, {took}", to_the_second(*since), to_the_second(*until))];
        parts.push(tenants(&self.all, &self.tenants, width));
        if !self.failures.is_empty() {
            parts.push(failures(&self.failures, self.span.until, width));
        }
        if !self.over_time.is_empty() {
            parts.push(self.dots());
        }
        parts.join("\n\n")
    }

    /// A line of dots for each status that there is, all of one scale.
    fn dots(&self) -> String {
        let seconds = self.span.until.duration_since(self.span.since).as_secs();
        let count = usize::try_from(seconds.saturating_add(self.stretch.1 - 1) / self.stretch.1).unwrap_or_default();
        let of_status = [
            ("delivered", (|counts| counts.delivered) as fn(&Counts) -> i64),
            ("failed", |counts| counts.failed),
            ("interrupted", |counts| counts.interrupted),
            ("skipped", |counts| counts.skipped),
        ];
        let most = |of: fn(&Counts) -> i64| self.over_time.iter().map(|one| of(&one.counts)).max().unwrap_or_default();
        let mut rows = vec![("each bar", self.stretch.0.to_owned())];
        for (status, of) in of_status {
            let most = most(of);
            if most > 0 {
                let mut values = vec![0; count];
                for one in &self.over_time {
                    if let Some(value) = usize::try_from(one.number).ok().and_then(|number| values.get_mut(number)) {
                        *value = of(&one.counts);
                    }
                }
                rows.push((status, format!("{}  at most {most}", sparkline(&values, most))));
            }
        }
        aligned(&rows)
    }
}

fn tenants(all: &OfTenant, tenants: &[OfTenant], width: Option<u16>) -> String {
    let mut table = Table::new();
    let header =
        ["tenant", "delivered", "failed", "inter-\nrupted", "skipped", "success", "p50\nms", "p95\nms", "p99\nms"];
    begin(&mut table, Row::from(header));
    if let Some(width) = width {
        table.set_width(width);
    }
    // Of one tenant the sum says nothing more.
    let sum = (tenants.len() != 1).then_some(all);
    for figures in tenants.iter().chain(sum) {
        table.add_row(row(figures));
    }
    finish(&mut table);
    if width.is_some() {
        cut(&mut table, &[0]);
    }
    table.trim_fmt()
}

fn row(figures: &OfTenant) -> Vec<Cell> {
    let OfTenant { tenant_id, counts, latency_us } = figures;
    let number = |value: String| Cell::new(value).set_alignment(CellAlignment::Right);
    let coloured = |value: i64, colour| match value {
        0 => number(value.to_string()),
        _ => number(value.to_string()).fg(colour),
    };
    let success = counts.success().map(|rate| format!("{:.1} %", rate * 100.0));
    let mut cells = vec![
        tenant_id.as_deref().map_or_else(|| Cell::new("all"), text),
        coloured(counts.delivered, Color::Green),
        coloured(counts.failed, Color::Red),
        coloured(counts.interrupted, Color::Yellow),
        number(counts.skipped.to_string()),
        number(or_absent(success)),
    ];
    let millis = |us: i32| (us.saturating_add(500) / 1000).to_string();
    let latency = latency_us.as_deref().unwrap_or_default();
    cells.extend((0..3).map(|at| number(latency.get(at).map_or_else(|| ABSENT.to_owned(), |us| millis(*us)))));
    cells
}

fn failures(alike: &[Alike], until: Timestamp, width: Option<u16>) -> String {
    let mut table = Table::new();
    begin(&mut table, Row::from(["failures", "failure", "http", "code", "host", "tenants", "latest"]));
    if let Some(width) = width {
        table.set_width(width);
    }
    for one in alike {
        let number = |value: i64| Cell::new(value).set_alignment(CellAlignment::Right);
        table.add_row([
            number(one.deliveries),
            Cell::new(&one.failure),
            Cell::new(or_absent(one.http_status)),
            text(one.response_error_code.as_deref().unwrap_or(ABSENT)),
            text(one.host.as_deref().unwrap_or(ABSENT)),
            number(one.tenants),
            Cell::new(format!("{} ago", span(until.duration_since(one.latest)))),
        ]);
    }
    finish(&mut table);
    if width.is_some() {
        cut(&mut table, &[3, 4]);
    }
    table.trim_fmt()
}

/// A bar a value, eight heights up to `most`; `·`: none.
fn sparkline(values: &[i64], most: i64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let bar = |value: &i64| match *value {
        0 => '·',
        value => {
            let height = (value.saturating_mul(8) + most - 1) / most.max(1);
            usize::try_from(height - 1).ok().and_then(|height| BARS.get(height)).copied().unwrap_or('█')
        }
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(since: &'a str, until: Option<&'a str>) -> Words<'a> {
        Words { tenant: None, since, until, limit: 20 }
    }

    #[test]
    fn a_span_is_cut_so_that_its_line_fits() {
        let now: Timestamp = "2026-04-22T10:00:00Z".parse().unwrap();
        for (since, unit) in [
            ("1h", "5 minutes"),
            ("24h", "an hour"),
            ("7d", "6 hours"),
            ("30d", "a day"),
            ("365d", "a week"),
            ("10y", "30 days"),
        ] {
            let span = read(&words(since, None), now).unwrap();
            assert_eq!(stretch(&span).0, unit, "{since}");
        }
    }

    #[test]
    fn every_fault_of_a_span_is_told_at_once() {
        let now = Timestamp::now();
        assert_eq!(read(&words("monday", Some("tuesday")), now).unwrap_err().len(), 2);
        assert!(read(&words("1h", Some("2h")), now).unwrap_err()[0].contains("is not before"));
    }

    #[test]
    fn a_bar_is_never_missing_and_never_too_high() {
        assert_eq!(sparkline(&[0, 1, 50, 100], 100), "·▁▄█");
        assert_eq!(sparkline(&[1, 2], 2), "▄█");
    }

    #[test]
    fn what_is_shown_fits_the_terminal() {
        let counts = Counts { delivered: 1_234_567, failed: 12, interrupted: 3, skipped: 45_678 };
        let latency_us = Some(vec![1_200, 230_400, 15_000_900]);
        let tenant = OfTenant { tenant_id: Some("a-tenant-with-quite-a-long-name".to_owned()), counts, latency_us };
        let all = OfTenant { tenant_id: None, ..tenant.clone() };
        let alike = Alike {
            failure: "http_status".to_owned(),
            http_status: Some(503),
            response_error_code: Some("SERVICE_UNAVAILABLE_FOR_NOW".to_owned()),
            host: Some("a-rather-long-name.of-a-host.example.com".to_owned()),
            deliveries: 12,
            tenants: 1,
            latest: Timestamp::UNIX_EPOCH,
        };
        for width in [80, 140] {
            let shown = [
                tenants(&all, std::slice::from_ref(&tenant), Some(width)),
                failures(std::slice::from_ref(&alike), Timestamp::UNIX_EPOCH, Some(width)),
            ];
            for line in shown.iter().flat_map(|table| table.lines()) {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
            assert!(
                shown[0].contains("1234567") && shown[0].contains("100.0 %") && shown[1].contains("503"),
                "{shown:?}"
            );
        }
    }
}
