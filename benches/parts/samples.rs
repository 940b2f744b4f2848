//! What the parts are measured on: one tenant, one lead, bodies and templates of known sizes.

use std::time::Duration;

use jiff::Timestamp;
use lead_webhook::{
    delivery::{
        headers::CustomHeaders,
        request::{Endpoint, Identity},
        template::{MAX_BYTES, Placeholder, Template},
    },
    egress::{Lists, Policy},
    event::{Event, EventKind},
    keyring::KeyRing,
    secret::SigningSecret,
};
use uuid::Uuid;

/// The tenant of everything here.
pub(crate) const TENANT: &str = "8c1f5b6e-2f0e-4d43-9f6f-0f3c2a7f9e11";

/// A URL as receivers hand them out, with the credential in its path.
pub(crate) const URL: &str =
    "https://hooks.acme.com/services/T00000000/B00000000/aBcDeFgHiJkLmNoPqRsTuVwX?source=leads";

/// The submission of a form as HubSpot wants it, with 8 placeholders.
pub(crate) const CRM_TEMPLATE: &str = r#"{
  "fields": [
    {"objectTypeId": "0-1", "name": "email", "value": "{{email}}"},
    {"objectTypeId": "0-1", "name": "firstname", "value": "{{firstName}}"},
    {"objectTypeId": "0-1", "name": "phone", "value": "{{phone}}"},
    {"objectTypeId": "0-1", "name": "chat_lead_id", "value": "lead-{{leadId}}"},
    {"objectTypeId": "0-1", "name": "chat_conversation", "value": "{{conversationId}}"},
    {"objectTypeId": "0-1", "name": "chat_last_conversation", "value": "{{lastConversationAt}}"},
    {"objectTypeId": "0-1", "name": "chat_captured", "value": "{{capturedAt}}"}
  ],
  "context": {"pageUri": "https://www.acme.com/chat", "pageName": "Chat: {{event}}"},
  "legalConsentOptions": {"consent": {"consentToProcess": true, "text": "I agree to “Acme” storing my data."}}
}"#;

/// Placeholders in [`largest_template`].
const PLACEHOLDERS: usize = 500;

/// The longest template that may be saved, to a few bytes: [`PLACEHOLDERS`] members with one placeholder each.
pub(crate) fn largest_template() -> String {
    let mut members: Vec<String> = (0..PLACEHOLDERS)
        .zip(Placeholder::ALL.into_iter().cycle())
        .map(|(index, word)| format!("\"field_{index:03}\":\"Grüße an {{{{{word}}}}}\""))
        .collect();
    let room = MAX_BYTES - members.iter().map(|member| member.len() + 1).sum::<usize>() - 1;
    for member in &mut members {
        let quote = member.len() - 1;
        member.insert_str(quote, &"x".repeat(room / PLACEHOLDERS));
    }
    format!("{{{}}}", members.join(","))
}

/// A lead that says everything.
pub(crate) fn event(kind: EventKind) -> Event {
    Event {
        event_id: Uuid::nil(),
        kind,
        tenant_id: TENANT.into(),
        lead_id: "1b671a64-40d5-491e-99b0-da01ff1f3341".into(),
        email: Some("jürgen.müller@exämple.de".into()),
        phone: Some("+491234567890".into()),
        first_name: Some("Jürgen \"Jogi\"".into()),
        conversation_id: Some("conv_01HV9Z3J8K4T6Q2W5E7R9Y1U3I".into()),
        captured_at: "2026-04-22T10:15:00.123456Z".parse().unwrap(),
        last_conversation_at: Some("2026-03-01T09:00:00.5Z".parse().unwrap()),
    }
}

/// A lead that left only its address.
pub(crate) fn sparse_event() -> Event {
    Event {
        phone: None,
        first_name: None,
        conversation_id: None,
        last_conversation_at: None,
        ..event(EventKind::Created)
    }
}

/// A body of so many bytes; HMAC does not care which.
pub(crate) fn body(bytes: usize) -> Vec<u8> {
    b"{\"leadId\":\"1b671a64\"}".iter().copied().cycle().take(bytes).collect()
}

/// Always the same secret: the bytes 0 to 31.
pub(crate) fn secret() -> SigningSecret {
    SigningSecret::parse("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap()
}

/// So many custom headers, with values as long as tokens are.
pub(crate) fn headers(count: usize) -> CustomHeaders {
    let lines: Vec<String> = (0..count).map(|index| format!("X-Acme-Token-{index}: {}", "t0k3n-".repeat(8))).collect();
    CustomHeaders::parse(&lines, "X-Wilow").unwrap()
}

/// A key ring of one random key, from a key file: there is no other way to one.
pub(crate) fn ring() -> KeyRing {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys");
    KeyRing::write_new(&path).unwrap();
    KeyRing::read(&path).unwrap()
}

/// An endpoint at [`URL`].
pub(crate) fn endpoint(template: Option<&str>, header_count: usize) -> Endpoint {
    Endpoint {
        url: Policy::new(Lists::default()).vet_url(URL).unwrap(),
        secret: secret(),
        headers: headers(header_count),
        template: template.map(|text| Template::parse(text).unwrap()),
        omit_empty: false,
        timeout: Duration::from_secs(15),
    }
}

/// Ours, as configured by default.
pub(crate) fn identity() -> Identity {
    Identity { header_prefix: "X-Wilow".into(), user_agent: "lead-webhook/0.1.0".into() }
}

/// The time of every send, lest the timestamp's length matters.
pub(crate) fn sent_at() -> Timestamp {
    "2026-04-22T10:15:01Z".parse().unwrap()
}
