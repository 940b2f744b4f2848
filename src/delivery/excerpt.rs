//! The beginning of a receiver's answer with everything blanked out that we sent.
//!
//! Receivers repeat what they were sent in whatever form their language escapes it. Instead of guessing every
//! form of every value, the answer is unescaped, again and again, while each character remembers which part of
//! the answer it came from; where a value shows in any of those readings, that part is blanked.

use std::ops::Range;

/// The longest excerpt in bytes: enough for any error message, little enough for a column of the log.
const MAX_BYTES: usize = 1024;

/// How much of an answer is looked at, in bytes: four times the excerpt, for blanks and white space shorten it.
const MAX_BODY: usize = 4 * 1024;

/// More than this, in bytes, is not looked for: each value is held against each place of the answer, and a tenant
/// who owns both could keep the daemon busy. No excerpt is made then.
const MAX_SENT: usize = 8 * 1024;

/// The longest escape that is read, in characters.
const MAX_ESCAPE: usize = 36;

/// How often an answer is unescaped: HTML inside JSON inside a query is three.
const LAYERS: usize = 4;

/// Shorter values, in characters, are blanked only where they stand alone: an `a` is in every word.
const SHORT: usize = 3;

/// From this many digits on, a value of digits and punctuation is a phone number, known in any grouping.
const PHONE_DIGITS: usize = 6;

/// The longest country code of a phone number, in digits (ITU-T E.164): receivers drop or replace it.
const COUNTRY_CODE: usize = 3;

/// What stands in the place of a value.
const BLANK: &str = "[…]";

/// An escape that stands for some character, but we do not know which: equal to any.
const ANY: char = char::REPLACEMENT_CHARACTER;

/// The beginning of `body`, at most 1 KiB of printable text, in which every value of `sent` is blanked out, also where
/// it is in other case, or JSON, percent or HTML escaped. `None` where nothing printable is left, or where more was
/// sent than can be looked for (8 KiB).
///
/// `sent` is everything that must not be kept: the lead's values, the tenant's header values, the URL's path
/// and query. Parts of a value at a white space or `@` count as values of their own, as far as they have three
/// characters. Only for answers that are not 2xx, and only where the operator asked for it.
pub fn excerpt(body: &[u8], sent: &[&str]) -> Option<String> {
    if sent.iter().map(|value| value.len()).sum::<usize>() > MAX_SENT {
        return None;
    }
    let text = printable(body.get(..MAX_BODY).unwrap_or(body));
    let needles: Vec<Needle> = sent.iter().flat_map(|value| Needle::of(value)).collect();
    let mut blanked = vec![false; text.len()];
    let mut reading: Vec<Unit> = text.iter().enumerate().map(|(at, c)| Unit { c: *c, from: at..at + 1 }).collect();
    for _ in 0..LAYERS {
        blank(&reading, &needles, &mut blanked);
        let next = unescape(&reading);
        if next.len() == reading.len() {
            break;
        }
        reading = next;
    }
    let excerpt = write(&text, &blanked);
    (!excerpt.is_empty()).then_some(excerpt)
}

/// The characters of `body`, those that do not print as spaces. What is not UTF-8 is taken for Latin-1, so that
/// an umlaut of the lead's is still found.
fn printable(body: &[u8]) -> Vec<char> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text.to_owned(),
        // Cut off inside a character.
        Err(error) if error.error_len().is_none() => {
            String::from_utf8_lossy(body.get(..error.valid_up_to()).unwrap_or_default()).into_owned()
        }
        Err(_) => body.iter().map(|byte| char::from(*byte)).collect(),
    };
    text.chars()
        .filter(|c| !is_invisible(*c))
        .map(|c| if c.is_control() || c.is_whitespace() { ' ' } else { c })
        .collect()
}

/// NUL (UTF-16 read as bytes is full of them) and what has no width or turns the direction of the text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\0' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// One character of a reading, and the characters of the answer that it came from.
#[derive(Debug, Clone)]
struct Unit {
    c: char,
    from: Range<usize>,
}

/// A value to look for.
struct Needle {
    /// Folded.
    chars: Vec<char>,
    /// Whether only its digits count.
    is_phone: bool,
}

impl Needle {
    /// The value itself and its parts.
    fn of(value: &str) -> Vec<Self> {
        let text = |part: &str| Self {
            chars: part.chars().filter(|c| !is_invisible(*c)).flat_map(fold).collect(),
            is_phone: false,
        };
        let value = value.trim();
        let mut needles = vec![text(value)];
        needles.extend(
            value.split(|c: char| c == '@' || c.is_whitespace()).filter(|part| part.chars().count() >= SHORT).map(text),
        );
        let digits: Vec<char> = value.chars().filter(char::is_ascii_digit).collect();
        if digits.len() >= PHONE_DIGITS && value.chars().all(|c| c.is_ascii_digit() || is_separator(c)) {
            let national = digits.iter().skip(COUNTRY_CODE.min(digits.len() - PHONE_DIGITS)).copied().collect();
            needles.push(Self { chars: national, is_phone: true });
            needles.push(Self { chars: digits, is_phone: true });
        }
        needles.retain(|needle| !needle.chars.is_empty());
        needles
    }
}

