//! The default body, the spelling of times, and the synthetic lead that Test sends.
//!
//! Knows nothing of templates: it is what a tenant gets who saved none.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use uuid::Uuid;

use crate::event::{Event, EventKind};

/// How long before now a synthetic re-engaged lead was captured: longer ago than its last conversation.
const SYNTHETIC_CAPTURE: SignedDuration = SignedDuration::from_hours(90 * 24);

/// How long a synthetic re-engaged lead has been silent: longer than the 30 days that count by default.
const SYNTHETIC_SILENCE: SignedDuration = SignedDuration::from_hours(45 * 24);

/// The body of a request without a template: compact UTF-8 JSON, keys in the order of the specification
/// (section 3), `null` for what the lead lacks. Only `lead.re_engaged` has `lastConversationAt`.
///
/// Receivers may rely on it byte for byte.
pub fn default_body(event: &Event) -> Vec<u8> {
    let body = DefaultBody {
        event: event.kind.as_str(),
        tenant_id: &event.tenant_id,
        lead_id: &event.lead_id,
        email: event.email.as_deref(),
        phone: event.phone.as_deref(),
        conversation_id: event.conversation_id.as_deref(),
        captured_at: format_time(event.captured_at),
        last_conversation_at: match event.kind {
            EventKind::Created => None,
            EventKind::ReEngaged => Some(event.last_conversation_at.map(format_time)),
        },
    };
    let Ok(json) = serde_json::to_vec(&body) else { unreachable!("strings and nulls are written to memory") };
    json
}

/// What [`default_body`] writes, in this order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DefaultBody<'a> {
    event: &'a str,
    tenant_id: &'a str,
    lead_id: &'a str,
    email: Option<&'a str>,
    phone: Option<&'a str>,
    conversation_id: Option<&'a str>,
    captured_at: String,
    /// `Some(None)` is written as `null`, `None` not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_conversation_at: Option<Option<String>>,
}

/// A time as bodies spell it: `2026-04-22T10:15:00.000Z`, that is UTC, exactly three decimals (cut, not rounded,
/// so that no time lies in the future) and `Z`. Years before 1 are written as RFC 9557 does, `-000043-…`.
pub fn format_time(time: Timestamp) -> String {
    format!("{time:.3}")
}

