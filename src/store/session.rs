//! One session with the database that keeps its prepared statements.
//!
//! There is no pool: the daemon has three sessions (listening, claims, records), a command has one.

use std::collections::HashMap;

use tokio_postgres::{Client, Error, Row, Statement, Transaction, types::ToSql};

/// A parameter of a statement.
pub type Param<'a> = &'a (dyn ToSql + Sync);

/// A connected session.
pub struct Session {
    client: Client,
    prepared: HashMap<String, Statement>,
}

impl Session {
    /// Wraps a connected client.
    pub fn new(client: Client) -> Self {
        Self { client, prepared: HashMap::new() }
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

    /// Begins a transaction; it rolls back when it is dropped.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.client.transaction().await
    }
}
