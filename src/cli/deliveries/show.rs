//! `deliveries show`: one delivery, or every delivery of one event, with everything that is known; or where the event
//! stands that has none yet.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    cli::{Failure, context::Context, database::failed, fields::aligned, output},
    control::{hint::hint, meaning::meaning, time::span},
    store::{
        delivery_list::{self, Delivery, Ids, Waiting},
        endpoints,
    },
};

/// Digits of an id that name it at least.
const DIGITS: usize = 8;

/// How many of those that begin alike are named.
const NAMED: usize = 10;

/// Shows what `text` names.
pub(super) async fn show(context: &Context, text: &str, json: bool) -> Result<(), Failure> {
    let ids = parse(text).ok_or_else(|| Failure::Arguments(not_an_id(text)))?;
    let mut session = context.session().await?;
    // The outbox first: an event moves from there to the log, never back.
    let limit = i64::try_from(NAMED + 1).unwrap_or(i64::MAX);
    let waiting = delivery_list::waiting(&mut session, &ids, limit).await.map_err(failed(context))?;
    let found = delivery_list::find(&mut session, &ids, limit).await.map_err(failed(context))?;
    let mut events: Vec<Uuid> = found.iter().map(|d| d.event_id).chain(waiting.iter().map(|w| w.event_id)).collect();
    events.sort_unstable();
    events.dedup();
    if events.len() > 1 {
        return Err(ambiguous(text, &events));
    }
    if let Some(one) = found.first() {
        let all = delivery_list::of_event(&mut session, one).await.map_err(failed(context))?;
        let endpoint = endpoints::find(&mut session, &one.tenant_id).await.map_err(failed(context))?;
        return show_deliveries(&all, &ids, endpoint.and_then(|row| row.secret_set_at), json);
    }
    let Some(event) = waiting.first() else {
        return Err(Failure::Operation(format!(
            "no delivery and no event has the id {text}: it is neither in the log nor in the outbox"
        )));
    };
    if json {
        return output::json(event);
    }
    output::data(&aligned(&waiting_lines(event, Timestamp::now())))
}

/// What an id must be.
pub(super) fn not_an_id(text: &str) -> String {
    format!("{text:?} is no id: expected a UUID, or its first {DIGITS} digits or more")
}

/// A UUID, or its first digits; where the hyphens stand is no matter.
pub(super) fn parse(text: &str) -> Option<Ids> {
    let digits = text.trim().replace('-', "");
    if !(DIGITS..=32).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let whole = |digits: &str| u128::from_str_radix(digits, 16).ok().map(Uuid::from_u128);
    Some(Ids { first: whole(&format!("{digits:0<32}"))?, last: whole(&format!("{digits:f<32}"))? })
}

fn ambiguous(text: &str, events: &[Uuid]) -> Failure {
    let named: Vec<_> = events.iter().take(NAMED).map(Uuid::to_string).collect();
    let more = if events.len() > NAMED { "\n…" } else { "" };
    Failure::Operation(format!("several ids begin with {text}, of these events:\n{}{more}", named.join("\n")))
}

/// The delivery that was named; where the event was, all of its deliveries.
fn show_deliveries(all: &[Delivery], ids: &Ids, secret_set_at: Option<Timestamp>, json: bool) -> Result<(), Failure> {
    let is_named = all.iter().any(|delivery| ids.contain(delivery.delivery_id));
    let shown = all.iter().filter(|delivery| !is_named || ids.contain(delivery.delivery_id));
    for (at, delivery) in shown.enumerate() {
        if json {
            output::json(delivery)?;
            continue;
        }
        if at > 0 {
            output::data("")?;
        }
        let others = all.iter().filter(|other| is_named && other.delivery_id != delivery.delivery_id);
        let mut lines = delivery_lines(delivery, &others.collect::<Vec<_>>());
        if let Some(hint) = hint(delivery, secret_set_at) {
            // Below the error, or the meaning.
            let at = lines.iter().rposition(|(key, _)| ["meaning", "error"].contains(key)).map_or(0, |at| at + 1);
            lines.insert(at, ("hint", hint));
        }
        output::data(&aligned(&lines))?;
    }
    Ok(())
}

