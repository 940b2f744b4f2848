//! What is promised of bodies and headers holds for any value, not only for those that somebody thought of. Pure: the
//! library's own functions, and what they should give worked out a second time.

use lead_webhook::{
    delivery::{headers::CustomHeaders, template::Template},
    event::{Event, EventKind},
};
use proptest::{
    collection::{btree_map, vec},
    option,
    prelude::*,
};
use serde_json::{Map, Value};
use uuid::Uuid;

/// What stands in place of a value in a template.
const PLACEHOLDERS: [&str; 9] = [
    "event",
    "tenantId",
    "leadId",
    "email",
    "phone",
    "firstName",
    "conversationId",
    "capturedAt",
    "lastConversationAt",
];

fn settings() -> ProptestConfig {
    // A failure is told with the value that it shrank to; no file is left behind. PROPTEST_CASES asks for more of them.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A template, as it is meant.
#[derive(Debug, Clone)]
enum Meant {
    Other(Value),
    Text(Vec<Piece>),
    Array(Vec<Meant>),
    Object(Vec<(String, Meant)>),
}

#[derive(Debug, Clone)]
enum Piece {
    Literal(String),
    Placeholder(usize),
}

/// Anything that a visitor may type, what means something to JSON and to templates more often.
fn typed() -> impl Strategy<Value = String> {
    let telling = prop::sample::select(vec![
        "\"",
        "\\",
        "\"},{\"",
        "{{email}}",
        "{{",
        "}}",
        "\\u0022",
        "\r\n",
        "\0",
        "\u{2028}",
        "\u{feff}",
        "</script>",
        "",
        " ",
        "\t",
        "\u{a0}",
        "null",
        "]",
        ",",
    ]);
    let piece = prop_oneof![telling.prop_map(str::to_owned), any::<String>(), "[a-z@.]{0,8}"];
    vec(piece, 0..4).prop_map(|pieces| pieces.concat())
}

/// Literal text of a template: `{{` would begin a placeholder.
fn literal() -> impl Strategy<Value = String> {
    typed().prop_map(|text| text.replace('{', "("))
}

fn meant() -> impl Strategy<Value = Meant> {
    let piece = prop_oneof![
        2 => (0..PLACEHOLDERS.len()).prop_map(Piece::Placeholder),
        1 => literal().prop_map(Piece::Literal),
        1 => "[ \t\u{a0}]{0,2}".prop_map(Piece::Literal),
    ];
    let other = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        literal().prop_map(Value::from),
    ];
    let leaf = prop_oneof![1 => other.prop_map(Meant::Other), 3 => vec(piece, 1..4).prop_map(Meant::Text)];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Meant::Array),
            btree_map(literal(), inner, 0..6).prop_map(|members| Meant::Object(members.into_iter().collect())),
        ]
    })
}

fn event() -> impl Strategy<Value = Event> {
    let absent_or_typed = || option::of(typed());
    let values =
        (typed(), typed(), absent_or_typed(), absent_or_typed(), absent_or_typed(), absent_or_typed(), any::<bool>());
    values.prop_map(|(tenant_id, lead_id, email, phone, first_name, conversation_id, came_back)| Event {
        event_id: Uuid::nil(),
        kind: if came_back { EventKind::ReEngaged } else { EventKind::Created },
        tenant_id,
        lead_id,
        email,
        phone,
        first_name,
        conversation_id,
        captured_at: "2026-04-22T10:15:00.5Z".parse().unwrap(),
        last_conversation_at: came_back.then(|| "2026-03-01T09:00:00Z".parse().unwrap()),
    })
}

/// The value of one placeholder, as the specification has it.
fn value(event: &Event, placeholder: usize) -> String {
    let came_back = event.kind == EventKind::ReEngaged;
    let optional = |value: &Option<String>| value.clone().unwrap_or_default();
    match PLACEHOLDERS[placeholder] {
        "event" => if came_back { "lead.re_engaged" } else { "lead.created" }.to_owned(),
        "tenantId" => event.tenant_id.clone(),
        "leadId" => event.lead_id.clone(),
        "email" => optional(&event.email),
        "phone" => optional(&event.phone),
        "firstName" => optional(&event.first_name),
        "conversationId" => optional(&event.conversation_id),
        "capturedAt" => "2026-04-22T10:15:00.500Z".to_owned(),
        _ => if came_back { "2026-03-01T09:00:00.000Z" } else { "" }.to_owned(),
    }
}

impl Meant {
    /// The template's text, as a tenant would save it.
    fn template(&self) -> Value {
        self.filled_in(&|placeholder| format!("{{{{ {} }}}}", PLACEHOLDERS[placeholder]), &|_, _| true)
    }

    /// The body that is to come of it.
    fn body(&self, event: &Event, omit_empty: bool) -> Value {
        let kept = |meant: &Self, is_element: bool| {
            let is_empty = meant.is_empty_for(event) || is_element && meant.is_hollow_for(event);
            !(omit_empty && is_empty)
        };
        self.filled_in(&|placeholder| value(event, placeholder), &kept)
    }

