//! One step of a plan: what `--dry-run` prints is the text that is run.
//!
//! Every step is a transaction of its own with a bounded wait for locks, tried again until it is through: while a step
//! waits, whoever comes after it in the lock's queue waits too, so it gives way often and soon.

use std::time::{Duration, Instant};

use refinery::Migration;
use tokio::time::sleep;

use super::{
    error::InstallError,
    history::{self, HISTORY},
};
use crate::store::{capture_clock::NOTE, client::Client, identifier};

/// For a lock on the application's table. Nobody notices a fifth of a second.
const PATIENCE_WITH_LEADS: &str = "200ms";

/// For a lock on a table of ours: a daemon's transactions are short.
const PATIENCE_WITH_OURS: &str = "2s";

/// How long a step is tried again.
const TRY_FOR: Duration = Duration::from_secs(60);

/// The first pause between two tries, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The longest pause: in a minute it is tried about fifteen times.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One step.
#[derive(Debug)]
pub(super) struct Step {
    /// What it does, imperative.
    pub(super) heading: String,
    /// How it is done.
    pub(super) action: Action,
}

/// How a step is done.
#[derive(Debug)]
pub(super) enum Action {
    /// By SQL.
    Sql(Sql),
    /// By running these migrations.
    Migrate(Vec<Migration>),
    /// By writing the installation's row.
    Install,
    /// By noting in it what this query finds, asked by the daemon's login.
    NoteLeads(String),
}

/// Statements of one transaction.
#[derive(Debug)]
pub(super) struct Sql {
    text: String,
    owner: Option<String>,
    patience: &'static str,
    may_fail: bool,
}

impl Step {
    /// Statements run as the user who is connected.
    pub(super) fn login(heading: impl Into<String>, text: impl Into<String>) -> Self {
        let sql = Sql { text: text.into(), owner: None, patience: PATIENCE_WITH_OURS, may_fail: false };
        Self { heading: heading.into(), action: Action::Sql(sql) }
    }

    /// Statements run as the owner role.
    pub(super) fn owner(role: &str, heading: impl Into<String>, text: impl Into<String>) -> Self {
        let owner = Some(role.to_owned());
        let sql = Sql { text: text.into(), owner, patience: PATIENCE_WITH_OURS, may_fail: false };
        Self { heading: heading.into(), action: Action::Sql(sql) }
    }

    /// The statements lock a table of the application's.
    pub(super) fn locking_leads(mut self) -> Self {
        if let Action::Sql(sql) = &mut self.action {
            sql.patience = PATIENCE_WITH_LEADS;
        }
        self
    }

    /// The server may refuse it: the report then says so, and the plan goes on.
    pub(super) fn that_may_fail(mut self) -> Self {
        if let Action::Sql(sql) = &mut self.action {
            sql.may_fail = true;
        }
        self
    }

    /// The step as SQL, for `--dry-run`.
    pub(super) fn print(&self, owner_role: &str) -> String {
        let heading = format!("-- {}\n", self.heading);
        let owner = identifier(owner_role);
        match &self.action {
            Action::Sql(sql) => format!("{heading}BEGIN;\n{}{}\nCOMMIT;\n", sql.setting(), sql.text.trim()),
            Action::Migrate(migrations) => {
                let each = migrations.iter().map(|migration| {
                    let sql = migration.sql().unwrap_or_default().trim();
                    format!("BEGIN;\nSET LOCAL ROLE {owner};\n-- {migration}, noted in {HISTORY}\n{sql}\nCOMMIT;\n")
                });
                format!("{heading}{}", each.collect::<String>())
            }
            Action::Install => format!(
                "{heading}BEGIN;\nSET LOCAL ROLE {owner};\n-- $1: a new id; $2: the server's system identifier; $4, $5: \
                 made with the key file\n{}\nCOMMIT;\n",
                history::INSTALL
            ),
            Action::NoteLeads(newest) => format!(
                "{heading}-- in a session of database.url's login, because what is mapped may run code:\n{newest};\nBEGIN;\n\
                 SET LOCAL ROLE {owner};\n-- $1: what that found\n{NOTE};\nCOMMIT;\n"
            ),
        }
    }
}

impl Sql {
    fn setting(&self) -> String {
        let role =
            self.owner.as_ref().map_or_else(String::new, |role| format!("SET LOCAL ROLE {};\n", identifier(role)));
        format!("SET LOCAL lock_timeout = '{}';\n{role}", self.patience)
    }

    /// Runs the transaction until it is through. `Some`: the server refused what may fail, and said this.
    pub(super) async fn run(&self, client: &mut Client, heading: &str) -> Result<Option<String>, InstallError> {
        let started = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let Err(source) = self.run_once(client).await else { return Ok(None) };
            let code = source.code().map(|code| code.code().to_owned());
            match code.as_deref() {
                // lock_not_available, deadlock_detected
                Some("55P03" | "40P01") if started.elapsed() < TRY_FOR => {
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Some("55P03" | "40P01") => {
                    return Err(InstallError::Busy { heading: heading.to_owned(), waited: started.elapsed() });
                }
                Some(_) if self.may_fail => return Ok(Some(crate::store::said(&source))),
                _ => return Err(InstallError::Step { heading: heading.to_owned(), source }),
            }
        }
    }

    async fn run_once(&self, client: &mut Client) -> Result<(), tokio_postgres::Error> {
        let transaction = client.transaction().await?;
        transaction.batch_execute(&format!("{}{}", self.setting(), self.text)).await?;
        transaction.commit().await
    }
}
