//! One session with the database that keeps its prepared statements.
//!
//! There is no pool: the daemon has three sessions (listening, claims, records) and one more while it sweeps, a command
//! has one.

use std::collections::HashMap;

use tokio_postgres::{Error, Row, error::SqlState, types::Type};

use super::{
    client::{Client, Setting, Statement, Transaction},
    connect::{Connected, Life},
    said,
};

pub use super::client::Param;

/// The daemon's statements are probes by key, a few rows out of tables that may be empty when a plan is made and have
/// millions of rows while it is in use. So the plan is made once, and is one that reads by index in the index's order,
/// whatever the statistics say.
const PROBE: [Setting; 7] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_tidscan", "on"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_sort", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// A connected session. It ends when it is dropped, also where the server still owes it an answer.
pub struct Session {
    client: Client,
    prepared: HashMap<String, Statement>,
    _life: Life,
}

impl Session {
    /// The session of a connection.
    pub fn new(connected: Connected) -> Self {
        Self { client: connected.client, prepared: HashMap::new(), _life: connected.life }
    }

    /// Plans statements as probes from here on.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn probe(&self) -> Result<(), Error> {
        self.client.set("session::probe", &PROBE).await
    }

    /// Whether the connection has ended; a new session is needed then.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// The client itself, for work that is done once.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The prepared form of `sql`, made at its first use.
    ///
    /// # Errors
    /// What the database says of the statement, or that the connection is lost.
    pub async fn statement(&mut self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The prepared form of `sql`, whose first parameter is [`Rows`](super::rows::Rows) of our `table`; `others` are the types
    /// of the others.
    ///
    /// # Errors
    /// What the database says of the statement, or that the connection is lost.
    pub(super) async fn statement_of_rows(
        &mut self,
        sql: &str,
        table: &str,
        others: &[Type],
    ) -> Result<Statement, Error> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare_of_rows(sql, table, others).await?;
        self.prepared.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Runs a prepared query.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn query(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        let statement = self.statement(sql).await?;
        self.client.query(&statement, params).await
    }

    /// Runs a prepared query that gives at most one row.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn query_opt(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Option<Row>, Error> {
        let statement = self.statement(sql).await?;
        self.client.query_opt(&statement, params).await
    }

    /// Runs a prepared statement and tells how many rows it touched.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn execute(&mut self, sql: &str, params: &[Param<'_>]) -> Result<u64, Error> {
        let statement = self.statement(sql).await?;
        self.client.execute(&statement, params).await
    }

    /// The client, for statements that travel together: each is sent when its future is first polled, and none waits
    /// for the answer to the one before.
    pub fn shared(&self) -> &Client {
        &self.client
    }

    /// Begins a transaction; it rolls back when it is dropped.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.client.transaction().await
    }
}

/// What a failed statement means to an operator: the server's words, and the remedy where we know it.
///
/// `daemon_role` is `database.daemon_role`, which holds the rights on our schema.
pub fn explain(error: &Error, daemon_role: &str) -> String {
    explain_at("database.url", error, daemon_role)
}

/// The same for the session that `url` names, a key of the configuration.
pub fn explain_at(url: &str, error: &Error, daemon_role: &str) -> String {
    let said = said(error);
    let Some(code) = error.code() else { return format!("the database cannot be asked: {said}") };
    let remedy = if [SqlState::INVALID_SCHEMA_NAME, SqlState::UNDEFINED_TABLE].contains(code) {
        format!("the schema lead_webhook is not installed here: run `lead-webhook migrate`, or correct {url}")
    } else if [SqlState::UNDEFINED_COLUMN, SqlState::UNDEFINED_FUNCTION].contains(code) {
        "the schema lead_webhook is of another release: run `lead-webhook migrate`".to_owned()
    } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
        let role = super::identifier(daemon_role);
        format!(
            "the login of {url} lacks the rights of database.daemon_role: run `lead-webhook migrate`, \
             or GRANT {role} TO that login"
        )
    } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        format!(
            "{url} leads to a server that takes no writes: name the primary, add target_session_attrs=read-write, or put \
             default_transaction_read_only back to off"
        )
    } else if *code == SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE {
        // "recovery is in progress", in the server's language.
        format!("{url} leads to a standby: name the primary, or add target_session_attrs=read-write")
    } else if *code == SqlState::DISK_FULL {
        "the server's disk is full: make room there".to_owned()
    } else if *code == SqlState::PROTOCOL_VIOLATION {
        "a pooler in between refuses, because all its connections are in use or it has none to the server: its own log says why"
            .to_owned()
    } else if *code == SqlState::LOCK_NOT_AVAILABLE {
        "somebody else has it locked just now: try again, or see in pg_stat_activity who".to_owned()
    } else {
        return format!("the database refused: {said}");
    };
    format!("{remedy}. The database said: {said}")
}