/// A key and its value; a value that is absent is left out.
type Line = (&'static str, String);

fn delivery_lines(delivery: &Delivery, others: &[&Delivery]) -> Vec<Line> {
    let Delivery { event, event_id, sent_at, finished_at, queued_at, .. } = delivery;
    let after = |time: &Timestamp, before: &Timestamp| span(time.duration_since(*before));
    let detail = delivery.failure.as_deref().or(delivery.reason.as_deref());
    let values = [
        ("delivery", Some(delivery.delivery_id.to_string())),
        (
            "status",
            Some([Some(delivery.status.as_str()), detail].into_iter().flatten().collect::<Vec<_>>().join(" / ")),
        ),
        ("meaning", meaning(delivery, Timestamp::now()).map(str::to_owned)),
        ("error", delivery.error.clone()),
        ("event", Some(format!("{event}, {event_id}"))),
        ("tenant", Some(delivery.tenant_id.clone())),
        ("lead", Some(delivery.lead_id.clone())),
        ("destination", delivery.host.as_ref().map(|host| destination(host, delivery))),
        ("answer", delivery.http_status.map(|code| answer(code, delivery))),
        ("excerpt", delivery.response_excerpt.clone()),
        ("captured", delivery.captured_at.map(|time| time.to_string())),
        ("last talked", delivery.last_conversation_at.map(|time| format!("{time}, before the silence"))),
        ("queued", Some(format!("{queued_at}, {} ago", after(&Timestamp::now(), queued_at)))),
        ("sent", sent_at.map(|time| format!("{time}, {} after it was queued", after(&time, queued_at)))),
        ("finished", Some(format!("{finished_at}, {} after it was queued", after(finished_at, queued_at)))),
        ("timing", timing(delivery)),
        ("test", delivery.is_test.then(|| "yes: fired by `lead-webhook test`".to_owned())),
        ("redelivery", delivery.redelivery_of.map(|first| format!("of {first}"))),
        ("same event", (!others.is_empty()).then(|| named(others))),
        ("daemon", delivery.instance_id.map(|id| format!("instance {id}"))),
    ];
    values.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn destination(host: &str, delivery: &Delivery) -> String {
    let port = delivery.port.map_or_else(String::new, |port| format!(":{port}"));
    let address = delivery.address.map_or_else(String::new, |address| format!(" at {address}"));
    format!("{host}{port}{address}")
}

fn answer(code: i16, delivery: &Delivery) -> String {
    let length = delivery.response_length.map(|bytes| format!("{bytes} bytes"));
    let word = delivery.response_error_code.as_ref().map(|word| format!("error code {word}"));
    let parts = [Some(code.to_string()), delivery.response_content_type.clone(), length, word];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Each phase that was measured. Neither DNS nor a handshake with an answer: the connection was kept from before.
fn timing(delivery: &Delivery) -> Option<String> {
    let millis = |us: i32| format!("{:.1} ms", f64::from(us) / 1000.0);
    let Delivery { dns_us, connect_us, first_byte_us, total_us, http_status, .. } = delivery;
    total_us.as_ref()?;
    let kept = (connect_us.is_none() && http_status.is_some()).then(|| "kept connection".to_owned());
    let parts = [
        dns_us.map(|us| format!("DNS {}", millis(us))),
        connect_us.map(|us| format!("connect and TLS {}", millis(us))),
        kept,
        first_byte_us.map(|us| format!("answer after {}", millis(us))),
        total_us.map(|us| format!("total {}", millis(us))),
    ];
    Some(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn named(others: &[&Delivery]) -> String {
    others.iter().map(|other| format!("{} {}", other.delivery_id, other.status)).collect::<Vec<_>>().join(", ")
}

fn waiting_lines(waiting: &Waiting, now: Timestamp) -> Vec<Line> {
    let ago = |time: Timestamp| format!("{time}, {} ago", span(now.duration_since(time).max(SignedDuration::ZERO)));
    let in_flight = waiting.claimed_by.is_some();
    let meaning = match (in_flight, waiting.host.is_some()) {
        (false, _) => "No daemon has claimed it yet.",
        (true, true) => "A daemon has claimed it and makes its attempt; the log row comes with the outcome.",
        (true, false) => {
            "It is claimed by a daemon that is not there any more: another one logs it as interrupted within a minute."
        }
    };
    let daemon = waiting.claimed_by.map(|id| match (&waiting.host, waiting.process_id) {
        (Some(host), Some(process)) => format!("instance {id}, process {process} on {host}"),
        _ => format!("instance {id}"),
    });
    let values = [
        ("event", Some(waiting.event_id.to_string())),
        ("status", Some(waiting.status.replace('_', " "))),
        ("meaning", Some(meaning.to_owned())),
        ("decided", waiting.event.clone()),
        ("trigger", Some(format!("saw {}, the endpoint was {}", waiting.kind, on_or_off(waiting.was_enabled)))),
        ("tenant", Some(waiting.tenant_id.clone())),
        ("lead", Some(waiting.lead_id.clone())),
        ("queued", Some(ago(waiting.queued_at))),
        ("claimed", waiting.claimed_at.map(ago)),
        ("delivery", waiting.delivery_id.map(|id| id.to_string())),
        ("daemon", daemon),
        ("last seen", waiting.renewed_at.map(ago)),
    ];
    values.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
}

fn on_or_off(is_on: bool) -> &'static str {
    if is_on { "on" } else { "off" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        Delivery {
            delivery_id: Uuid::from_u128(1),
            event_id: Uuid::from_u128(2),
            tenant_id: "acme".to_owned(),
            lead_id: "l\x1b1".to_owned(),
            event: "lead.created".to_owned(),
            status: "failed".to_owned(),
            failure: Some("http_status".to_owned()),
            reason: None,
            http_status: Some(503),
            error: None,
            response_content_type: Some("text/html".to_owned()),
            response_length: Some(162),
            response_error_code: None,
            response_excerpt: None,
            host: Some("crm.example.com".to_owned()),
            port: Some(443),
            address: Some("192.0.2.1".parse().unwrap()),
            captured_at: None,
            queued_at: time("2026-04-22T10:15:00Z"),
            sent_at: Some(time("2026-04-22T10:15:02.1Z")),
            finished_at: time("2026-04-22T10:15:02.34Z"),
            dns_us: None,
            connect_us: None,
            first_byte_us: Some(200_000),
            total_us: Some(240_040),
            is_test: false,
            redelivery_of: None,
            instance_id: None,
            last_conversation_at: None,
        }
    }

    #[test]
    fn an_id_is_a_uuid_or_its_first_eight_digits_or_more() {
        let id = Uuid::parse_str("0c5be0b2-0c83-4f6c-9d9e-94b2a3f3d8f1").unwrap();
        for text in ["0c5be0b2-0c83-4f6c-9d9e-94b2a3f3d8f1", "0C5BE0B20C834F6C9D9E94B2A3F3D8F1"] {
            assert_eq!(parse(text), Some(Ids { first: id, last: id }));
        }
        for text in ["0c5be0b2", "0c5be0b2-", "0c5be0b2-0c83-4"] {
            let ids = parse(text).unwrap();
            assert!(ids.contain(id) && ids.first < id && id < ids.last, "{text}");
        }
        for text in ["", "0c5be0b", "0c5be0bz", "0c5be0b2-0c83-4f6c-9d9e-94b2a3f3d8f1a", "०c5be0b2"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_refusal_after_another_secret_was_generated_points_to_that() {
        let set_at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let refused = Delivery { http_status: Some(401), ..delivery() };
        let said = hint(&refused, set_at("2026-04-22T10:10:00Z")).unwrap();
        assert!(said.contains("generated 5m 2s before"), "{said}");
        for (one, secret_set_at) in [
            (refused.clone(), set_at("2026-04-22T10:20:00Z")),
            (refused.clone(), set_at("2026-04-01T10:00:00Z")),
            (refused, None),
            (delivery(), set_at("2026-04-22T10:10:00Z")),
        ] {
            assert_eq!(hint(&one, secret_set_at), None);
        }
        let limited = Delivery { http_status: Some(429), ..delivery() };
        assert!(hint(&limited, None).unwrap().contains("redeliver"));
    }

    #[test]
    fn a_delivery_is_shown_with_its_meaning_its_phases_and_nothing_that_steers_the_terminal() {
        let shown = format!("{:?}", delivery_lines(&delivery(), &[]));
        for part in [
            "failed / http_status",
            "did not take it",
            "503, text/html, 162 bytes",
            "crm.example.com:443 at 192.0.2.1",
            "2.1 s after it was queued",
            "kept connection, answer after 200.0 ms, total 240.0 ms",
        ] {
            assert!(shown.contains(part), "{part} is missing in:\n{shown}");
        }
        assert!(!shown.contains('\x1b') && !shown.contains("redelivery"), "{shown}");
    }

    #[test]
    fn json_has_the_columns_of_the_table_in_its_order() {
        let schema = include_str!("../../../migrations/V1__tables.sql");
        let table = schema.split("CREATE TABLE lead_webhook.deliveries (").nth(1).unwrap();
        let columns = table.lines().map(str::trim).filter(|line| !line.is_empty());
        let columns: Vec<_> = columns.map_while(|line| (!line.starts_with("CONSTRAINT")).then_some(line)).collect();
        let names: Vec<_> = columns
            .iter()
            .filter_map(|line| line.split_whitespace().next())
            .filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            .collect();
        let json = serde_json::to_value(delivery()).unwrap();
        assert_eq!(json.as_object().unwrap().keys().collect::<Vec<_>>(), names);
        assert_eq!(json["sent_at"], "2026-04-22T10:15:02.1Z");
        assert_eq!(json["reason"], serde_json::Value::Null);
    }
}
