//! The values that are looked for, in one pass over each reading however many they are.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use unicode_normalization::{UnicodeNormalization as _, char::is_combining_mark};

use super::{MAX_BODY, Unit, is_invisible};

/// Shorter values, in characters, are blanked only where they stand alone: an `a` is in every word.
const SHORT: usize = 3;

/// From this many digits on, a value of digits and punctuation is a phone number, known in any grouping.
const PHONE_DIGITS: usize = 6;

/// The longest country code of a phone number, in digits (ITU-T E.164): receivers drop or replace it.
const COUNTRY_CODE: usize = 3;

/// Where more is found in one reading, all of it is blanked: a tenant who owns the values and the answer could keep the
/// daemon busy. It is four times as many as an answer has characters.
const MOST_FOUND: usize = 4 * MAX_BODY;

/// What must not be kept of an answer.
pub(super) struct Needles {
    texts: Finder,
    /// Their digits alone.
    phones: Finder,
}

impl Needles {
    /// `sent` and its parts. `None`: they cannot be looked for.
    pub(super) fn new(sent: &[&str]) -> Option<Self> {
        let mut texts = Vec::new();
        let mut phones = Vec::new();
        for value in sent {
            let value = value.trim();
            texts.push(value.to_owned());
            for divides in [divides_words, divides_fields] {
                texts.extend(value.split(divides).filter(is_long).map(str::to_owned));
            }
            texts.extend(value.split_whitespace().filter_map(decoded).flat_map(|text| with_parts(&text)));
            phones.extend(phone(value));
        }
        // UTF-8 that the receiver took for Latin-1, byte by byte.
        let garbled: Vec<String> =
            texts.iter().filter(|text| !text.is_ascii()).map(|text| text.bytes().map(char::from).collect()).collect();
        let texts = texts
            .iter()
            .chain(&garbled)
            .map(|text| text.chars().filter(|c| !is_invisible(*c)).flat_map(fold).collect());
        Some(Self {
            texts: Finder::new(texts.collect(), |_| true)?,
            phones: Finder::new(phones, |c| !is_separator(c))?,
        })
    }

    /// Marks the part of the answer behind each of them in `reading`.
    pub(super) fn blank(&self, reading: &[Unit], blanked: &mut [bool]) {
        for (finder, hay) in self.hays(reading, blanked.len()) {
            for (before, found) in finder.find_in(&hay).enumerate() {
                if before == MOST_FOUND {
                    blanked.fill(true);
                    return;
                }
                let unit = |byte: usize| hay.units.get(byte).and_then(|at| reading.get(*at));
                let (first, last) = (unit(found.start), unit(found.end - 1));
                let from = first.map_or(0, |unit| unit.from.start)..last.map_or(0, |unit| unit.from.end);
                blanked.get_mut(from).unwrap_or_default().fill(true);
            }
        }
    }

    /// Whether any of them is in `reading`, of an answer of so many characters. The short ones do not count: they are in
    /// anything that was decoded in vain.
    pub(super) fn are_in(&self, reading: &[Unit], characters: usize) -> bool {
        self.hays(reading, characters).any(|(finder, hay)| finder.find_in(&hay).any(|found| is_long(&hay.at(&found))))
    }

    /// In what of a reading each kind is looked for.
    fn hays(&self, reading: &[Unit], characters: usize) -> impl Iterator<Item = (&Finder, Hay)> {
        let sought = [&self.texts, &self.phones].into_iter().filter(|finder| !finder.values.is_empty());
        sought.map(move |finder| (finder, Hay::new(reading, characters, finder.counts)))
    }
}

/// A reading as it is searched.
struct Hay {
    /// Folded.
    text: String,
    /// Of each byte, which unit it is of.
    units: Vec<usize>,
    /// Whether it goes to the end of the answer, which may have been cut there.
    is_last: bool,
}

