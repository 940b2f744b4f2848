//! From what was found to what is said of it: pure, so that each limit is tested.

use std::time::Duration;

use jiff::SignedDuration;

use super::line::Line;
use crate::{
    config::{Database, Listen, Notify, Retention, Tls, TokenProblem},
    control::{
        keys::HalfRotated,
        time::{period, span},
    },
    dispatch::guard::{ADOPT, KEYS},
    keyring::{KeyFileError, OpenError},
    secret::Secret,
    store::{
        check::{DEAD, Daemon, Missed, RoundTrip, Server},
        clocks::Ahead,
        connect::ConnectError,
        installation::Identity,
        outbox::Backlog,
        said,
    },
};

/// The server versions that are tested.
const VERSIONS: std::ops::RangeInclusive<i32> = 14..=18;

/// A daemon that keeps up claims within seconds.
const OLDEST: f64 = 5.0 * 60.0;

/// While the clone guard holds.
const WAITS: &str = "until then no daemon claims anything, and events wait in the outbox";

/// A daemon prunes every hour.
const UNPRUNED: Duration = Duration::from_secs(86_400);

/// Of a day: whoever runs `check` daily hears once that a trigger has failed.
const NEWS: f64 = 86_400.0;

/// A full notification queue fails the commits of everybody who notifies.
const QUEUE: f64 = 0.1;

pub(super) fn version(server: &Server) -> Line {
    let text = format!("PostgreSQL {}", server.version);
    let major = server.version_number / 10_000;
    if major < *VERSIONS.start() {
        Line::fail("server", text, format!("upgrade it: {} or newer is needed", VERSIONS.start()))
    } else if major > *VERSIONS.end() {
        let remedy = format!(
            "look for a newer lead-webhook: this one is tested with {} to {}",
            VERSIONS.start(),
            VERSIONS.end()
        );
        Line::warn("server", text, remedy)
    } else {
        Line::ok("server", text)
    }
}

pub(super) fn primary(server: &Server) -> Line {
    if server.is_standby {
        let remedy = "let database.url name the primary, or add target_session_attrs=read-write";
        Line::fail("server", "is a standby, which takes no writes", remedy)
    } else if server.is_read_only {
        let remedy =
            "take default_transaction_read_only back, from ALTER DATABASE, ALTER ROLE or the server's configuration";
        Line::fail("server", "is a primary, but takes no writes of this login: its transactions are read-only", remedy)
    } else {
        Line::ok("server", "is a primary")
    }
}

pub(super) fn tls(server: &Server, setting: Tls) -> Line {
    let what = "connection";
    match (&server.tls, server.address) {
        (Some(version), _) if setting == Tls::VerifyFull => {
            Line::ok(what, format!("{version}, certificate and host name verified"))
        }
        (Some(version), _) => {
            Line::ok(what, format!("{version}; the certificate is not verified, only tls = \"verify-full\" does that"))
        }
        (None, None) => Line::ok(what, "over a Unix socket"),
        (None, Some(address)) if address.is_loopback() => Line::ok(what, "without TLS, on this host"),
        (None, Some(address)) => {
            let text = format!("without TLS to {address}: who is on the way reads leads and password");
            Line::warn(what, text, "switch TLS on in the server, then set database.tls = \"verify-full\"")
        }
    }
}

pub(super) fn notification_queue(used: f64) -> Line {
    let text = format!("{:.0} % of the server's notification queue is in use", used * 100.0);
    if used > QUEUE {
        let remedy = "find the session that listens in an open transaction (pg_stat_activity, oldest xact_start) and end \
                      it: a full queue fails the commits that notify; until then set database.notify = \"off\" and run \
                      `lead-webhook migrate`";
        Line::warn("NOTIFY", text, remedy)
    } else {
        Line::ok("NOTIFY", text)
    }
}

