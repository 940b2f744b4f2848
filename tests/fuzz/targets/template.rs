//! A template that parses can be rendered for any lead, and no value changes the body's shape.
#![no_main]

use arbitrary::Arbitrary;
use jiff::Timestamp;
use lead_webhook::{
    delivery::template::Template,
    event::{Event, EventKind},
};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use uuid::Uuid;

#[derive(Debug, Arbitrary)]
struct Input {
    template: String,
    tenant_id: String,
    lead_id: String,
    email: Option<String>,
    phone: Option<String>,
    first_name: Option<String>,
    conversation_id: Option<String>,
    is_re_engaged: bool,
    omit_empty: bool,
}

/// The rendered value stands where the template's stands, and what holds no placeholder is untouched.
fn has_the_shape(meant: &Value, rendered: &Value) -> bool {
    match (meant, rendered) {
        (Value::Object(meant), Value::Object(rendered)) => {
            meant.len() == rendered.len()
                && meant
                    .iter()
                    .zip(rendered)
                    .all(|((name, one), (same, other))| name == same && has_the_shape(one, other))
        }
        (Value::Array(meant), Value::Array(rendered)) => {
            meant.len() == rendered.len() && meant.iter().zip(rendered).all(|(one, other)| has_the_shape(one, other))
        }
        (Value::String(text), _) if text.contains("{{") => rendered.is_string() || rendered.is_null(),
        (one, other) => one == other,
    }
}

fuzz_target!(|input: Input| {
    let Ok(template) = Template::parse(&input.template) else { return };
    let event = Event {
        event_id: Uuid::nil(),
        kind: if input.is_re_engaged { EventKind::ReEngaged } else { EventKind::Created },
        tenant_id: input.tenant_id,
        lead_id: input.lead_id,
        email: input.email,
        phone: input.phone,
        first_name: input.first_name,
        conversation_id: input.conversation_id,
        captured_at: Timestamp::UNIX_EPOCH,
        last_conversation_at: input.is_re_engaged.then_some(Timestamp::UNIX_EPOCH),
    };
    let body = template.render(&event, input.omit_empty).unwrap();
    let rendered: Value = serde_json::from_slice(&body).expect("a body is JSON");
    if !input.omit_empty {
        let meant: Value = serde_json::from_str(template.text()).expect("a template is JSON");
        assert!(has_the_shape(&meant, &rendered), "{}", String::from_utf8_lossy(&body));
    }
});
