//! `lead-webhook check`: everything that a lead's way depends on, one line each with its remedy. Reads only; safe at
//! any time.

mod endpoints;
mod judge;
mod line;

use std::time::Duration;

use self::line::{Line, Verdict};
use super::{Failure, context::Context, database::failed, output};
use crate::{
    config::{self, Notify},
    control::keys::HalfRotated,
    dispatch::guard,
    keyring::KeyRing,
    pipeline::Pipeline,
    store::{
        check::{self as server, Server},
        connect, endpoints as stored, install, installation,
        mapping::MappedSql,
        outbox, retention,
        session::Session,
    },
};

/// For a notification's way through the server; it takes a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is said as it is found.
struct Report<'a> {
    context: &'a Context,
    json: bool,
    failed: usize,
    /// Whether stdout took every line.
    said: Result<(), Failure>,
}

/// Looks at everything. Exit code 1 where anything fails.
pub(super) async fn check(context: &Context, json: bool) -> Result<(), Failure> {
    let mut report = Report { context, json, failed: 0, said: Ok(()) };
    report.say(&configuration(context));
    let keyring = report.key_file();
    report.admin();
    let database = &context.config.database;
    match connect::connect(&database.url, database).await {
        Ok(connected) => report.database(&mut Session::new(connected), keyring.as_ref()).await,
        Err(error) => {
            report.say(&judge::no_session(&error));
            report.say(&Line::skipped("everything that needs the database"));
        }
    }
    match report.failed {
        0 => report.said,
        1 => Err(Failure::Operation("1 check failed".to_owned())),
        n => Err(Failure::Operation(format!("{n} checks failed"))),
    }
}

fn configuration(context: &Context) -> Line {
    let default = std::path::Path::new(config::DEFAULT_FILE);
    let from = match &context.config_file {
        Some(path) => format!("read from {} and the environment", path.display()),
        None if default.exists() => format!("read from {} and the environment", default.display()),
        None => {
            format!("read from the environment alone: --config is not given, and {} is not there", default.display())
        }
    };
    Line::ok("configuration", from)
}

