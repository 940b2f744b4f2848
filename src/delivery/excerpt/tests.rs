use std::time::Duration;

use super::*;
use crate::{
    delivery::payload::synthetic_event,
    egress::{Lists, Policy},
    event::EventKind,
    secret::SigningSecret,
};

const EMAIL: &str = "jürgen.o'neil+x@example.com";

/// Whether nothing of the value is left of an answer that holds it in this form.
fn hides(value: &str, form: &str) {
    let body = format!("<p>no such user: {form}, try again</p>");
    let excerpt = excerpt(body.as_bytes(), &[value]).unwrap();
    assert_eq!(excerpt, format!("<p>no such user: {BLANK}, try again</p>"), "{form}");
}

#[test]
fn a_sent_value_is_blanked_in_every_form_that_receivers_give_it() {
    for form in [
        EMAIL,
        "JÜRGEN.O'NEIL+X@EXAMPLE.COM",
        r"j\u00fcrgen.o\u0027neil+x@example.com",
        r"j\u00FCrgen.o\'neil\u002bx\u0040example.com",
        r"j\xfcrgen.o\x27neil+x@example.com",
        "j%C3%BCrgen.o%27neil%2Bx%40example.com",
        "j%c3%bcrgen.o'neil%2bx@example.com",
        "j%FCrgen.o'neil+x@example.com",
        "j&uuml;rgen.o&#39;neil+x@example.com",
        "j&#252;rgen.o&#x27;neil&#43;x&commat;example&period;com",
        "j&amp;uuml;rgen.o&amp;#39;neil+x@example.com",
        r"j\\u00fcrgen.o\u0026#39;neil+x@example.com",
        "j%26uuml%3Brgen.o%26%2339%3Bneil%2Bx%40example.com",
        // Byte by byte, and UTF-8 taken for Latin-1.
        r"j\xc3\xbcrgen.o\'neil+x@example.com",
        r"j\303\274rgen.o\'neil+x@example.com",
        "j=C3=BCrgen.o'neil+x=40example.com",
        "jÃ¼rgen.o'neil+x@example.com",
        // Without its marks, or with them as characters of their own.
        "jurgen.o'neil+x@example.com",
        "ju\u{308}rgen.o'neil+x@example.com",
    ] {
        hides(EMAIL, form);
    }
}

#[test]
fn what_is_encoded_is_blanked_as_a_whole() {
    for form in [
        "eyJlbWFpbCI6ImFubmFAZXhhbXBsZS5jb20ifQ",
        "ImFubmFAZXhhbXBsZS5jb20i",
        "mFubmFAZXhhbXBsZS5jb20ifQ",
        "616e6e61406578616d706c652e636f6d",
        "0616E6E61406578616D706C652E636F6D",
    ] {
        let excerpt = excerpt(format!("bad request ({form}), try again").as_bytes(), &["anna@example.com"]).unwrap();
        assert_eq!(excerpt, "bad request ([…]), try again", "{form}");
    }
    hides("Zoë Müller", "ICAiWm/DqyBNw7xsbGVyIg");
    hides("Zoë Müller", "ICAiWm_DqyBNw7xsbGVyIg");
    hides("Zoë Müller", "ICJab1x1MDBlYiBNXHUwMGZjbGxlciI");
    let credential = excerpt(b"login of apiuser failed: hunter2-pw is wrong", &["Basic YXBpdXNlcjpodW50ZXIyLXB3"]);
    assert_eq!(credential.unwrap(), "login of […] failed: […] is wrong");
    let id = "trace 4bf92f3577b34da6a3ce929d0e0e4736 of request MDAtNGJmOTJmMzU3N2IzNGRhNmEzY2U5MjlkMGUwZTQ3MzY=";
    assert_eq!(excerpt(id.as_bytes(), &["anna@example.com", "Jo", "5"]).unwrap(), id, "what says nothing of it stays");
}

#[test]
fn a_byte_that_is_not_utf_8_hides_nothing_of_the_rest() {
    assert_eq!(excerpt(b"hello Zo\xc3\xab M\xc3, caf\xe9", &["Zo\u{eb} M\u{fc}ller"]).unwrap(), "hello […] MÃ, café");
}

