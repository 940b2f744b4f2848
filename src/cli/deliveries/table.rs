//! The log as a table: whole where nobody looks at its width, in one line a delivery where the terminal is wide enough,
//! in two where it is not. What does not fit is cut with `…`; ids stay long enough for `deliveries show`. A terminal is told how
//! long ago each was; what is written elsewhere is read later.

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Row, Table, Width, presets,
};

use jiff::Timestamp;

use crate::{
    cli::fields::{printable, terminal_width},
    control::time::{age, to_the_second},
    store::delivery_list::Delivery,
};

/// Characters of a shortened id, ten digits. Two of them tell the hour (see `outbox::pick`): of a million deliveries of one
/// hour one in 4,300 agrees in them with another, and `show` says so then.
pub(super) const SHORT_ID: u16 = 11;

/// Blanks between two columns.
const GAP: u16 = 2;

/// Tenant, lead and host are cut to no less than this while another layout is left.
const LEAST: u16 = 12;

/// For an absent value: an empty cell would shift what a script splits.
pub(super) const ABSENT: &str = "-";

/// A table of `deliveries`, which are not empty.
pub(super) fn of(deliveries: &[Delivery]) -> String {
    let mut table = Table::new();
    fill(&mut table, deliveries, terminal_width(), Timestamp::now());
    table.trim_fmt()
}

fn fill(table: &mut Table, deliveries: &[Delivery], width: Option<u16>, now: Timestamp) {
    let whole = |d: &Delivery| d.delivery_id.to_string();
    let short = |d: &Delivery| cut_id(&whole(d), SHORT_ID);
    wide(table, deliveries, width.map(|_| now), &whole);
    if width.is_none_or(|width| widths(table).iter().sum::<u16>() <= width) {
        return;
    }
    wide(table, deliveries, width.map(|_| now), &short);
    if width.is_none_or(|width| least(table) <= width) {
        return cut(table, &WIDE_FLEXIBLE);
    }
    narrow(table, deliveries, now, &short);
    cut(table, &NARROW_FLEXIBLE);
}

/// Columns of [`wide`] that may be cut: tenant, lead, host.
const WIDE_FLEXIBLE: [usize; 3] = [1, 2, 6];

/// Columns of [`narrow`] that may be cut: tenant over lead, event over host.
const NARROW_FLEXIBLE: [usize; 2] = [1, 2];

/// `now`: a terminal's, which is told the ages.
fn wide(table: &mut Table, deliveries: &[Delivery], now: Option<Timestamp>, id: &dyn Fn(&Delivery) -> String) {
    let header = ["finished (UTC)", "tenant", "lead", "event", "status", "http", "host", "ms", "delivery"];
    begin(table, header.into_iter().chain(now.map(|_| "age")).collect::<Vec<_>>().into());
    for delivery in deliveries {
        let Delivery { tenant_id, lead_id, event, .. } = delivery;
        let mut row = Row::from([
            Cell::new(to_the_second(delivery.finished_at)),
            text(tenant_id),
            text(lead_id),
            Cell::new(event),
            status(delivery),
            Cell::new(or_absent(delivery.http_status)),
            text(delivery.host.as_deref().unwrap_or(ABSENT)),
            Cell::new(or_absent(millis(delivery))).set_alignment(CellAlignment::Right),
            Cell::new(id(delivery)),
        ]);
        if let Some(now) = now {
            row.add_cell(Cell::new(age(delivery.finished_at, now)).set_alignment(CellAlignment::Right));
        }
        table.add_row(row);
    }
    finish(table);
}

fn narrow(table: &mut Table, deliveries: &[Delivery], now: Timestamp, id: &dyn Fn(&Delivery) -> String) {
    begin(table, Row::from(["finished (UTC)\n  delivery, age", "tenant\nlead", "event\nhost", "status\nhttp, ms"]));
    for delivery in deliveries {
        let Delivery { tenant_id, lead_id, event, .. } = delivery;
        let mut first = Row::from([
            Cell::new(to_the_second(delivery.finished_at)),
            text(tenant_id),
            Cell::new(event),
            status(delivery),
        ]);
        let answer = format!("{} {} ms", or_absent(delivery.http_status), or_absent(millis(delivery)));
        let host = text(delivery.host.as_deref().unwrap_or(ABSENT));
        let named = format!("  {}, {}", id(delivery), age(delivery.finished_at, now));
        let second = [Cell::new(named), text(lead_id), host, Cell::new(answer)];
        let mut second = Row::from(second.map(|cell| cell.add_attribute(Attribute::Dim)));
        first.max_height(1);
        second.max_height(1);
        table.add_row(first).add_row(second);
    }
    finish(table);
}

/// An empty table with this header.
pub(super) fn begin(table: &mut Table, header: Row) {
    *table = Table::new();
    table.load_preset(presets::NOTHING).set_truncation_indicator("…").set_header(header);
}

/// Gaps between the columns.
pub(super) fn finish(table: &mut Table) {
    let last = table.column_iter().count().saturating_sub(1);
    for column in table.column_iter_mut() {
        let gap = if column.index == last { 0 } else { GAP };
        column.set_padding((0, gap));
    }
}

/// What each column takes, its gap included.
fn widths(table: &Table) -> Vec<u16> {
    let gaps = table.column_iter().map(comfy_table::Column::padding_width);
    table.column_max_content_widths().into_iter().zip(gaps).map(|(content, gap)| content.saturating_add(gap)).collect()
}

