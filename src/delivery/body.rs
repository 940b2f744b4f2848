//! The body of a request: what the tenant's template makes of a lead, or the default one.

use super::{payload::default_body, template::Template};
use crate::event::Event;

/// The longest body that a template makes, in bytes. A lead's values are the visitor's own, and a template may repeat them:
/// without a limit one tenant's leads could take all of the memory, and of the time. The default body has each of them once.
pub const MAX_BYTES: usize = 1024 * 1024;

/// A template's body beyond [`MAX_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("with this lead's values the template makes a body of more than 1 MiB, which is not sent")]
pub struct TooLong;

/// The body for `event`; `template` is `None` for the default one.
///
/// # Errors
/// [`TooLong`]; the tenant must act.
pub fn of(event: &Event, template: Option<&Template>, omit_empty: bool) -> Result<Vec<u8>, TooLong> {
    match template {
        Some(template) => template.render(event, omit_empty),
        None => Ok(default_body(event)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{delivery::payload::synthetic_event, event::EventKind};

    /// A lead whose first name and conversation have so many bytes.
    fn lead(bytes: usize) -> Event {
        let long = || Some("x".repeat(bytes));
        Event { first_name: long(), conversation_id: long(), ..synthetic_event("acme", EventKind::Created) }
    }

    #[test]
    fn a_body_of_more_than_a_mebibyte_is_not_made() {
        let twice = Template::parse(r#"{"a":"{{firstName}}","b":["{{firstName}}"]}"#).unwrap();
        let half = (MAX_BYTES - r#"{"a":"","b":[""]}"#.len()) / 2;
        assert!(of(&lead(half), Some(&twice), false).unwrap().len() <= MAX_BYTES);
        assert_eq!(of(&lead(half + 1), Some(&twice), false), Err(TooLong));
        assert_eq!(of(&lead(half + 1), Some(&twice), true), Err(TooLong));
        assert!(of(&lead(MAX_BYTES), None, false).is_ok_and(|body| body.len() > MAX_BYTES));
    }

    #[test]
    fn what_repeats_a_value_without_end_ends_at_the_limit() {
        let many = format!("[\"{}\"]", "{{firstName}}".repeat(4_000));
        let many = Template::parse(&many).unwrap();
        // 400 MB, if it were made.
        assert_eq!(of(&lead(100_000), Some(&many), false), Err(TooLong));
    }

    #[test]
    fn what_is_left_out_is_looked_through_once() {
        let many = Template::parse(&format!(r#"{{"a":"{}"}}"#, "{{firstName}}".repeat(4_900))).unwrap();
        let blank = Event { first_name: Some(" ".repeat(10_000_000)), ..lead(1) };
        // 49 GB, if each were looked at.
        assert_eq!(of(&blank, Some(&many), true).unwrap(), b"{}");
    }
}
