//! The filter's words: each is known, or the arguments are wrong. Every problem at once.

use jiff::Timestamp;

use crate::{
    cli::{args, time},
    event::EventKind,
    outcome::{self, Status},
    store::delivery_list::Filter,
};

/// The filter that `words` spell.
///
/// # Errors
/// Every problem, each naming its option and what is accepted.
pub(super) fn read(words: &args::Filter, now: Timestamp) -> Result<Filter, Vec<String>> {
    let mut problems = Vec::new();
    let statuses = [
        Status::Delivered,
        Status::Failed(outcome::Failure::HttpStatus),
        Status::Interrupted,
        Status::Skipped(outcome::SkipReason::Disabled),
    ]
    .map(Status::as_str);
    let failures = outcome::Failure::ALL.map(outcome::Failure::as_str);
    let events = [EventKind::Created, EventKind::ReEngaged].map(EventKind::as_str);
    let status = one_of("--status", words.status.as_deref(), &statuses, &mut problems);
    let failure = one_of("--failure", words.failure.as_deref(), &failures, &mut problems);
    if let (Some(word), None) = (words.failure.as_deref(), failure)
        && let Some(problem) = problems.last_mut()
        && outcome::SkipReason::ALL.iter().any(|reason| reason.as_str() == word)
    {
        problem.push_str("; it is a reason of skipped: see --status skipped");
    }
    let event = one_of("--event", words.event.as_deref(), &events, &mut problems);
    let since = point_in_time("--since", words.since.as_deref(), now, &mut problems);
    let until = point_in_time("--until", words.until.as_deref(), now, &mut problems);
    if let (Some(status), Some(_)) = (status, failure)
        && status != "failed"
    {
        problems.push(format!("--failure goes with --status failed, not with --status {status}"));
    }
    if let (Some(since), Some(until)) = (since, until)
        && since >= until
    {
        problems.push(format!("--since {since} is not before --until {until}"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let (tenant_id, lead_id) = (words.tenant.clone(), words.lead.clone());
    Ok(Filter { tenant_id, lead_id, status, failure, event, since, until, after: None, limit: i64::from(words.limit) })
}

fn one_of(
    option: &str,
    word: Option<&str>,
    allowed: &[&'static str],
    problems: &mut Vec<String>,
) -> Option<&'static str> {
    let word = word?;
    let found = allowed.iter().copied().find(|one| *one == word);
    if found.is_none() {
        problems.push(format!("{option} {word:?} is unknown: it is one of {}", allowed.join(", ")));
    }
    found
}

fn point_in_time(option: &str, text: Option<&str>, now: Timestamp, problems: &mut Vec<String>) -> Option<Timestamp> {
    time::parse(text?, now).map_err(|problem| problems.push(format!("{option} {problem}"))).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> args::Filter {
        args::Filter {
            tenant: None,
            status: None,
            failure: None,
            event: None,
            lead: None,
            since: None,
            until: None,
            limit: 50,
        }
    }

    #[test]
    fn every_unknown_word_is_reported_at_once_with_those_that_are_known() {
        let text = |text: &str| Some(text.to_owned());
        let bad = args::Filter {
            status: text("ok"),
            failure: text("tiemout"),
            event: text("created"),
            since: text("monday"),
            until: text("-1h"),
            ..words()
        };
        let problems = read(&bad, Timestamp::UNIX_EPOCH).unwrap_err();
        let expected = ["interrupted", "timeout", "lead.re_engaged", "--since", "--until"];
        assert_eq!(problems.len(), expected.len());
        for (problem, part) in problems.iter().zip(expected) {
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn a_reason_of_skipped_is_no_failure_and_is_told_apart() {
        for (status, word, is_reason) in
            [(None, "duplicate", true), (Some("ok"), "disabled", true), (None, "dup", false)]
        {
            let bad = args::Filter { status: status.map(str::to_owned), failure: Some(word.to_owned()), ..words() };
            let problems = read(&bad, Timestamp::UNIX_EPOCH).unwrap_err();
            assert_eq!(problems.last().unwrap().contains("it is a reason of skipped"), is_reason, "{problems:?}");
        }
    }

    #[test]
    fn a_filter_that_nothing_can_pass_is_refused() {
        let text = |text: &str| Some(text.to_owned());
        let never = args::Filter { status: text("delivered"), failure: text("dns"), ..words() };
        assert!(read(&never, Timestamp::UNIX_EPOCH).unwrap_err()[0].contains("--status failed"));
        let never = args::Filter { since: text("1h"), until: text("2h"), ..words() };
        assert!(read(&never, Timestamp::now()).unwrap_err()[0].contains("is not before"));
    }

    #[test]
    fn known_words_are_taken_over() {
        let text = |text: &str| Some(text.to_owned());
        let good = args::Filter {
            tenant: text("acme"),
            status: text("failed"),
            failure: text("http_status"),
            event: text("lead.created"),
            until: text("1970-01-02"),
            ..words()
        };
        let filter = read(&good, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((filter.status, filter.failure), (Some("failed"), Some("http_status")));
        assert_eq!((filter.event, filter.tenant_id.as_deref()), (Some("lead.created"), Some("acme")));
        assert_eq!(filter.until.unwrap().as_second(), 86_400);
    }
}