impl Hay {
    /// Of a reading of an answer that has so many characters.
    fn new(reading: &[Unit], characters: usize, counts: impl Fn(char) -> bool) -> Self {
        let is_last = reading.last().is_some_and(|unit| unit.from.end == characters);
        let mut hay = Self { text: String::new(), units: Vec::with_capacity(reading.len()), is_last };
        for (at, unit) in reading.iter().enumerate() {
            hay.text.extend(fold(unit.c).filter(|c| counts(*c)));
            hay.units.resize(hay.text.len(), at);
        }
        hay
    }

    fn at(&self, found: &Range<usize>) -> &str {
        self.text.get(found.clone()).unwrap_or_default()
    }
}

/// Values, all looked for at once.
struct Finder {
    values: Vec<String>,
    automaton: AhoCorasick,
    /// Which characters of a reading count.
    counts: fn(char) -> bool,
}

impl Finder {
    fn new(mut values: Vec<String>, counts: fn(char) -> bool) -> Option<Self> {
        values.retain(|value| !value.trim().is_empty());
        values.sort_unstable();
        values.dedup();
        // Soon made, because it serves one short text; and, unlike the one that is made soonest, not slower the more values
        // end at the same place.
        let kind = Some(AhoCorasickKind::ContiguousNFA);
        let automaton = AhoCorasick::builder().kind(kind).build(&values).ok()?;
        Some(Self { values, automaton, counts })
    }

    /// Where in `hay` values stand. At the end of the answer their begin is enough.
    fn find_in<'a>(&'a self, hay: &'a Hay) -> impl Iterator<Item = Range<usize>> + 'a {
        let text = hay.text.as_str();
        let whole = self.automaton.find_overlapping_iter(text).map(|found| found.range());
        let whole = whole.filter(|found| is_long(&hay.at(found)) || stands_alone(text, found));
        let cut = self.values.iter().filter(|_| hay.is_last).filter_map(|value| {
            let mut begins = (SHORT..value.len()).rev().filter_map(|length| value.get(..length));
            let begin = begins.find(|begin| text.ends_with(begin))?;
            Some(text.len() - begin.len()..text.len())
        });
        whole.chain(cut)
    }
}

fn divides_words(c: char) -> bool {
    c == '@' || c.is_whitespace()
}

/// What people put around a value, or between two.
fn divides_fields(c: char) -> bool {
    divides_words(c) || "=,;:<>()[]{}\"'`/|&\\".contains(c)
}

fn is_long(part: &&str) -> bool {
    part.chars().nth(SHORT - 1).is_some()
}

/// Whether no letter or digit stands beside it.
fn stands_alone(hay: &str, found: &Range<usize>) -> bool {
    let before = hay.get(..found.start).and_then(|before| before.chars().next_back());
    let after = hay.get(found.end..).and_then(|after| after.chars().next());
    !before.into_iter().chain(after).any(char::is_alphanumeric)
}

/// What a word says in base64, as a Basic credential does.
fn decoded(word: &str) -> Option<String> {
    let bytes = STANDARD_NO_PAD.decode(word.trim_end_matches('=')).ok()?;
    String::from_utf8(bytes).ok()
}

/// A text, and what a colon divides it into.
fn with_parts(text: &str) -> Vec<String> {
    [text].into_iter().chain(text.split(':').filter(is_long)).map(str::to_owned).collect()
}

/// The digits of a phone number, with and without those that may be its country code.
fn phone(value: &str) -> Vec<String> {
    let digits: String = value.chars().filter(char::is_ascii_digit).collect();
    if digits.len() < PHONE_DIGITS || !value.chars().all(|c| c.is_ascii_digit() || is_separator(c)) {
        return Vec::new();
    }
    let national = digits.chars().skip(COUNTRY_CODE.min(digits.len() - PHONE_DIGITS)).collect();
    vec![national, digits]
}

/// What people group the digits of a phone number with.
fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '+' | '-' | '.' | '(' | ')' | '/')
}

/// The same for a character in any case, with marks or without; `+` is a space, as in a form.
fn fold(c: char) -> impl Iterator<Item = char> {
    let c = if c == '+' || c.is_whitespace() || c.is_control() { ' ' } else { c };
    let bare = std::iter::once(c).nfkd().filter(|c| !is_combining_mark(*c));
    bare.flat_map(char::to_uppercase).flat_map(char::to_lowercase)
}