/// Where the triggers do not ring there is nothing to hear.
pub(super) fn notify_is_off(database: &Database, max_prepared_transactions: i32) -> Option<Line> {
    let polls = format!("daemons look every {}", humantime::format_duration(database.poll_interval));
    match database.notify {
        Notify::Off => Some(Line::ok("NOTIFY", format!("off, as database.notify says; {polls}"))),
        Notify::Auto if max_prepared_transactions > 0 => {
            let why = format!("max_prepared_transactions = {max_prepared_transactions}");
            Some(Line::ok("NOTIFY", format!("off, because the server has {why}; {polls}")))
        }
        Notify::Auto | Notify::On => None,
    }
}

/// The server sees the pooler's connection, not ours.
pub(super) fn pooler(server: &Server, setting: Tls) -> Line {
    let to_pooler = match setting {
        Tls::Disable => "without TLS",
        Tls::Prefer => "with TLS where it has any",
        Tls::Require => "with TLS, the certificate not verified",
        Tls::VerifyFull => "with TLS, certificate and host name verified",
    };
    let onwards = match (&server.tls, server.address) {
        (Some(version), _) => format!("with {version}"),
        (None, None) => "over a Unix socket".to_owned(),
        (None, Some(address)) => format!("without TLS to {address}"),
    };
    let text = format!(
        "to a pooler {to_pooler}, and from there {onwards}. Each statement is a transaction of its own, with nothing prepared"
    );
    Line::ok("connection", text)
}

pub(super) fn notify_against_two_phase(max_prepared_transactions: i32) -> Line {
    let text = format!(
        "on, although the server has max_prepared_transactions = {max_prepared_transactions}: a transaction that queues a \
         lead cannot be prepared for two-phase commit"
    );
    Line::warn(
        "NOTIFY",
        text,
        "set database.notify = \"auto\" and run `lead-webhook migrate`, if the application prepares any",
    )
}

pub(super) fn round_trip(trip: &RoundTrip, poll_interval: Duration) -> Line {
    let polls = format!("until then daemons look every {}", humantime::format_duration(poll_interval));
    match trip {
        RoundTrip::Heard(after) => {
            Line::ok("NOTIFY", format!("came through in {:.1} ms", after.as_secs_f64() * 1000.0))
        }
        RoundTrip::Unheard => {
            let remedy = format!("set database.listen_url to the server itself; {polls}");
            Line::warn("NOTIFY", "did not come through within 2 s, as behind a pooler in transaction mode", remedy)
        }
        RoundTrip::NotListening(error) => {
            Line::warn("NOTIFY", format!("cannot be heard: {error}"), format!("correct database.listen_url; {polls}"))
        }
        RoundTrip::Refused(error) => {
            let text = format!("cannot be heard: LISTEN was refused: {}", said(error));
            Line::warn("NOTIFY", text, format!("set database.listen_url to the server itself; {polls}"))
        }
    }
}

pub(super) fn clock(ahead: Ahead) -> Line {
    let way = if ahead.by.is_negative() { "behind" } else { "ahead of" };
    let text = format!("this host's is {} {way} the server's", span(ahead.by.abs()));
    match ahead.is_apart() {
        Some(false) => Line::ok("clock", text),
        Some(true) => Line::warn("clock", text, "synchronise both (NTP): receivers refuse signatures of another time"),
        None => {
            let text = format!("{text}, more or less: the answer took {}", span(ahead.round_trip));
            Line::warn("clock", text, "run check again when the server answers sooner")
        }
    }
}

pub(super) fn a_lead(read: Result<bool, String>) -> Line {
    match read {
        Ok(true) => Line::ok("leads", "one was read through the mapping"),
        Ok(false) => Line::ok("leads", "the table is empty"),
        Err(error) => {
            let remedy =
                "correct the lead, or the expression in [leads.columns]: such leads are logged as failed / lead";
            Line::warn("leads", format!("one could not be read through the mapping: {error}"), remedy)
        }
    }
}

/// Errors of the key file name their remedy already; but beside a database a new file is rarely what a missing one asks
/// for.
pub(super) fn key_file(error: &KeyFileError) -> Line {
    let text = error.to_string();
    Line::fail_as_said("key file", text.strip_prefix("key file ").unwrap_or(&text))
}