/// A lead that nobody left, for Test: no receiver has seen it before, and nobody can be reached by it.
///
/// The lead's id begins with `test_`, the address ends in `example.com` (RFC 2606), the phone number is one of
/// those that are reserved for fiction.
pub fn synthetic_event(tenant_id: &str, kind: EventKind) -> Event {
    let random = Uuid::new_v4();
    let id = random.simple().to_string();
    let line = random.as_u128() % 100;
    let now = Timestamp::now();
    let before = |age| now.checked_sub(age).unwrap_or(now);
    let (captured_at, last_conversation_at) = match kind {
        EventKind::Created => (now, None),
        EventKind::ReEngaged => (before(SYNTHETIC_CAPTURE), Some(before(SYNTHETIC_SILENCE))),
    };
    Event {
        event_id: Uuid::new_v4(),
        kind,
        tenant_id: tenant_id.to_owned(),
        lead_id: format!("test_{id}"),
        email: Some(format!("test-{id}@example.com")),
        phone: Some(format!("+120255501{line:02}")),
        first_name: Some("Alex".to_owned()),
        conversation_id: Some(format!("test_conversation_{}", Uuid::new_v4().simple())),
        captured_at,
        last_conversation_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> Event {
        Event {
            event_id: Uuid::nil(),
            kind,
            tenant_id: "t1".into(),
            lead_id: "l1".into(),
            email: Some("jürgen@exämple.de".into()),
            phone: Some("+491234567890".into()),
            first_name: Some("Jürgen".into()),
            conversation_id: Some("c1".into()),
            captured_at: "2026-04-22T10:15:00Z".parse().unwrap(),
            last_conversation_at: Some("2026-03-01T09:00:00.5Z".parse().unwrap()),
        }
    }

    fn body(event: &Event) -> String {
        String::from_utf8(default_body(event)).unwrap()
    }

    #[test]
    fn the_default_body_of_a_created_lead_is_exact_to_the_byte() {
        assert_eq!(
            body(&event(EventKind::Created)),
            r#"{"event":"lead.created","tenantId":"t1","leadId":"l1","email":"jürgen@exämple.de","phone":"+491234567890","conversationId":"c1","capturedAt":"2026-04-22T10:15:00.000Z"}"#
        );
    }

    #[test]
    fn only_a_re_engaged_lead_has_the_last_conversation_and_it_comes_last() {
        assert_eq!(
            body(&event(EventKind::ReEngaged)),
            r#"{"event":"lead.re_engaged","tenantId":"t1","leadId":"l1","email":"jürgen@exämple.de","phone":"+491234567890","conversationId":"c1","capturedAt":"2026-04-22T10:15:00.000Z","lastConversationAt":"2026-03-01T09:00:00.500Z"}"#
        );
    }

    #[test]
    fn what_the_lead_lacks_is_null() {
        let bare = Event {
            email: None,
            phone: None,
            conversation_id: None,
            last_conversation_at: None,
            ..event(EventKind::ReEngaged)
        };
        assert_eq!(
            body(&bare),
            r#"{"event":"lead.re_engaged","tenantId":"t1","leadId":"l1","email":null,"phone":null,"conversationId":null,"capturedAt":"2026-04-22T10:15:00.000Z","lastConversationAt":null}"#
        );
    }

    #[test]
    fn ids_stay_strings_and_hostile_values_stay_inside_theirs() {
        let hostile = Event {
            tenant_id: "42".into(),
            lead_id: "007".into(),
            email: Some("\"},\"x\":\"\\".into()),
            phone: Some("\0\u{1f}\u{7f}\n\t\u{2028}😀".into()),
            conversation_id: Some(String::new()),
            ..event(EventKind::Created)
        };
        assert_eq!(
            body(&hostile),
            "{\"event\":\"lead.created\",\"tenantId\":\"42\",\"leadId\":\"007\",\"email\":\"\\\"},\\\"x\\\":\\\"\\\\\",\
             \"phone\":\"\\u0000\\u001f\u{7f}\\n\\t\u{2028}😀\",\"conversationId\":\"\",\
             \"capturedAt\":\"2026-04-22T10:15:00.000Z\"}"
        );
    }

    #[test]
    fn times_are_cut_to_three_decimals_in_utc() {
        for (given, expected) in [
            ("2026-04-22T10:15:00Z", "2026-04-22T10:15:00.000Z"),
            ("2026-04-22T12:15:00.999999999+02", "2026-04-22T10:15:00.999Z"),
            ("2026-12-31T23:59:59.9996Z", "2026-12-31T23:59:59.999Z"),
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
            ("0033-04-03T15:00:00.0009Z", "0033-04-03T15:00:00.000Z"),
        ] {
            assert_eq!(format_time(given.parse().unwrap()), expected, "{given}");
        }
    }

    #[test]
    fn the_first_and_the_last_representable_time_can_be_written() {
        assert_eq!(format_time(Timestamp::MIN), "-009999-01-02T01:59:59.000Z");
        assert_eq!(format_time(Timestamp::MAX), "9999-12-30T22:00:00.999Z");
    }

    #[test]
    fn every_synthetic_lead_is_new_and_reaches_nobody() {
        let one = synthetic_event("t1", EventKind::Created);
        let other = synthetic_event("t1", EventKind::Created);
        assert_ne!(one.event_id, other.event_id);
        assert_ne!(one.lead_id, other.lead_id);
        assert_ne!(one.email, other.email);
        assert_ne!(one.conversation_id, other.conversation_id);
        assert!(one.lead_id.starts_with("test_"), "{}", one.lead_id);
        assert!(one.email.unwrap().ends_with("@example.com"));
        let phone = one.phone.unwrap();
        assert!(phone.len() == 12 && phone.starts_with("+120255501"), "{phone}");
        assert_eq!((one.first_name.as_deref(), one.last_conversation_at), (Some("Alex"), None));
    }

    #[test]
    fn a_synthetic_re_engaged_lead_was_captured_before_its_silence() {
        let event = synthetic_event("t1", EventKind::ReEngaged);
        let last = event.last_conversation_at.unwrap();
        assert!(event.captured_at < last && last < Timestamp::now());
    }
}
