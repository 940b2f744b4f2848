//! Headers that pass hold no line break or control character, are none of ours, and read the same after they were sealed.
#![no_main]

use lead_webhook::delivery::headers::CustomHeaders;
use libfuzzer_sys::fuzz_target;

const PREFIX: &str = "X-Acme";

fn check(headers: &CustomHeaders) {
    for (name, value) in headers.iter() {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'), "{name:?}");
        assert!(!name.to_ascii_lowercase().starts_with(&PREFIX.to_ascii_lowercase()), "{name:?}");
        let framing = ["host", "content-length", "transfer-encoding", "connection", "webhook-signature"];
        assert!(!framing.contains(&name.to_ascii_lowercase().as_str()), "{name:?}");
        let is_text = |c: char| c == '\t' || !c.is_control();
        assert!(value.expose().chars().all(is_text), "{:?}", value.expose());
    }
}

fuzz_target!(|text: &str| {
    let lines: Vec<&str> = text.split('\u{1}').collect();
    if let Ok(headers) = CustomHeaders::parse(&lines, PREFIX) {
        check(&headers);
        let again = CustomHeaders::from_json(headers.to_json().expose(), PREFIX).expect("what passed passes again");
        let pairs = |headers: &CustomHeaders| -> Vec<(String, String)> {
            headers.iter().map(|(name, value)| (name.to_owned(), value.expose().clone())).collect()
        };
        assert_eq!(pairs(&again), pairs(&headers));
    }
    // What is stored is held to the same.
    if let Ok(headers) = CustomHeaders::from_json(text.as_bytes(), PREFIX) {
        check(&headers);
    }
});