/// What the admin listener offers, and that the daemon will not start without its token.
pub(super) fn admin(listen: &Listen, token: &Result<Option<Secret<String>>, TokenProblem>) -> Line {
    match token {
        Ok(Some(_)) => Line::ok("admin", format!("{listen}: probes, metrics, API and page")),
        Ok(None) => Line::ok("admin", format!("{listen}: probes and metrics; an API and a page by admin.token_file")),
        Err(problem @ TokenProblem::Unfit(_)) => {
            Line::fail_as_said("admin", format!("the daemon will not start: {problem}"))
        }
        // systemd hands it to the daemon, and only while that runs.
        Err(problem @ TokenProblem::Unread(_)) => {
            let remedy =
                "see that the daemon's user may, or that systemd hands it out: without, the daemon will not start";
            Line::warn("admin", format!("this user does not read the operator's token: {problem}"), remedy)
        }
    }
}

/// Why the database cannot be reached.
pub(super) fn no_session(error: &ConnectError) -> Line {
    let text = error.to_string();
    match error {
        error if error.names_its_remedy() => Line::fail_as_said("database", text),
        ConnectError::Refused { source, .. } | ConnectError::SetUp { source, .. } => {
            let sqlstate = source.code().map_or("", |state| state.code());
            Line::fail("database", text, connecting_remedy(sqlstate))
        }
        _ => Line::fail("database", text, connecting_remedy("")),
    }
}

/// No SQLSTATE: no server answered. One that turns this login (SQLSTATE class 28) or this database (3D) away runs already.
fn connecting_remedy(sqlstate: &str) -> &'static str {
    match sqlstate.get(..2) {
        Some("28" | "3D") => "correct [database], or create the role or database",
        _ => "start it, or correct [database]",
    }
}

pub(super) fn installation_key(error: Option<OpenError>, half: Option<&HalfRotated>) -> Line {
    match (error, half) {
        (None, None) => Line::ok("key", "the key file is this installation's"),
        // Daemons go on: they open by all keys of the file.
        (None, Some(half)) => Line::warn("key", format!("the key file {}", half), half.remedy()),
        (Some(error), _) => {
            let text = format!("the key file is not the one that this installation was made with: {error}");
            Line::fail("key", text, format!("{KEYS}; {WAITS}"))
        }
    }
}

/// Whether this is the database that was installed in, as far as the server tells.
pub(super) fn identity(remembered: &Identity, now: &Identity) -> Line {
    let differences: Vec<_> = remembered.differences(now).iter().map(ToString::to_string).collect();
    if !differences.is_empty() {
        return Line::fail("clone guard", differences.join("; "), format!("{ADOPT}; {WAITS}"));
    }
    let text = match (remembered.system_identifier, now.system_identifier) {
        (Some(_), Some(_)) => "server and database are those of the installation",
        (_, None) => "the server does not tell its system identifier: only name, tables and key file tell a copy",
        (None, _) => "no system identifier is remembered: only name, tables and key file tell a copy",
    };
    Line::ok("clone guard", text)
}

pub(super) fn backlog(backlog: Backlog) -> Line {
    let Backlog { pending, in_flight, oldest_s } = backlog;
    let oldest = oldest_s.unwrap_or_default().max(0.0);
    let counts = format!("{pending} pending, {in_flight} in flight");
    if pending == 0 {
        return Line::ok("queue", counts);
    }
    let text = format!("{counts}, the oldest waits {}", seconds(oldest));
    if oldest > OLDEST {
        Line::warn(
            "queue",
            text,
            "see that a daemon runs and what it logs, and whose leads wait: SELECT * FROM lead_webhook.backlog",
        )
    } else {
        Line::ok("queue", text)
    }
}

pub(super) fn daemons(daemons: &[Daemon]) -> Vec<Line> {
    if daemons.is_empty() {
        let remedy = "start `lead-webhook run`; one that the clone guard keeps off is not seen here";
        return vec![Line::warn("daemon", "none runs: nothing is sent", remedy)];
    }
    daemons.iter().map(daemon).collect()
}

