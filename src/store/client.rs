//! The driver's client as the other files use it: the same calls, whether the session is the server's own or goes through
//! a pooler.
//!
//! **Direct**: every call is the driver's, with prepared statements and settings that last as long as the session.
//!
//! **Pooled**: a pooler in transaction mode gives each transaction a server session of its choice, and takes it back at the
//! end; what is set, prepared or listened to there is lost to us and left to others. So each statement is a transaction of
//! its own, which begins with our settings as SET LOCAL and travels in one go with it, and statements have no name. The
//! driver needs the types of a statement's parameters for that; they are asked for once.

mod way;

use tokio_postgres::{
    Error, IsolationLevel, Row, SimpleQueryMessage,
    types::{ToSql, Type},
};

use self::way::{Pooled, Way};
pub use self::way::{Sql, Statement};
use super::rows;

/// A setting and its value.
pub type Setting = (&'static str, &'static str);

/// A parameter of a statement.
pub type Param<'a> = &'a (dyn ToSql + Sync);

/// One `SELECT` that sets them; `is_local` is an SQL expression: whether for the transaction only.
pub(super) fn setting_sql(settings: &[Setting], is_local: &str) -> String {
    let set = |(name, value): &Setting| format!("pg_catalog.set_config('{name}', '{value}', {is_local})");
    format!("SELECT {}", settings.iter().map(set).collect::<Vec<_>>().join(",\n       "))
}

/// A client.
#[derive(Debug)]
pub struct Client {
    driver: tokio_postgres::Client,
    pooled: Option<Pooled>,
}

impl Client {
    /// A client of a session that is the server's own.
    pub(super) fn direct(driver: tokio_postgres::Client) -> Self {
        Self { driver, pooled: None }
    }

    /// A client behind a pooler; `settings` is SQL for the begin of every transaction.
    pub(super) fn pooled(driver: tokio_postgres::Client, settings: &str) -> Self {
        Self { driver, pooled: Some(Pooled::new(settings)) }
    }

    /// The same, once it is known that the pooler keeps one session of the server's for it.
    pub(super) fn into_direct(self) -> Self {
        Self::direct(self.driver)
    }

    /// Whether the server's session may be another one in each transaction.
    pub fn is_pooled(&self) -> bool {
        self.pooled.is_some()
    }

    /// The driver's own, for a library that wants it.
    pub(super) fn driver(&mut self) -> &mut tokio_postgres::Client {
        &mut self.driver
    }

