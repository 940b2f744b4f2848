//! Times as people write and read them: `--since` and `--until`, ages and durations.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, civil::DateTime, tz::TimeZone};

/// Seconds to the epoch from the first time that PostgreSQL has: 4713 BC began then, in Julius Caesar's calendar.
const FIRST: i64 = -210_866_803_200;

/// The time that `text` names: RFC 3339, a date or a date with a time (UTC, as our tables show it), or a duration
/// before `now`.
///
/// # Errors
/// What is accepted, to stand behind the option's name; also of a time before those that PostgreSQL has.
pub fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    let time = read(text, now)?;
    if time.as_second() < FIRST {
        Err(format!("{text:?} is earlier than any time that PostgreSQL has"))
    } else {
        Ok(time)
    }
}

fn read(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // A zone that jiff's civil time would pass over silently is not UTC.
    let is_local = !text.contains(['[', '+', 'Z', 'z']);
    if let (true, Ok(local)) = (is_local, text.parse::<DateTime>()) {
        return TimeZone::UTC.to_timestamp(local).map_err(|_| unknown(text));
    }
    let before = humantime::parse_duration(text).map_err(|_| unknown(text))?;
    SignedDuration::try_from(before).ok().and_then(|before| now.checked_sub(before).ok()).ok_or_else(|| unknown(text))
}

fn unknown(text: &str) -> String {
    format!(
        "{text:?} is no time: write 2026-04-22T10:15:00Z, 2026-04-22 (both UTC), or a duration before now such as 24h"
    )
}

/// UTC, to the second, as tables show it and [`parse`] reads it.
pub fn to_the_second(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A duration for people: `340 ms`, `2.1 s`, `2h 5m`. A negative one reads as nothing.
pub fn span(duration: SignedDuration) -> String {
    let duration = Duration::try_from(duration).unwrap_or_default();
    match duration.as_secs() {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        // Of hours nobody wants the seconds.
        seconds @ 60..3600 => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        seconds => humantime::format_duration(Duration::from_secs(seconds - seconds % 60)).to_string(),
    }
}

/// Up to the whole second, and one at least: whoever waits so long gets through.
pub fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs((wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1))
}

/// How long ago `time` was, in one unit, as tables have room for: `34s`, `12m`, `5h`, `219d`.
pub fn age(time: Timestamp, now: Timestamp) -> String {
    match now.duration_since(time).as_secs().max(0) {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3_600 => format!("{}m", seconds / 60),
        seconds @ 3_600..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

/// A period as it is configured: whole days as days, which humantime would make months of.
pub fn period(duration: Duration) -> String {
    const DAY: u64 = 86_400;
    match duration.as_secs() {
        seconds if seconds >= DAY && seconds % DAY == 0 => format!("{}d", seconds / DAY),
        _ => humantime::format_duration(duration).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_as_short_as_a_column() {
        let now = "2026-04-22T10:15:00Z".parse::<Timestamp>().unwrap();
        for (seconds, shown) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (172_799, "47h"),
            (172_800, "2d"),
        ] {
            assert_eq!(age(now - SignedDuration::from_secs(seconds), now), shown);
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_is_a_point_in_time_a_date_in_utc_or_a_duration_before_now() {
        let now = at("2026-04-22T10:15:00Z");
        for (text, expected) in [
            ("2026-04-22T10:15:00Z", "2026-04-22T10:15:00Z"),
            ("2026-04-22T12:15:00+02:00", "2026-04-22T10:15:00Z"),
            ("2026-04-22T10:15:00.5z", "2026-04-22T10:15:00.5Z"),
            ("2026-04-22", "2026-04-22T00:00:00Z"),
            ("2026-04-22 10:15:07", "2026-04-22T10:15:07Z"),
            (" 24h ", "2026-04-21T10:15:00Z"),
            ("1h 30m", "2026-04-22T08:45:00Z"),
            ("30d", "2026-03-23T10:15:00Z"),
            ("0", "2026-04-22T10:15:00Z"),
        ] {
            assert_eq!(parse(text, now), Ok(at(expected)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_accepted() {
        let now = at("2026-04-22T10:15:00Z");
        for text in ["", "yesterday", "24", "-24h", "2026-13-01", "99999999999y", "2026-04-22T10:15:00[Europe/Berlin]"]
        {
            assert!(parse(text, now).unwrap_err().contains("24h"), "{text}");
        }
    }

    #[test]
    fn what_postgresql_cannot_hold_is_refused() {
        let now = at("2026-04-22T10:15:00Z");
        for text in ["-009000-01-01T00:00:00Z", "-009000-01-01", "-004713-11-23T23:59:59Z", "8000y"] {
            assert!(parse(text, now).unwrap_err().contains("PostgreSQL"), "{text}");
        }
        for text in ["-004713-11-24T00:00:00Z", "9999-12-30T00:00:00Z"] {
            assert_eq!(parse(text, now), Ok(at(text)));
        }
    }

    #[test]
    fn what_a_table_shows_can_be_given_to_since() {
        let time = at("2026-04-22T10:15:07.9Z");
        assert_eq!(parse(&to_the_second(time), time), Ok(at("2026-04-22T10:15:07Z")));
    }

    #[test]
    fn a_wait_is_told_up_to_the_whole_second() {
        let waits = [0, 1, 999, 1_000, 1_001].map(|millis| whole_seconds(Duration::from_millis(millis)).as_secs());
        assert_eq!(waits, [1, 1, 1, 1, 2]);
    }

    #[test]
    fn a_period_reads_as_it_is_configured() {
        assert_eq!([90 * 86_400, 3_600].map(|seconds| period(Duration::from_secs(seconds))), ["90d", "1h"]);
    }

    #[test]
    fn durations_read_as_long_as_they_matter() {
        for (millis, text) in [
            (-5, "0 ms"),
            (340, "340 ms"),
            (2_140, "2.1 s"),
            (59_940, "59.9 s"),
            (61_000, "1m 1s"),
            (7_505_000, "2h 5m"),
            (90_061_000, "1day 1h 1m"),
        ] {
            assert_eq!(span(SignedDuration::from_millis(millis)), text);
        }
    }
}