/// What the table takes with the flexible columns of [`wide`] at their least.
fn least(table: &Table) -> u16 {
    let least = |(at, width): (usize, u16)| if WIDE_FLEXIBLE.contains(&at) { width.min(LEAST + GAP) } else { width };
    widths(table).into_iter().enumerate().map(least).sum()
}

/// Lets only `flexible` columns give way, and no cell take a second line.
pub(super) fn cut(table: &mut Table, flexible: &[usize]) {
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if let Some(width) = terminal_width() {
        table.set_width(width);
    }
    let contents = table.column_max_content_widths();
    for (column, content) in table.column_iter_mut().zip(contents) {
        if !flexible.contains(&column.index) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(
                content.saturating_add(column.padding_width()),
            )));
        }
    }
    for row in table.row_iter_mut() {
        row.max_height(1);
    }
}

/// What somebody else has written.
pub(super) fn text(text: &str) -> Cell {
    Cell::new(printable(text))
}

/// The value, or that there is none.
pub(super) fn or_absent(value: Option<impl ToString>) -> String {
    value.map_or_else(|| ABSENT.to_owned(), |value| value.to_string())
}

/// How long the whole attempt took.
pub(super) fn millis(delivery: &Delivery) -> Option<i32> {
    delivery.total_us.map(|us| us.saturating_add(500) / 1000)
}

/// The status with its failure or reason, in its colour.
pub(super) fn status(delivery: &Delivery) -> Cell {
    let detail = delivery.failure.as_deref().or(delivery.reason.as_deref());
    let words = detail.map_or_else(|| delivery.status.clone(), |detail| format!("{} {detail}", delivery.status));
    let cell = Cell::new(words);
    match delivery.status.as_str() {
        "delivered" => cell.fg(Color::Green),
        "failed" => cell.fg(Color::Red),
        "interrupted" => cell.fg(Color::Yellow),
        _ => cell.add_attribute(Attribute::Dim),
    }
}

/// As much of an id as tells it from others.
pub(super) fn cut_id(id: &str, characters: u16) -> String {
    id.chars().take(characters.into()).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn delivery(status: &str, failure: Option<&str>, reason: Option<&str>) -> Delivery {
        let was_sent = status != "skipped";
        Delivery {
            delivery_id: Uuid::from_u128(0x0c5b_e0b2_0c83_4f6c_9d9e_94b2_a3f3_d8f1),
            event_id: Uuid::from_u128(2),
            tenant_id: "a-tenant-with-quite-a-long-name".to_owned(),
            lead_id: "8f14e45f-ceea-467f-a4b5-2c1d9b3e7a60".to_owned(),
            event: "lead.re_engaged".to_owned(),
            status: status.to_owned(),
            failure: failure.map(str::to_owned),
            reason: reason.map(str::to_owned),
            http_status: was_sent.then_some(503),
            error: None,
            response_content_type: None,
            response_length: None,
            response_error_code: None,
            response_excerpt: None,
            host: was_sent.then(|| "a-rather-long-name.of-a-host.example.com".to_owned()),
            port: was_sent.then_some(443),
            address: None,
            captured_at: None,
            queued_at: Timestamp::UNIX_EPOCH,
            sent_at: None,
            finished_at: Timestamp::UNIX_EPOCH,
            dns_us: None,
            connect_us: None,
            first_byte_us: None,
            total_us: was_sent.then_some(15_003_400),
            is_test: false,
            redelivery_of: None,
            instance_id: None,
            last_conversation_at: None,
        }
    }

    fn shown(width: Option<u16>) -> Vec<String> {
        let deliveries =
            [delivery("failed", Some("http_status"), None), delivery("skipped", None, Some("no_endpoint"))];
        let mut table = Table::new();
        fill(&mut table, &deliveries, width, "1970-01-03T01:00:00Z".parse().unwrap());
        if let Some(width) = width {
            table.set_width(width);
        }
        table.force_no_tty();
        table.trim_fmt().lines().map(str::to_owned).collect()
    }

    #[test]
    fn where_nobody_looks_at_the_width_nothing_is_cut() {
        let lines = shown(None);
        assert_eq!(lines.len(), 3);
        let words: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(words.len(), 11, "{words:?}");
        assert_eq!(words[10], "0c5be0b2-0c83-4f6c-9d9e-94b2a3f3d8f1");
        assert_eq!(lines[2].split_whitespace().count(), 11);
    }

    #[test]
    fn on_a_terminal_every_line_fits_and_the_id_is_long_enough_to_be_shown() {
        for (width, lines_each) in [(220, 1), (160, 1), (140, 1), (130, 1), (120, 2), (100, 2), (80, 2)] {
            let lines = shown(Some(width));
            assert_eq!(lines.len(), lines_each * 3, "{width}:\n{}", lines.join("\n"));
            for line in &lines {
                assert!(line.chars().count() <= usize::from(width), "{width}: {line}");
            }
            assert!(lines.iter().any(|line| line.contains("0c5be0b2")), "{width}");
            assert!(lines.iter().any(|line| line.contains("2d")), "{width}");
            for part in ["failed http_status", "skipped no_endpoint", "503", "15003"] {
                assert!(lines.iter().any(|line| line.contains(part)), "{width}: {part}");
            }
        }
    }
}