    fn filled_in(&self, value: &impl Fn(usize) -> String, kept: &impl Fn(&Self, bool) -> bool) -> Value {
        match self {
            Self::Other(other) => other.clone(),
            Self::Text(pieces) => pieces.iter().map(|piece| piece.text(value)).collect::<String>().into(),
            Self::Array(elements) => {
                let elements = elements.iter().filter(|element| kept(element, true));
                elements.map(|element| element.filled_in(value, kept)).collect()
            }
            Self::Object(members) => {
                let members = members.iter().filter(|(_, member)| kept(member, false));
                members.map(|(key, member)| (key.clone(), member.filled_in(value, kept))).collect::<Map<_, _>>().into()
            }
        }
    }

    /// An object with placeholders, of all of which nothing comes.
    fn is_hollow_for(&self, event: &Event) -> bool {
        let mut strings = Vec::new();
        self.strings_into(&mut strings);
        let with_placeholder =
            |meant: &&&Self| matches!(meant, Self::Text(pieces) if pieces.iter().any(Piece::is_placeholder));
        let mut of_placeholders = strings.iter().filter(with_placeholder).peekable();
        matches!(self, Self::Object(_))
            && of_placeholders.peek().is_some()
            && of_placeholders.all(|meant| meant.is_empty_for(event))
    }

    fn strings_into<'a>(&'a self, strings: &mut Vec<&'a Self>) {
        match self {
            Self::Other(_) => {}
            Self::Text(_) => strings.push(self),
            Self::Array(elements) => elements.iter().for_each(|element| element.strings_into(strings)),
            Self::Object(members) => members.iter().for_each(|(_, member)| member.strings_into(strings)),
        }
    }

    /// A string of placeholders only, white space aside, of which nothing comes.
    fn is_empty_for(&self, event: &Event) -> bool {
        let Self::Text(pieces) = self else { return false };
        let has_placeholder = pieces.iter().any(Piece::is_placeholder);
        let is_blank = |piece: &Piece| piece.text(&|placeholder| value(event, placeholder)).trim().is_empty();
        has_placeholder && pieces.iter().all(is_blank)
    }
}

impl Piece {
    fn is_placeholder(&self) -> bool {
        matches!(self, Self::Placeholder(_))
    }

    fn text(&self, value: &impl Fn(usize) -> String) -> String {
        match self {
            Self::Literal(literal) => literal.clone(),
            Self::Placeholder(placeholder) => value(*placeholder),
        }
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn no_value_changes_the_shape_of_a_body_or_leaves_its_string(
        (meant, event) in (meant(), event()),
        omit_empty: bool,
    ) {
        let template = Template::parse(&meant.template().to_string()).unwrap();
        let body: Value = serde_json::from_slice(&template.render(&event, omit_empty).unwrap()).unwrap();
        prop_assert_eq!(body, meant.body(&event, omit_empty));
    }

    #[test]
    fn what_can_be_saved_can_be_rendered(
        meant in meant(),
        (place, removed) in (any::<prop::sample::Index>(), 0..3_usize),
        inserted in r#"[\[\]{}",:\\ ]|\{\{|\}\}|\{\{phone\}\}|"\{\{email\}\}",|"a":|[0-9.eE+-]|null|\\u[0-9a-fD]{4}|"#,
        event in event(),
        omit_empty: bool,
    ) {
        // A template in which somebody's finger slipped.
        let mut text: Vec<char> = meant.template().to_string().chars().collect();
        let at = place.index(text.len());
        text.splice(at..(at + removed).min(text.len()), inserted.chars());
        if let Ok(template) = Template::parse(&text.into_iter().collect::<String>()) {
            let body = template.render(&event, omit_empty).unwrap();
            prop_assert!(serde_json::from_slice::<Value>(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
            prop_assert!(Template::parse(template.text()).is_ok());
        }
    }

    #[test]
    fn a_header_with_a_line_break_or_control_character_is_refused_wherever_it_stands(
        before in "[!-~]{0,8}",
        control in "[\0-\u{8}\n-\u{1f}\u{7f}-\u{9f}\u{2028}\u{2029}]|\r\n",
        after in "[!-~ ]{0,8}",
    ) {
        let dirty = format!("{before}{control}{after}");
        for line in [format!("X-Custom: {dirty}"), format!("X-{dirty}: value"), format!("{dirty}: value")] {
            prop_assert!(CustomHeaders::parse(&[&line], "X-Wilow").is_err(), "{line:?}");
        }
        // What is stored is checked as well.
        for pair in [["X-Custom", dirty.as_str()], [dirty.as_str(), "value"]] {
            let stored = serde_json::to_vec(&[pair]).unwrap();
            prop_assert!(CustomHeaders::from_json(&stored, "X-Wilow").is_err(), "{pair:?}");
        }
    }

    #[test]
    fn headers_that_are_accepted_are_lines_of_visible_ascii_and_come_back_as_they_were(
        lines in vec(prop_oneof![("[!-~]{1,8}", ":[ -~\t]{0,16}").prop_map(|(name, value)| name + &value), any::<String>()], 0..4),
    ) {
        let Ok(headers) = CustomHeaders::parse(&lines, "X-Wilow") else { return Ok(()) };
        for (name, value) in headers.iter() {
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'), "{name:?}");
            prop_assert!(value.expose().bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')), "{name:?}");
        }
        let again = CustomHeaders::from_json(headers.to_json().expose(), "X-Wilow");
        prop_assert!(again.is_ok_and(|again| again == headers));
    }
}