fn daemon(daemon: &Daemon) -> Line {
    let Daemon { host, process_id, version, unseen_s } = daemon;
    let own = env!("CARGO_PKG_VERSION");
    let text =
        format!("version {version}, process {process_id} on {host}, last seen {} ago", seconds(unseen_s.max(0.0)));
    if *unseen_s >= DEAD {
        let remedy = "start it again; what it had claimed is logged as interrupted by the next daemon";
        Line::warn("daemon", format!("{text}: it is dead"), remedy)
    } else if version != own {
        Line::warn("daemon", text, format!("restart it: this program is version {own}"))
    } else {
        Line::ok("daemon", text)
    }
}

/// Whether the sweep is on is another line.
pub(super) fn missed(missed: Missed) -> Line {
    let Missed { times, swept_s } = missed;
    if times == 0 {
        return Line::ok("missed leads", "no trigger has failed since the install");
    }
    // A sequence: a crash of the server, or a failover, moves it on by up to 32.
    let what = if times == 1 { "once".to_owned() } else { format!("at most {times} times") };
    let text =
        format!("a trigger could not queue what it saw, or was not there until a `migrate`, {what} since the install");
    let causes = "the server's log has a WARNING of lead_webhook for each that failed, with the cause";
    match swept_s.map(|swept_s| swept_s.max(0.0)) {
        None => {
            let remedy = format!(
                "{causes}; a running daemon queues what was new of the last 24 hours, where the sweep is on; \
                 `lead-webhook reconcile` names what it has not"
            );
            Line::warn("missed leads", format!("{text}: leads may have been missed"), remedy)
        }
        Some(swept_s) => {
            let text = format!("{text}; what was new had been queued {} ago", seconds(swept_s));
            if swept_s < NEWS {
                let remedy = format!("{causes}; who came back then is not queued: nobody can see it afterwards");
                Line::warn("missed leads", text, remedy)
            } else {
                Line::ok("missed leads", text)
            }
        }
    }
}

/// The oldest log row, in seconds, against what is kept longest. `None`: there is no row, or something is kept for ever.
pub(super) fn log(retention: &Retention, oldest_s: Option<f64>) -> Line {
    let Retention { delivered, skipped, failed } = retention;
    let kept = |kept: &Option<Duration>| kept.map_or_else(|| "for ever".to_owned(), period);
    let text = format!("delivered kept {}, skipped {}, failed {}", kept(delivered), kept(skipped), kept(failed));
    let longest = [delivered, skipped, failed].into_iter().copied().collect::<Option<Vec<_>>>();
    let longest = longest.and_then(|all| all.into_iter().max());
    let oldest_s = oldest_s.unwrap_or_default();
    match longest {
        Some(longest) if oldest_s > (longest + UNPRUNED).as_secs_f64() => {
            let text = format!("{text}; its oldest row is {} old", seconds(oldest_s));
            Line::warn(
                "log",
                text,
                "see whether a daemon runs and what it logs, or run `lead-webhook deliveries prune`",
            )
        }
        _ => Line::ok("log", text),
    }
}