    fn way(&self) -> Way<'_> {
        Way { driver: &self.driver, pooled: self.pooled.as_ref() }
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.driver.is_closed()
    }

    /// Makes these settings for all that is sent from here on.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn set(&self, name: &str, settings: &[Setting]) -> Result<(), Error> {
        let Some(pooled) = &self.pooled else {
            return self.driver.batch_execute(&format!("-- {name}\n{}", setting_sql(settings, "false"))).await;
        };
        pooled.set(&setting_sql(settings, "true"));
        Ok(())
    }

    /// Makes a statement ready for use.
    ///
    /// # Errors
    /// What the database says of it, or that the connection is lost.
    pub async fn prepare(&self, sql: &str) -> Result<Statement, Error> {
        match &self.pooled {
            None => Ok(Statement::prepared(sql, self.driver.prepare(sql).await?)),
            Some(pooled) => Box::pin(self.way().ask_types(pooled, sql)).await,
        }
    }

    /// The same of a statement whose first parameter is [`Rows`](super::rows::Rows) of our `table`; `others` are the types of
    /// its others. Behind a pooler the driver is not left to ask for a table's type: it would in statements that have names.
    ///
    /// # Errors
    /// What the database says of it, or that the connection is lost.
    pub(super) async fn prepare_of_rows(&self, sql: &str, table: &str, others: &[Type]) -> Result<Statement, Error> {
        if !self.is_pooled() {
            return self.prepare(sql).await;
        }
        let rows = rows::type_of(self, table).await?;
        Ok(Statement::unnamed(sql, [&[rows], others].concat()))
    }

    /// The types of the columns that `sql` gives, and how many parameters it takes; only where the session is direct.
    ///
    /// # Errors
    /// As [`prepare`](Self::prepare).
    pub(super) async fn describe(&self, sql: &str) -> Result<(Vec<Type>, usize), Error> {
        let statement = self.driver.prepare(sql).await?;
        let columns = statement.columns().iter().map(|column| column.type_().clone()).collect();
        Ok((columns, statement.params().len()))
    }

    /// The rows of a query.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn query<S: Sql + ?Sized>(&self, statement: &S, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        self.way().query(statement, params).await
    }

    /// The one row of a query.
    ///
    /// # Errors
    /// What the database says, that it is not one row, or that the connection is lost.
    pub async fn query_one<S: Sql + ?Sized>(&self, statement: &S, params: &[Param<'_>]) -> Result<Row, Error> {
        self.way().query_one(statement, params).await
    }

    /// The row of a query, if there is one.
    ///
    /// # Errors
    /// What the database says, that there are more, or that the connection is lost.
    pub async fn query_opt<S: Sql + ?Sized>(&self, statement: &S, params: &[Param<'_>]) -> Result<Option<Row>, Error> {
        self.way().query_opt(statement, params).await
    }

    /// Runs a statement and tells how many rows it touched.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn execute<S: Sql + ?Sized>(&self, statement: &S, params: &[Param<'_>]) -> Result<u64, Error> {
        self.way().execute(statement, params).await
    }

    /// Runs SQL whose rows nobody wants; it begins and ends no transaction.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.way().batch_execute(sql).await
    }

    /// Runs SQL that begins a transaction with its first statement and ends it with its last; what it gives, as text.
    ///
    /// # Errors
    /// What the database says, with the transaction left open, or that the connection is lost.
    pub(super) async fn whole_transaction(&self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Error> {
        match &self.pooled {
            None => self.driver.simple_query(sql).await,
            Some(pooled) => self.driver.simple_query(&pooled.begin(sql)).await,
        }
    }

    /// Begins a transaction for statements that travel together: `begin` is `BEGIN` and what follows it at once.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn begin(&self, begin: &str) -> Result<(), Error> {
        let Some(pooled) = &self.pooled else { return self.driver.batch_execute(begin).await };
        pooled.open(true);
        self.driver.batch_execute(&pooled.begin(begin)).await
    }

    /// Commits what [`begin`](Self::begin) began.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost. Of a transaction that has failed it says nothing.
    pub async fn commit(&self) -> Result<(), Error> {
        self.end("COMMIT").await
    }

    /// Takes back what [`begin`](Self::begin) began.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn roll_back(&self) -> Result<(), Error> {
        self.end("ROLLBACK").await
    }

    async fn end(&self, how: &str) -> Result<(), Error> {
        if let Some(pooled) = &self.pooled {
            pooled.open(false);
        }
        self.driver.batch_execute(how).await
    }

    /// Begins a transaction that rolls back when it is dropped.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, Error> {
        let Self { driver, pooled } = self;
        let Some(pooled) = pooled else {
            return Ok(Transaction { driver: driver.transaction().await?, open: Open(None) });
        };
        let level = IsolationLevel::ReadCommitted;
        let driver = driver.build_transaction().isolation_level(level).start().await?;
        driver.batch_execute(&pooled.settings()).await?;
        pooled.open(true);
        Ok(Transaction { driver, open: Open(Some(pooled)) })
    }
}

/// A transaction; it rolls back when it is dropped.
pub struct Transaction<'a> {
    driver: tokio_postgres::Transaction<'a>,
    open: Open<'a>,
}

/// Whose transaction is open until this is dropped.
struct Open<'a>(Option<&'a Pooled>);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(pooled) = self.0 {
            pooled.open(false);
        }
    }
}

impl Transaction<'_> {
    fn way(&self) -> Way<'_> {
        Way { driver: self.driver.client(), pooled: self.open.0 }
    }

    /// As [`Client::query`].
    ///
    /// # Errors
    /// The same.
    pub async fn query<S: Sql + ?Sized>(&self, statement: &S, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        self.way().query(statement, params).await
    }

    /// As [`Client::query_one`].
    ///
    /// # Errors
    /// The same.
    pub async fn query_one<S: Sql + ?Sized>(&self, statement: &S, params: &[Param<'_>]) -> Result<Row, Error> {
        self.way().query_one(statement, params).await
    }

    /// As [`Client::execute`].
    ///
    /// # Errors
    /// The same.
    pub async fn execute<S: Sql + ?Sized>(&self, statement: &S, params: &[Param<'_>]) -> Result<u64, Error> {
        self.way().execute(statement, params).await
    }

    /// As [`Client::batch_execute`].
    ///
    /// # Errors
    /// The same.
    pub async fn batch_execute(&self, sql: &str) -> Result<(), Error> {
        self.driver.batch_execute(sql).await
    }

    /// Commits it.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn commit(self) -> Result<(), Error> {
        self.driver.commit().await
    }

    /// Takes it back.
    ///
    /// # Errors
    /// That the connection is lost.
    pub async fn rollback(self) -> Result<(), Error> {
        self.driver.rollback().await
    }
}
