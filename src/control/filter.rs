//! The filter's words: each is known, or the arguments are wrong. Every problem at once.

use jiff::Timestamp;

use super::time;
use crate::{
    event::EventKind,
    outcome::{self, Status},
    store::delivery_list::Filter,
};

/// A filter as it is written; `None` is any.
#[derive(Debug, Clone, Copy, Default)]
#[expect(missing_docs, reason = "the words of the filter that they spell")]
pub struct Words<'a> {
    pub tenant: Option<&'a str>,
    pub lead: Option<&'a str>,
    pub status: Option<&'a str>,
    pub failure: Option<&'a str>,
    pub event: Option<&'a str>,
    pub since: Option<&'a str>,
    pub until: Option<&'a str>,
    pub limit: u32,
}

/// What is wrong with one of the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Which.
    pub word: &'static str,
    /// What, and what is accepted; reads on from the word.
    pub text: String,
}

/// The filter that `words` spell.
///
/// # Errors
/// Every problem.
pub fn read(words: &Words<'_>, now: Timestamp) -> Result<Filter, Vec<Problem>> {
    let mut problems = Vec::new();
    let failures = outcome::Failure::ALL.map(outcome::Failure::as_str);
    let events = EventKind::ALL.map(EventKind::as_str);
    let status = one_of("status", words.status, &Status::WORDS, &mut problems);
    let failure = one_of("failure", words.failure, &failures, &mut problems);
    if let (Some(word), None) = (words.failure, failure)
        && let Some(problem) = problems.last_mut()
        && outcome::SkipReason::ALL.iter().any(|reason| reason.as_str() == word)
    {
        problem.text.push_str("; it is a reason of the status skipped");
    }
    let event = one_of("event", words.event, &events, &mut problems);
    let since = point_in_time("since", words.since, now, &mut problems);
    let until = point_in_time("until", words.until, now, &mut problems);
    if let (Some(status), Some(_)) = (status, failure)
        && status != "failed"
    {
        let text = format!("goes with the status failed, not with {status}");
        problems.push(Problem { word: "failure", text });
    }
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        problems.push(Problem { word: "since", text: format!("{since} is not before until {until}") });
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (tenant_id, lead_id) = (words.tenant.map(str::to_owned), words.lead.map(str::to_owned));
    let failures = failure.map(|failure| vec![failure]);
    Ok(Filter { tenant_id, lead_id, status, failures, event, since, until, after: None, limit: i64::from(words.limit) })
}

fn one_of(
    word: &'static str,
    given: Option<&str>,
    allowed: &[&'static str],
    problems: &mut Vec<Problem>,
) -> Option<&'static str> {
    let given = given?;
    let found = allowed.iter().copied().find(|one| *one == given);
    if found.is_none() {
        let text = format!("{given:?} is unknown: it is one of {}", allowed.join(", "));
        problems.push(Problem { word, text });
    }
    found
}

fn point_in_time(
    word: &'static str,
    text: Option<&str>,
    now: Timestamp,
    problems: &mut Vec<Problem>,
) -> Option<Timestamp> {
    time::parse(text?, now).map_err(|text| problems.push(Problem { word, text })).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unknown_word_is_reported_at_once_with_those_that_are_known() {
        let bad = Words {
            status: Some("ok"),
            failure: Some("tiemout"),
            event: Some("created"),
            since: Some("monday"),
            until: Some("-1h"),
            ..Words::default()
        };
        let problems = read(&bad, Timestamp::UNIX_EPOCH).unwrap_err();
        let expected = [
            ("status", "interrupted"),
            ("failure", "timeout"),
            ("event", "lead.re_engaged"),
            ("since", "monday"),
            ("until", "-1h"),
        ];
        assert_eq!(problems.len(), expected.len());
        for (problem, (word, part)) in problems.iter().zip(expected) {
            assert!(problem.word == word && problem.text.contains(part), "{problem:?}");
        }
    }

    #[test]
    fn a_reason_of_skipped_is_no_failure_and_is_told_apart() {
        for (status, word, is_reason) in
            [(None, "duplicate", true), (Some("ok"), "disabled", true), (None, "dup", false)]
        {
            let bad = Words { status, failure: Some(word), ..Words::default() };
            let problems = read(&bad, Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(problems.last().unwrap().text.contains("it is a reason of"), is_reason, "{problems:?}");
        }
    }

    #[test]
    fn a_filter_that_nothing_can_pass_is_refused() {
        let never = Words { status: Some("delivered"), failure: Some("dns"), ..Words::default() };
        assert!(read(&never, Timestamp::UNIX_EPOCH).unwrap_err()[0].text.contains("the status failed"));
        let never = Words { since: Some("1h"), until: Some("2h"), ..Words::default() };
        assert!(read(&never, Timestamp::now()).unwrap_err()[0].text.contains("is not before"));
    }

    #[test]
    fn known_words_are_taken_over() {
        let good = Words {
            tenant: Some("acme"),
            status: Some("failed"),
            failure: Some("http_status"),
            event: Some("lead.created"),
            until: Some("1970-01-02"),
            ..Words::default()
        };
        let filter = read(&good, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((filter.status, filter.failures), (Some("failed"), Some(vec!["http_status"])));
        assert_eq!((filter.event, filter.tenant_id.as_deref()), (Some("lead.created"), Some("acme")));
        assert_eq!(filter.until.unwrap().as_second(), 86_400);
    }
}