/// The same for a character in any case; `+` is a space, as in a form.
fn fold(c: char) -> impl Iterator<Item = char> {
    let c = if c == '+' || c.is_whitespace() { ' ' } else { c };
    c.to_uppercase().flat_map(char::to_lowercase)
}

/// What people group the digits of a phone number with.
fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '+' | '-' | '.' | '(' | ')' | '/')
}

/// Marks the part of the answer behind every needle of `reading`.
fn blank(reading: &[Unit], needles: &[Needle], blanked: &mut [bool]) {
    let folded: Vec<Unit> =
        reading.iter().flat_map(|unit| fold(unit.c).map(|c| Unit { c, from: unit.from.clone() })).collect();
    let digits: Vec<Unit> = folded.iter().filter(|unit| !is_separator(unit.c)).cloned().collect();
    for needle in needles {
        let hay = if needle.is_phone { &digits } else { &folded };
        for start in 0..hay.len() {
            if let Some(found) = found_at(hay, start, &needle.chars) {
                let (from, to) = (found.first().map(|u| u.from.start), found.last().map(|u| u.from.end));
                let range = from.unwrap_or_default()..to.unwrap_or_default();
                blanked.get_mut(range).unwrap_or_default().fill(true);
            }
        }
    }
}

/// The units from `start` that `needle` matches. At the end of the answer its begin is enough: the answer may
/// have been cut there.
fn found_at<'u>(hay: &'u [Unit], start: usize, needle: &[char]) -> Option<&'u [Unit]> {
    let rest = hay.get(start..)?;
    let found = rest.get(..needle.len()).unwrap_or(rest);
    let matches = found.iter().zip(needle).all(|(unit, c)| unit.c == *c || unit.c == ANY);
    let whole = found.len() == needle.len();
    if !matches || !(whole || found.len() >= SHORT) {
        return None;
    }
    let is_word = |unit: Option<&Unit>| unit.is_some_and(|unit| unit.c.is_alphanumeric());
    let before = start.checked_sub(1).and_then(|before| hay.get(before));
    let inside_a_word = is_word(before) || is_word(rest.get(found.len()));
    (needle.len() >= SHORT || !inside_a_word).then_some(found)
}

/// One layer of escapes less.
fn unescape(reading: &[Unit]) -> Vec<Unit> {
    let mut units = Vec::with_capacity(reading.len());
    let mut at = 0;
    while let Some(unit) = reading.get(at) {
        let (c, length) = escape(reading.get(at..).unwrap_or_default()).unwrap_or((unit.c, 1));
        let end = reading.get(at + length - 1).map_or(unit.from.end, |last| last.from.end);
        units.push(Unit { c, from: unit.from.start..end });
        at += length;
    }
    units
}

/// The escape that `units` begin with: what it stands for, and its length in characters.
fn escape(units: &[Unit]) -> Option<(char, usize)> {
    let read: fn(&str) -> Option<(char, usize)> = match units.first()?.c {
        '\\' => backslash,
        '%' => percent,
        '&' => entity,
        _ => return None,
    };
    read(&units.iter().take(MAX_ESCAPE).map(|unit| unit.c).collect::<String>())
}

/// An escape of JSON or JavaScript. Any other character behind a backslash stands for itself.
fn backslash(text: &str) -> Option<(char, usize)> {
    match text.chars().nth(1)? {
        // A pair of surrogates or one unit, as JSON reads it.
        'u' => [12, 6].into_iter().find_map(|length| {
            let json = format!("\"{}\"", text.get(..length)?);
            Some((single(&serde_json::from_str::<String>(&json).ok()?)?, length))
        }),
        'x' => Some((char::from(hex_byte(text.get(2..4)?)?), 4)),
        'n' | 'r' | 't' | 'b' | 'f' => Some((' ', 2)),
        c => Some((c, 2)),
    }
}

/// One character in percent-encoded UTF-8, or else one byte of Latin-1.
fn percent(text: &str) -> Option<(char, usize)> {
    let pair = |index: usize| hex_byte(text.get(index * 3..index * 3 + 3)?.strip_prefix('%')?);
    let bytes: Vec<u8> = (0..4).map_while(pair).collect();
    let utf8 = (1..=bytes.len())
        .find_map(|length| Some((single(std::str::from_utf8(bytes.get(..length)?).ok()?)?, length * 3)));
    utf8.or_else(|| Some((char::from(*bytes.first()?), 3)))
}

/// A character reference of HTML. Rare names stand for [`ANY`] character.
fn entity(text: &str) -> Option<(char, usize)> {
    let (name, _) = text.strip_prefix('&')?.split_once(';')?;
    let c = match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => ' ',
        "szlig" => 'ß',
        _ => match name.strip_prefix('#') {
            Some(number) => char::from_u32(match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            })?,
            None if !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric()) => ANY,
            None => return None,
        },
    };
    Some((c, name.len() + 2))
}

/// The only character of `text`.
fn single(text: &str) -> Option<char> {
    let mut chars = text.chars();
    chars.next().filter(|_| chars.next().is_none())
}

fn hex_byte(pair: &str) -> Option<u8> {
    let digits = pair.chars().all(|c| c.is_ascii_hexdigit());
    digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
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
mod tests {
    use super::*;

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
        ] {
            hides(EMAIL, form);
        }
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
}