fn seconds(seconds: f64) -> String {
    SignedDuration::try_from_secs_f64(seconds).map_or_else(|_| "very long".to_owned(), span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::line::Verdict;

    fn server() -> Server {
        Server {
            version_number: 150_004,
            version: "15.4".to_owned(),
            is_standby: false,
            is_read_only: false,
            tls: None,
            address: None,
            max_prepared_transactions: 0,
            notification_queue: 0.0,
        }
    }

    #[test]
    fn every_line_has_one_remedy() {
        let path = std::path::PathBuf::from("/keys");
        let missing = key_file(&KeyFileError::Missing { path: path.clone() });
        let said = "/keys: missing: put the installation's own there; only for a new one run";
        assert!(missing.remedy.is_none() && missing.finding.starts_with(said), "{missing:?}");
        let open = key_file(&KeyFileError::OpenToOthers { path, mode: 0o644 });
        assert!(open.remedy.is_none() && open.finding.contains("chmod 0600"), "{open:?}");
        assert!(no_session(&ConnectError::Url).remedy.is_none());
        let altered = installation_key(Some(OpenError::Altered), None);
        assert!(altered.remedy.unwrap().starts_with("put the installation's key file back"));
    }

    #[test]
    fn a_server_that_turns_the_login_away_is_not_to_be_started() {
        for code in ["28P01", "28000", "3D000"] {
            assert!(connecting_remedy(code).contains("create the role"), "{code}");
        }
        for code in ["", "57P03"] {
            assert!(connecting_remedy(code).starts_with("start it"), "{code}");
        }
    }

    #[test]
    fn servers_of_other_versions_than_the_tested_ones_are_told() {
        for (version_number, verdict) in
            [(130_020, Verdict::Fail), (140_000, Verdict::Ok), (180_001, Verdict::Ok), (190_000, Verdict::Warn)]
        {
            assert_eq!(version(&Server { version_number, ..server() }).verdict, verdict, "{version_number}");
        }
    }

    #[test]
    fn clear_text_is_warned_about_where_it_leaves_the_host() {
        let reached = |address: Option<&str>, tls: Option<&str>| Server {
            address: address.map(|address| address.parse().unwrap()),
            tls: tls.map(str::to_owned),
            ..server()
        };
        for (server, verdict) in [
            (reached(None, None), Verdict::Ok),
            (reached(Some("127.0.0.1"), None), Verdict::Ok),
            (reached(Some("::1"), None), Verdict::Ok),
            (reached(Some("10.0.0.5"), None), Verdict::Warn),
            (reached(Some("10.0.0.5"), Some("TLSv1.3")), Verdict::Ok),
        ] {
            assert_eq!(tls(&server, Tls::Prefer).verdict, verdict, "{server:?}");
        }
    }

    #[test]
    fn a_limit_itself_is_still_fine() {
        assert_eq!(notification_queue(0.1).verdict, Verdict::Ok);
        assert_eq!(notification_queue(0.11).verdict, Verdict::Warn);
        for seconds in [-5, 5] {
            let ahead = |millis, round_trip| Ahead {
                by: SignedDuration::from_millis(millis),
                round_trip: SignedDuration::from_secs(round_trip),
            };
            assert_eq!(clock(ahead(seconds * 1000, 0)).verdict, Verdict::Ok);
            assert_eq!(clock(ahead(seconds * 1001, 0)).verdict, Verdict::Warn);
            assert_eq!(clock(ahead(seconds * 1000, 1)).verdict, Verdict::Warn, "nobody can say");
        }
        let waiting = |oldest_s| backlog(Backlog { pending: 1, in_flight: 0, oldest_s: Some(oldest_s) });
        assert_eq!(waiting(300.0).verdict, Verdict::Ok);
        assert_eq!(waiting(301.0).verdict, Verdict::Warn);
    }

    #[test]
    fn a_dead_daemon_and_one_of_another_version_are_told() {
        let seen = |unseen_s: f64, version: &str| Daemon {
            host: "web1".to_owned(),
            process_id: 7,
            version: version.to_owned(),
            unseen_s,
        };
        let own = env!("CARGO_PKG_VERSION");
        let verdicts = daemons(&[seen(2.0, own), seen(30.0, own), seen(2.0, "0.0.1")]);
        let verdicts: Vec<_> = verdicts.into_iter().map(|line| line.verdict).collect();
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Warn, Verdict::Warn]);
        assert_eq!(daemons(&[])[0].verdict, Verdict::Warn);
    }

    #[test]
    fn a_moved_mark_is_a_warning_that_promises_nothing() {
        let missed = |times, swept_s| missed(Missed { times, swept_s });
        assert_eq!(missed(0, None).verdict, Verdict::Ok);
        assert!(missed(1, None).finding.contains("once"));
        let line = missed(12, None);
        assert_eq!(line.verdict, Verdict::Warn);
        assert!(line.finding.contains("12 times") && line.finding.contains("may have been missed"));
        let line = missed(12, Some(60.0));
        assert_eq!(line.verdict, Verdict::Warn);
        assert!(line.finding.contains("had been queued") && line.remedy.unwrap().contains("came back"));
        assert_eq!(missed(12, Some(2.0 * NEWS)).verdict, Verdict::Ok, "it warns no longer");
    }
}