#[test]
fn other_values_are_blanked_as_well() {
    hides("Anna \"Nan\" O\\Neil", r#"Anna \"Nan\" O\\Neil"#);
    hides("Straße", "STRASSE");
    hides("Straße", "Stra&szlig;e");
    hides("😀 Kim", r"\ud83d\ude00 Kim");
    hides("Anna Maria", "anna+maria");
    hides("Jo", "jo");
    hides("5", "5");
}

#[test]
fn a_phone_number_is_blanked_in_any_grouping() {
    for form in ["+49 30 123456", "4930123456", "%2B4930123456", "+49 (30) 12-34-56", "+49.30.123.456"] {
        let excerpt = excerpt(format!("bad phone: {form}!").as_bytes(), &["+49 30 123456"]).unwrap();
        assert!(!excerpt.contains("12") && excerpt.ends_with("[…]!"), "{form}: {excerpt}");
    }
    assert!(!excerpt(b"bad phone: 030/123456", &["+49 30 123456"]).unwrap().contains("1234"));
}

#[test]
fn the_parts_of_a_value_are_blanked_where_they_stand_alone() {
    assert_eq!(
        excerpt(b"token s3cr3t of anna is unknown", &["Bearer s3cr3t", "anna@example.com"]).unwrap(),
        "token […] of […] is unknown"
    );
}

#[test]
fn values_that_a_template_puts_beside_other_characters_are_blanked_too() {
    let event = Event {
        email: Some("ann@example.com".to_owned()),
        phone: Some("+49 30 123456".to_owned()),
        first_name: Some("Jo".to_owned()),
        ..synthetic_event("acme", EventKind::Created)
    };
    let request = Request {
        url: Policy::new(Lists::default()).vet_url("https://example.com/hook").unwrap(),
        headers: [("Content-Type", "application/json"), ("Authorization", "Token token=s3cr3t,realm=\"crm\"")]
            .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
            .to_vec(),
        body: br#"{"text":"Lead <ann@example.com>, Jo/+49 30 123456 mailto:ann@example.com"}"#.to_vec(),
        secret: SigningSecret::generate().unwrap(),
        timeout: Duration::from_secs(1),
    };
    let answer = b"invalid s3cr3t in JSON: ann@example.com of Jo (030/123456), Joke";
    assert_eq!(of(answer, &request, &event).unwrap(), "invalid […] in JSON: […] of […] (03[…]), Joke");
}

#[test]
fn a_short_value_is_blanked_only_as_a_word() {
    assert_eq!(excerpt(b"Jo joined, id 5 of 55", &["jo", "5"]).unwrap(), "[…] joined, id […] of 55");
}

#[test]
fn other_encodings_hide_nothing() {
    assert_eq!(excerpt(b"hello J\xfcrgen", &["jürgen"]).unwrap(), "hello […]");
    let utf_16: Vec<u8> = "hello anna".encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(excerpt(&utf_16, &["anna"]).unwrap(), "hello […]");
    assert_eq!(excerpt("hello an\u{200b}na".as_bytes(), &["anna"]).unwrap(), "hello […]");
}

#[test]
fn a_value_that_the_end_of_the_answer_cuts_is_blanked_too() {
    assert_eq!(excerpt(b"no user anna@exa", &["anna@example.com"]).unwrap(), "no user […]");
    let long = format!("{}anna@example.com", "x".repeat(MAX_BODY - 6));
    assert!(!excerpt(long.as_bytes(), &["anna@example.com"]).unwrap().contains("anna"));
}

#[test]
fn an_excerpt_is_printable_and_short() {
    assert_eq!(excerpt(b"\x1b[31ma\r\n\t b\x00\x7f ", &[]).unwrap(), "[31ma b");
    assert_eq!(excerpt(b" \r\n", &[]), None);
    assert_eq!(excerpt(b"", &["a"]), None);
    assert_eq!(excerpt("aé".as_bytes().get(..2).unwrap(), &[]).unwrap(), "a");
    let long = excerpt("é".repeat(5000).as_bytes(), &[]).unwrap();
    assert_eq!(long.len(), MAX_BYTES);
    let blanks = excerpt("anna,".repeat(500).as_bytes(), &["anna"]).unwrap();
    assert!(blanks.len() <= MAX_BYTES && !blanks.contains("anna"));
}

#[test]
fn empty_values_and_too_many_values_are_safe() {
    assert_eq!(excerpt(b"text", &["", " ", "@"]).unwrap(), "text");
    assert_eq!(excerpt(b"text", &["x".repeat(MAX_SENT + 1).as_str()]), None);
}

#[test]
fn broken_escapes_are_text() {
    for text in ["\\", "%", "&", "%4", "%zz", "&;", "&#;", "&#x110000;", "\\u12", "\\ud800", "a & b; 5 % \\"] {
        assert_eq!(excerpt(text.as_bytes(), &["nothing"]).as_deref(), Some(text));
    }
}

#[test]
fn what_holds_values_without_end_is_blanked_as_a_whole() {
    let steps: String = (3..125).map(|length| "a".repeat(length)).collect::<Vec<_>>().join(" ");
    let body = format!("{} and more", "a".repeat(2000));
    assert_eq!(excerpt(body.as_bytes(), &[&steps]).unwrap(), BLANK);
}
