//! The beginning of a receiver's answer with everything blanked out that we sent.
//!
//! Receivers repeat what they were sent in whatever form their language escapes or encodes it. Instead of guessing every
//! form of every value, the answer is unescaped and decoded, again and again, while each character remembers which part
//! of the answer it came from; where a value shows in any of those readings, that part is blanked.

mod address;
mod needles;
mod readings;

use std::ops::Range;

use self::needles::Needles;
use super::{json::Said, request::Request};
use crate::{egress, event::Event};

/// The longest excerpt in bytes: enough for any error message, little enough for a column of the log.
const MAX_BYTES: usize = 1024;

/// How much of an answer is looked at, in bytes: four times the excerpt, for blanks and white space shorten it.
const MAX_BODY: usize = 4 * 1024;

/// More than this, in bytes, is not looked for: no excerpt is made then.
const MAX_SENT: usize = 8 * 1024;

/// How often an answer is unescaped: HTML inside JSON inside a query is three.
const LAYERS: usize = 4;

/// Headers whose values say nothing of anybody, in words that errors need: `invalid JSON`.
const OF_ANY_REQUEST: [&str; 2] = ["Content-Type", "User-Agent"];

/// What stands in the place of a value.
const BLANK: &str = "[…]";

/// The beginning of an answer without what was sent: header values, every string of the body and the lead's values that a
/// template made some of them of, the URL and its parts; and without the secret, whose forms a receiver's error may show.
/// `None` too where it is not known what the body says.
pub(super) fn of(answer: &[u8], request: &Request, event: &Event) -> Option<String> {
    let Event { email, phone, first_name, conversation_id, .. } = event;
    let mut values: Vec<String> = [email, phone, first_name, conversation_id].into_iter().flatten().cloned().collect();
    let headers = request.headers.iter().filter(|(name, _)| !OF_ANY_REQUEST.contains(&name.as_str()));
    values.extend(headers.map(|(_, value)| value.expose().clone()));
    values.extend(serde_json::from_slice::<Said>(&request.body).ok()?.strings);
    values.extend(address::parts(request.url.url()));
    let secret = request.secret.text().expose();
    values.extend(secret.split('_').map(str::to_owned));
    values.push(request.secret.bytes().expose().iter().map(|byte| format!("{byte:02x}")).collect());
    values.retain(|value| !value.is_empty());
    let sent: Vec<&str> = values.iter().map(String::as_str).collect();
    excerpt(answer, &sent)
}

/// The beginning of `body`, at most 1 KiB of printable text, in which every value of `sent` is blanked out, also where
/// it is in other case, without its accents, JSON, percent or HTML escaped, or in base64 or hexadecimal digits. `None`
/// where nothing printable is left, or where more was sent than is looked for (8 KiB).
///
/// `sent` is everything that must not be kept: the lead's values, the tenant's secret and header values, the URL's path
/// and query. Parts of a value at white space, `@` and other punctuation count as values of their own, as far as they have
/// three characters. Only for answers that are not 2xx, and only where the operator asked for it.
fn excerpt(body: &[u8], sent: &[&str]) -> Option<String> {
    if sent.iter().map(|value| value.len()).sum::<usize>() > MAX_SENT {
        return None;
    }
    let needles = Needles::new(sent)?;
    let text = printable(body.get(..MAX_BODY).unwrap_or(body));
    let mut blanked = vec![false; text.len()];
    let mut reading: Vec<Unit> = text.iter().enumerate().map(|(at, c)| Unit { c: *c, from: at..at + 1 }).collect();
    for _ in 0..LAYERS {
        needles.blank(&reading, &mut blanked);
        let unquoted = readings::unquoted(&reading);
        if unquoted.len() < reading.len() {
            needles.blank(&unquoted, &mut blanked);
        }
        for run in readings::encoded(&reading) {
            let says = |reading: &[Unit]| needles.are_in(reading, text.len());
            if run.decoded().any(|reading| says(&reading) || says(&readings::unescaped(&reading))) {
                blanked.get_mut(run.from()).unwrap_or_default().fill(true);
            }
        }
        let next = readings::unescaped(&reading);
        if next.len() == reading.len() {
            break;
        }
        reading = next;
    }
    let excerpt = write(&text, &blanked);
    (!excerpt.is_empty()).then_some(excerpt)
}

/// The characters of `body`, those that do not print as spaces. Bytes that are not UTF-8 are taken for Latin-1, so that
/// an umlaut of the lead's is still found; a character that the end cuts is left out.
fn printable(body: &[u8]) -> Vec<char> {
    let cut = std::str::from_utf8(body).err().filter(|error| error.error_len().is_none());
    let body = cut.and_then(|error| body.get(..error.valid_up_to())).unwrap_or(body);
    body.utf8_chunks()
        .flat_map(|chunk| chunk.valid().chars().chain(chunk.invalid().iter().map(|byte| char::from(*byte))))
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .collect()
}

/// NUL too: UTF-16 read as bytes is full of them.
fn is_invisible(c: char) -> bool {
    c == '\0' || egress::is_invisible(c)
}

/// One character of a reading, and the characters of the answer that it came from.
#[derive(Debug, Clone)]
struct Unit {
    c: char,
    from: Range<usize>,
}

/// The text with each blanked part replaced, white space collapsed, cut to [`MAX_BYTES`].
fn write(text: &[char], blanked: &[bool]) -> String {
    let mut excerpt = String::new();
    let mut in_blank = false;
    for (c, blank) in text.iter().zip(blanked) {
        let before = excerpt.len();
        if !blank {
            if *c != ' ' || !(excerpt.is_empty() || excerpt.ends_with(' ')) {
                excerpt.push(*c);
            }
        } else if !in_blank {
            excerpt.push_str(BLANK);
        }
        in_blank = *blank;
        if excerpt.len() > MAX_BYTES {
            excerpt.truncate(before);
            break;
        }
    }
    excerpt.truncate(excerpt.trim_end().len());
    excerpt
}

#[cfg(test)]
mod tests;