impl Report<'_> {
    fn say(&mut self, line: &Line) {
        self.failed += usize::from(line.verdict == Verdict::Fail);
        let taken = if self.json { output::json(line) } else { output::data(&line.text()) };
        // Looking goes on: how much fails is told on stderr as well.
        self.said = std::mem::replace(&mut self.said, Ok(())).and(taken);
    }

    /// Says what was found, or that it could not be looked at.
    fn say_found<E: Into<Failure>>(&mut self, what: &'static str, found: Result<Line, E>) {
        let line = found.unwrap_or_else(|error| {
            Line::fail(what, format!("cannot be looked at: {}", error.into()), "mend what it says, then check again")
        });
        self.say(&line);
    }

    fn key_file(&mut self) -> Option<KeyRing> {
        match KeyRing::read(&self.context.config.keys_file) {
            Ok(keyring) => {
                let ids: Vec<_> = keyring.key_ids().map(|id| id.to_string()).collect();
                let path = self.context.config.keys_file.display();
                self.say(&Line::ok("key file", format!("{path}: {}; the first one seals", ids.join(", "))));
                Some(keyring)
            }
            Err(error) => {
                self.say(&judge::key_file(&error));
                None
            }
        }
    }

    fn admin(&mut self) {
        let config::Admin { listen, token, .. } = &self.context.config.admin;
        if let Some(listen) = listen {
            self.say(&judge::admin(listen, token));
        }
    }

    async fn database(&mut self, session: &mut Session, keyring: Option<&KeyRing>) {
        match server::server(session).await.map_err(failed(self.context)) {
            Err(failure) => return self.say_found("database", Err(failure)),
            Ok(server) => {
                self.say(&judge::version(&server));
                self.say(&judge::primary(&server));
                let way = if session.shared().is_pooled() { judge::pooler } else { judge::tls };
                self.say(&way(&server, self.context.config.database.tls));
                // What is wrong with a standby is said.
                if !server.is_standby {
                    self.notifications(session, &server).await;
                }
            }
        }
        let clocks = server::clocks(session).await.map(judge::clock).map_err(failed(self.context));
        self.say_found("clock", clocks);
        let broken = self.installed_findings(session).await;
        if broken.contains(&"tables") {
            self.say(&Line::skipped("key, queue, daemons and endpoints"));
        } else {
            if !broken.contains(&"leads") {
                self.a_lead(session).await;
            }
            self.installation(session, keyring).await;
        }
    }

    async fn notifications(&mut self, session: &mut Session, server: &Server) {
        let database = &self.context.config.database;
        self.say(&judge::notification_queue(server.notification_queue));
        if let Some(line) = judge::notify_is_off(database, server.max_prepared_transactions) {
            return self.say(&line);
        }
        if database.notify == Notify::On && server.max_prepared_transactions > 0 {
            self.say(&judge::notify_against_two_phase(server.max_prepared_transactions));
        }
        let trip = server::notify_round_trip(session, database, PATIENCE).await.map_err(failed(self.context));
        self.say_found("NOTIFY", trip.map(|trip| judge::round_trip(&trip, database.poll_interval)));
    }

    /// What the install itself says of tables, rights, mapping and triggers; which of them are broken.
    async fn installed_findings(&mut self, session: &mut Session) -> Vec<&'static str> {
        match install::verify(session.client(), &self.context.config).await {
            Ok(findings) => {
                let broken = findings.iter().filter(|finding| finding.verdict == install::Verdict::Broken);
                let broken = broken.map(|finding| finding.subject).collect();
                findings.into_iter().for_each(|finding| self.say(&Line::from(finding)));
                broken
            }
            Err(error) => {
                let remedy = match error.is_locked() {
                    true => "somebody has it locked just now: check again, or see in pg_stat_activity who",
                    false => "run `lead-webhook migrate`",
                };
                self.say(&Line::fail("tables", error.to_string(), remedy));
                vec!["tables"]
            }
        }
    }

    /// What is wrong with the mapping is said already; this finds values that it cannot read.
    async fn a_lead(&mut self, session: &mut Session) {
        let Ok(mapped) = MappedSql::resolve(session.client(), &self.context.config.leads).await else { return };
        self.say(&judge::a_lead(server::read_a_lead(session, &mapped).await));
    }

    async fn installation(&mut self, session: &mut Session, keyring: Option<&KeyRing>) {
        let context = self.context;
        let keyring = self.guard(session, keyring).await;
        let backlog = outbox::backlog(session).await.map(judge::backlog).map_err(failed(context));
        self.say_found("queue", backlog);
        match server::daemons(session).await.map_err(failed(context)) {
            Ok(daemons) => judge::daemons(&daemons).into_iter().for_each(|line| self.say(&line)),
            Err(failure) => self.say_found("daemon", Err(failure)),
        }
        let missed = server::missed(session).await.map(judge::missed).map_err(failed(context));
        self.say_found("missed leads", missed);
        let oldest = retention::oldest(session).await.map_err(failed(context));
        self.say_found("log", oldest.map(|oldest| judge::log(&context.config.retention, oldest)));
        match stored::list(session).await.map_err(failed(context)) {
            Ok(rows) => self.endpoints(&rows, keyring),
            Err(failure) => self.say_found("endpoints", Err(failure)),
        }
    }

    /// What the clone guard compares. The keys, if they are this installation's: by others nothing can be opened.
    async fn guard<'a>(&mut self, session: &mut Session, keyring: Option<&'a KeyRing>) -> Option<&'a KeyRing> {
        let found = installation::read(session).await.map_err(failed(self.context));
        let installation = match found {
            Ok(Some(installation)) => installation,
            Ok(None) => {
                self.say(&Line::fail("key", "the installation is not complete", "run `lead-webhook migrate`"));
                return None;
            }
            Err(failure) => {
                self.say_found("key", Err(failure));
                return None;
            }
        };
        let own = keyring.filter(|keyring| {
            let opened = guard::open_key(&installation, keyring);
            let half = HalfRotated::find(&installation, keyring).filter(|_| opened.is_ok());
            let opens = opened.is_ok();
            self.say(&judge::installation_key(opened.err(), half.as_ref()));
            opens
        });
        let now = installation::identity(session.shared()).await.map_err(failed(self.context));
        self.say_found("clone guard", now.map(|now| judge::identity(&installation.identity, &now)));
        own
    }

    fn endpoints(&mut self, rows: &[stored::EndpointRow], keyring: Option<&KeyRing>) {
        let pipeline = keyring.map(|keyring| Pipeline::new(&self.context.config, keyring.clone()));
        let pipeline = match pipeline {
            Some(Err(error)) => {
                self.say(&Line::fail("endpoints", error.to_string(), "correct [egress]"));
                None
            }
            Some(Ok(pipeline)) => Some(pipeline),
            None => None,
        };
        endpoints::look(rows, pipeline.as_ref()).into_iter().for_each(|line| self.say(&line));
    }
}
