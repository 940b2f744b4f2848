//! What templates promise, whatever a visitor typed.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::*;
use crate::event::EventKind;

fn event() -> Event {
    Event {
        event_id: Uuid::nil(),
        kind: EventKind::Created,
        tenant_id: "t1".into(),
        lead_id: "l1".into(),
        email: Some("a@example.com".into()),
        phone: None,
        first_name: Some("Jürgen".into()),
        conversation_id: Some("c1".into()),
        captured_at: "2026-04-22T10:15:00Z".parse().unwrap(),
        last_conversation_at: None,
    }
}

fn render(text: &str, event: &Event) -> String {
    String::from_utf8(Template::parse(text).unwrap().render(event, false).unwrap()).unwrap()
}

fn render_omitting(text: &str, event: &Event) -> String {
    String::from_utf8(Template::parse(text).unwrap().render(event, true).unwrap()).unwrap()
}

fn faults(text: &str) -> Vec<String> {
    Template::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn every_placeholder_stands_for_its_value() {
    let all = Placeholder::ALL.map(|placeholder| format!("{{{{{placeholder}}}}}")).join("|");
    let re_engaged = Event {
        kind: EventKind::ReEngaged,
        phone: Some("+49".into()),
        last_conversation_at: Some("2026-03-01T09:00:00.1239Z".parse().unwrap()),
        ..event()
    };
    assert_eq!(
        render(&format!("\"{all}\""), &re_engaged),
        "\"lead.re_engaged|t1|l1|a@example.com|+49|Jürgen|c1|2026-04-22T10:15:00.000Z|2026-03-01T09:00:00.123Z\""
    );
}

#[test]
fn placeholders_stand_anywhere_in_strings_with_space_in_their_braces() {
    assert_eq!(
        render(r#"{"a": "x {{ firstName }}{{email}} y", "b": ["{{  phone }}", {"c": "{{leadId}}"}]}"#, &event()),
        r#"{"a":"x Jürgena@example.com y","b":["",{"c":"l1"}]}"#
    );
}

#[test]
fn what_the_lead_lacks_is_an_empty_string() {
    assert_eq!(render(r#"["{{phone}}","<{{lastConversationAt}}>"]"#, &event()), r#"["","<>"]"#);
}

#[test]
fn key_order_and_the_spelling_of_numbers_are_kept() {
    let text = r#" { "z" : 1.0 , "a" : [ 1e5 , 1E5 , 1E+05 , -0 , -0.0 , 0.10 , 123456789012345678901234567890 ] , "m" : { "y" : null , "b" : true , "$serde_json::private::Number" : "7" } } "#;
    assert_eq!(
        render(text, &event()),
        r#"{"z":1.0,"a":[1e5,1E5,1E+05,-0,-0.0,0.10,123456789012345678901234567890],"m":{"y":null,"b":true,"$serde_json::private::Number":"7"}}"#
    );
}

#[test]
fn any_document_may_be_a_template() {
    for (text, expected) in [
        ("\"{{email}}\"", "\"a@example.com\""),
        ("[]", "[]"),
        ("{ }", "{}"),
        (" 1.50 ", "1.50"),
        ("null", "null"),
        ("[[],{}]", "[[],{}]"),
        (r#"{"":""}"#, r#"{"":""}"#),
    ] {
        assert_eq!(render(text, &event()), expected, "{text}");
    }
}

#[test]
fn a_stray_end_of_a_placeholder_is_literal() {
    assert_eq!(
        render(r#"["}}","{","{ {email}}","{{email}}}}","}"]"#, &event()),
        r#"["}}","{","{ {email}}","a@example.com}}","}"]"#
    );
}

/// What visitors may type.
const HOSTILE: [&str; 13] = [
    "\"},\"x\":\"",
    "\\",
    "\\\"",
    "{{email}}",
    "{{leadId",
    "}}",
    "\u{2028}\u{2029}",
    "\0\u{1}\u{1f}\u{7f}\r\n\t",
    "</script><!--",
    "😀\u{fffd}\u{10ffff}",
    "\\u0022",
    " ",
    "",
];

#[test]
fn no_value_can_break_or_extend_the_document_or_be_expanded() {
    for value in HOSTILE {
        let lead = Event { email: Some(value.into()), first_name: Some(value.into()), ..event() };
        let body = render(r#"{"a":"{{email}}","b":"<{{email}}{{firstName}}>","c":["{{leadId}}"]}"#, &lead);
        let read: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(read, serde_json::json!({"a": value, "b": format!("<{value}{value}>"), "c": ["l1"]}), "{body}");
    }
}

#[test]
fn two_values_cannot_join_to_a_placeholder() {
    let lead = Event { email: Some("{{lead".into()), first_name: Some("Id}}".into()), ..event() };
    assert_eq!(render(r#""{{email}}{{firstName}}""#, &lead), r#""{{leadId}}""#);
}

#[test]
fn literals_are_escaped_as_well() {
    assert_eq!(
        render(r#"{"a\"\\\n":"\u00fc\"\\\/\u0000{{leadId}}\ud83d\ude00\u2028"}"#, &event()),
        "{\"a\\\"\\\\\\n\":\"ü\\\"\\\\/\\u0000l1😀\u{2028}\"}"
    );
}

#[test]
fn escaped_braces_are_braces() {
    assert_eq!(render(r#""\u007b\u007bleadId}}""#, &event()), r#""l1""#);
    assert_eq!(faults(r#"{"\u007b{leadId}}":1}"#).len(), 1);
}

#[test]
fn what_holds_only_empty_placeholders_is_omitted_on_request() {
    let text = r#"{"a":"{{phone}}","b":" {{phone}} {{lastConversationAt}}","c":"","d":["{{phone}}","{{email}}",""],"e":{"f":"{{phone}}"},"g":["{{phone}}"],"h":"+{{phone}}","i":null}"#;
    assert_eq!(render_omitting(text, &event()), r#"{"c":"","d":["a@example.com",""],"e":{},"g":[],"h":"+","i":null}"#);
    assert_eq!(
        render(text, &event()),
        r#"{"a":"","b":"  ","c":"","d":["","a@example.com",""],"e":{"f":""},"g":[""],"h":"+","i":null}"#
    );
}

#[test]
fn an_element_of_a_list_goes_as_a_whole_where_nothing_came_of_its_placeholders() {
    let phones = r#"{"phones":[{"value":"{{phone}}","label":"work"},{"of":{"x":["{{phone}}"]}},{"fixed":1},{"a":"{{email}}","b":"{{phone}}"}]}"#;
    assert_eq!(render_omitting(phones, &event()), r#"{"phones":[{"fixed":1},{"a":"a@example.com"}]}"#);
    // What has a text of its own is something; and what is no element stays.
    assert_eq!(render_omitting(r#"[{"a":"tel {{phone}}"}]"#, &event()), r#"[{"a":"tel "}]"#);
    assert_eq!(render_omitting(r#"[[{"a":"{{phone}}"}]]"#, &event()), "[[]]");
}

#[test]
fn a_blank_value_is_omitted_too_and_a_root_string_never() {
    let blank = Event { email: Some(" \t".into()), ..event() };
    assert_eq!(render_omitting(r#"["{{email}}"]"#, &blank), "[]");
    assert_eq!(render_omitting(r#""{{phone}}""#, &event()), r#""""#);
}

#[test]
fn an_unknown_placeholder_is_refused_with_the_nearest() {
    assert_eq!(
        faults("{\n  \"properties\": {\"first name\": \"{{firstname}}\", \"x\": [1, \"ü {{company}}\"]}}"),
        [
            "template: unknown placeholder `{{firstname}}` at `$.properties['first name']` (line 2, column 32): did you mean `{{firstName}}`?",
            "template: unknown placeholder `{{company}}` at `$.properties.x[1]` (line 2, column 58): there are event, tenantId, leadId, email, phone, firstName, conversationId, capturedAt, lastConversationAt",
        ]
    );
    assert_eq!(faults(r#""{{}}""#).len(), 1);
    assert_eq!(
        faults(r#""{{{email}}}""#),
        ["template: unknown placeholder at `$` (line 1, column 1): did you mean `{{email}}`?"]
    );
}

#[test]
fn an_unclosed_placeholder_is_refused() {
    assert_eq!(
        faults(r#"["{{email", "{{ phone } x", "{{a {{email}}", "{{"]"#),
        [
            "template: unclosed placeholder at `$[0]` (line 1, column 2): `{{` needs `}}` in the same string; did you mean `{{email}}`?",
            "template: unclosed placeholder at `$[1]` (line 1, column 13): `{{` needs `}}` in the same string; did you mean `{{phone}}`?",
            "template: unclosed placeholder at `$[2]` (line 1, column 29): `{{` needs `}}` in the same string",
            "template: unclosed placeholder at `$[3]` (line 1, column 46): `{{` needs `}}` in the same string",
        ]
    );
}

#[test]
fn a_placeholder_in_a_key_is_refused() {
    assert_eq!(
        faults(r#"{"a":{"{{email}}":1,"{{x":2}}"#),
        [
            "template: placeholder in the key of `$.a['{{email}}']` (line 1, column 7): placeholders may stand in values only",
            "template: placeholder in the key of `$.a['{{x']` (line 1, column 21): placeholders may stand in values only",
        ]
    );
}

#[test]
fn duplicate_keys_are_refused_however_they_are_spelled() {
    assert_eq!(
        faults(r#"{"a":1,"b":{"a":1},"\u0061":2,"c":[{"d":1,"d":1}]}"#),
        [
            "template: `$.a` (line 1, column 20) is there already: remove or rename one of the two",
            "template: `$.c[0].d` (line 1, column 43) is there already: remove or rename one of the two",
        ]
    );
}

#[test]
fn invalid_json_is_refused_with_its_place() {
    for (text, expected) in [
        ("", "line 1, column 1: EOF while parsing a value"),
        ("{\"a\":1,\n \"b\":2,}", "line 2, column 8: key must be a string; remove the comma before it"),
        ("{\"ü\":x}", "line 1, column 6: expected value"),
        ("[1, ]", "line 1, column 5: expected value; remove the comma before it"),
        ("[1] [2]", "line 1, column 5: trailing characters"),
        ("{'a':1}", "line 1, column 2: key must be a string"),
        ("[01]", "line 1, column 3: invalid number"),
        ("\"\\ud800\"", "`$` (line 1, column 1): unexpected end of hex escape"),
        (
            "{\"a\": {{email}}}",
            "line 1, column 8: key must be a string; a placeholder stands inside quotes: `\"{{email}}\"`",
        ),
        ("\u{feff}{}", "line 1, column 1: expected value; save it without a byte order mark"),
    ] {
        assert_eq!(faults(text), [format!("template: invalid JSON at {expected}")], "{text}");
    }
}

#[test]
fn unknown_placeholders_are_reported_beside_invalid_json() {
    assert_eq!(
        faults("{\"a\":{{\n{{mail}},\"b\":{\"c\":{{\"d\"}}"),
        [
            "template: invalid JSON at line 1, column 7: key must be a string; a placeholder stands inside quotes: `\"{{email}}\"`",
            "template: unknown placeholder `{{mail}}` at line 2, column 1: did you mean `{{email}}`?",
        ]
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let places: Vec<String> = faults(r#"{"a":"{{x}}{{y","a":["{{z}}"],"{{k}}":"{{w}}","\ud800":1}"#)
        .into_iter()
        .map(|fault| fault.split("column ").nth(1).unwrap().split(')').next().unwrap().to_owned())
        .collect();
    assert_eq!(places, ["6", "6", "17", "22", "31", "39", "47"]);
}

#[test]
fn limits_are_met_exactly() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Template::parse(&nested(MAX_DEPTH)).is_ok());
    let path = format!("${}", "[0]".repeat(MAX_DEPTH));
    assert_eq!(
        faults(&nested(MAX_DEPTH + 1)),
        [format!("template: `{path}` (line 1, column 65) is nested deeper than 64 levels")]
    );
    assert_eq!(faults(&nested(30_000)).len(), 1);
    let sized = |bytes: usize| format!("\"{}\"", "a".repeat(bytes - 2));
    assert!(Template::parse(&sized(MAX_BYTES)).is_ok());
    assert_eq!(faults(&sized(MAX_BYTES + 1)), ["template: 65537 bytes, at most 65536 are allowed"]);
}

#[test]
fn no_fault_and_no_debug_shows_what_the_template_says() {
    let secret = "s3cr3t/token";
    for text in [
        format!(r#"{{"a":"{secret}{{{{{secret}}}}}{{{{{secret}"}}"#),
        format!(r#"{{"a":"{secret}",}}"#),
        format!(r#"["{secret}\ud800"]"#),
    ] {
        let faults = Template::parse(&text).unwrap_err();
        assert!(!format!("{faults:?} {}", faults[0]).contains(secret), "{faults:?}");
    }
    let template =
        Template::parse(&format!(r#"{{"token":"{secret}","a":"{{{{phone}}}}{{{{email}}}}{{{{email}}}}"}}"#)).unwrap();
    assert_eq!(format!("{template:?}"), "Template { placeholders: [Email, Phone], .. }");
}

#[test]
fn of_thousands_of_faults_the_first_are_told_and_the_others_counted() {
    for (text, count) in [
        (format!("[{}1]", r#""{{","#.repeat(13_000)), 13_000),
        (format!("\"{}\"", "{{".repeat(32_000)), 32_000),
        (format!("{{{}\"a\":1}}", r#""a":1,"#.repeat(10_000)), 10_000),
        (format!("[{}", "\"{{x}}\"".repeat(9_000)), 9_001),
    ] {
        let told = faults(&text);
        assert_eq!(told.len(), MAX_FAULTS + 1);
        assert_eq!(told.last().unwrap(), &format!("template: and {} more", count - MAX_FAULTS));
    }
    assert_eq!(faults(&format!("\"{}\"", "{{".repeat(MAX_FAULTS))).len(), MAX_FAULTS);
}

#[test]
fn a_long_key_is_shown_cut() {
    let key = "k".repeat(100);
    assert!(faults(&format!(r#"{{"{key}":"{{{{x}}}}"}}"#))[0].contains(&format!("$['{}…']", "k".repeat(40))));
}

#[test]
fn the_text_is_kept_as_it_was_saved_and_placeholders_are_listed_once() {
    let text = " { \"a\" : \"{{ phone }}{{event}}{{phone}}\" } ";
    let template = Template::parse(text).unwrap();
    assert_eq!(template.text(), text);
    assert_eq!(template.placeholders(), [Placeholder::Event, Placeholder::Phone]);
}

/// Enough randomness for trees; the same in every run (xorshift64).
struct Random(u64);

/// What came of the placeholders in a part of a document: the most that came of any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Holds {
    /// There are none.
    Nothing,
    Blank,
    Something,
}

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % bound
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }

    /// A string of the template's with what it must become, and what came of its placeholders.
    fn string(&mut self, event: &Event) -> (String, String, Holds) {
        let (mut template, mut expected, mut used, mut literal) = (String::new(), String::new(), false, false);
        for _ in 0..self.below(4) {
            if self.below(2) == 0 {
                let placeholder = Placeholder::ALL[self.below(Placeholder::ALL.len())];
                template.push_str(&format!(
                    "{{{{{}{placeholder}{}}}}}",
                    self.pick(&["", " ", "\t"]),
                    self.pick(&["", " "])
                ));
                expected.push_str(&placeholder.value(event).unwrap_or_default());
                used = true;
            } else {
                let text = self.pick(&["x", "\"", "\\", "}}", " ", "ü😀", "\u{2028}", "\0", "\n", "}"]);
                template.push_str(text);
                expected.push_str(text);
                literal |= !text.trim().is_empty();
            }
        }
        let holds = match (used, literal || !expected.trim().is_empty()) {
            (false, _) => Holds::Nothing,
            (true, false) => Holds::Blank,
            (true, true) => Holds::Something,
        };
        (template, expected, holds)
    }

    /// A document, what it must become, and the same with `omit_empty` (`None`: left out).
    fn document(&mut self, event: &Event, depth: usize) -> (Value, Value, Option<Value>, Holds) {
        let fixed = |value: Value| (value.clone(), value.clone(), Some(value), Holds::Nothing);
        match self.below(if depth > 5 { 4 } else { 6 }) {
            0 => fixed(
                serde_json::from_str(self.pick(&["1.0", "1e5", "-0", "12345678901234567890123", "0.10"])).unwrap(),
            ),
            1 => fixed(serde_json::from_str(self.pick(&["null", "true", "false", "[]", "{}", "\"\""])).unwrap()),
            2 | 3 => {
                let (template, expected, holds) = self.string(event);
                let omitting = (holds != Holds::Blank).then(|| expected.clone().into());
                (template.into(), expected.into(), omitting, holds)
            }
            4 => {
                let items: Vec<_> = (0..self.below(5)).map(|_| self.document(event, depth + 1)).collect();
                let holds = items.iter().map(|item| item.3).max().unwrap_or(Holds::Nothing);
                let kept =
                    |item: &&(Value, Value, Option<Value>, Holds)| !(item.0.is_object() && item.3 == Holds::Blank);
                (
                    items.iter().map(|item| item.0.clone()).collect(),
                    items.iter().map(|item| item.1.clone()).collect(),
                    Some(items.iter().filter(kept).filter_map(|item| item.2.clone()).collect()),
                    holds,
                )
            }
            _ => {
                let (mut template, mut expected, mut omitting) = (Map::new(), Map::new(), Map::new());
                let mut holds = Holds::Nothing;
                for index in 0..self.below(5) {
                    let key = format!("{}{index}", self.pick(&["", "a", "\"", "\\", "ü", "}}", "\0", "{"]));
                    let (t, e, o, h) = self.document(event, depth + 1);
                    holds = holds.max(h);
                    template.insert(key.clone(), t);
                    expected.insert(key.clone(), e);
                    omitting.extend(o.map(|o| (key, o)));
                }
                (template.into(), expected.into(), Some(omitting.into()), holds)
            }
        }
    }
}

#[test]
fn a_rendered_template_is_its_own_tree_with_the_strings_replaced() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..3000 {
        let value = |random: &mut Random| (random.below(3) > 0).then(|| random.pick(&HOSTILE).to_owned());
        let lead = Event {
            email: value(&mut random),
            phone: value(&mut random),
            first_name: value(&mut random),
            conversation_id: value(&mut random),
            ..event()
        };
        let (template, expected, omitting, _) = random.document(&lead, 0);
        let text =
            if random.below(2) == 0 { template.to_string() } else { serde_json::to_string_pretty(&template).unwrap() };
        assert_eq!(render(&text, &lead), expected.to_string(), "{text}");
        let omitting = omitting.unwrap_or(expected);
        assert_eq!(render_omitting(&text, &lead), omitting.to_string(), "{text}");
    }
}
