//! What an answer says once it is unescaped or decoded.

use std::ops::Range;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::{Unit, printable};

/// The longest escape that is read, in characters.
const MAX_ESCAPE: usize = 36;

/// Fewer characters of base64 or hexadecimal digits say nothing.
const ENCODED: usize = 6;

/// Also where a run begins or ends in the midst of what was encoded.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// One layer of escapes less.
pub(super) fn unescaped(reading: &[Unit]) -> Vec<Unit> {
    replaced(reading, escape)
}

/// The same in quoted-printable, as in an email.
pub(super) fn unquoted(reading: &[Unit]) -> Vec<Unit> {
    replaced(reading, |units| {
        let text: String = units.iter().take(3).map(|unit| unit.c).collect();
        Some((char::from(hex_byte(text.strip_prefix('=')?)?), 3))
    })
}

/// Each sequence that `read` knows as the character that it stands for; with it comes the sequence's length.
fn replaced(reading: &[Unit], read: impl Fn(&[Unit]) -> Option<(char, usize)>) -> Vec<Unit> {
    let mut units = Vec::with_capacity(reading.len());
    let mut at = 0;
    while let Some(unit) = reading.get(at) {
        let (c, length) = read(reading.get(at..).unwrap_or_default()).unwrap_or((unit.c, 1));
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
        // One byte in octal digits.
        '0'..='3' => {
            let byte = text.get(1..4).and_then(|digits| u8::from_str_radix(digits, 8).ok());
            Some(byte.map_or((text.chars().nth(1)?, 2), |byte| (char::from(byte), 4)))
        }
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

/// A character reference of HTML.
fn entity(text: &str) -> Option<(char, usize)> {
    let reference = text.get(..=text.find(';')?)?;
    Some((single(&html_escape::decode_html_entities(reference))?, reference.len()))
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

/// A run of characters that may be base64, also as URLs have it, or hexadecimal digits.
pub(super) struct Encoded {
    digits: String,
    from: Range<usize>,
}

impl Encoded {
    /// Which part of the answer it is.
    pub(super) fn from(&self) -> Range<usize> {
        self.from.clone()
    }

    /// What it says, wherever in the run the encoded text begins.
    pub(super) fn decoded(&self) -> impl Iterator<Item = Vec<Unit>> {
        let base64 = (0..4).filter_map(|skipped| {
            let digits = self.digits.get(skipped..)?;
            // A single digit at the end is no byte.
            let whole = digits.len() - usize::from(digits.len() % 4 == 1);
            BASE64.decode(digits.get(..whole)?).ok()
        });
        let hex = (0..2).filter_map(|skipped| {
            let digits = self.digits.as_bytes().get(skipped..)?;
            digits.chunks_exact(2).map(|pair| hex_byte(std::str::from_utf8(pair).ok()?)).collect()
        });
        let texts = base64.chain(hex).filter(|bytes: &Vec<u8>| is_text(bytes));
        texts.map(|bytes| printable(&bytes).into_iter().map(|c| Unit { c, from: self.from() }).collect())
    }
}

/// Whether it may be text that was cut at both ends: most words are read as digits in vain.
fn is_text(bytes: &[u8]) -> bool {
    bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count() <= 2
        && !bytes.iter().any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}

/// The runs of a reading that may be encoded.
pub(super) fn encoded(reading: &[Unit]) -> impl Iterator<Item = Encoded> {
    let digit = |unit: &Unit| match unit.c {
        '-' => Some('+'),
        '_' => Some('/'),
        c => (c.is_ascii_alphanumeric() || matches!(c, '+' | '/')).then_some(c),
    };
    reading.split(move |unit| digit(unit).is_none()).filter(|run| run.len() >= ENCODED).filter_map(move |run| {
        let from = run.first()?.from.start..run.last()?.from.end;
        Some(Encoded { digits: run.iter().filter_map(digit).collect(), from })
    })
}
