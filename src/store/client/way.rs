//! How a client's statements are sent: as the driver does it, or each in a transaction of its own and without a name.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::{join, join3};
use tokio_postgres::{Error, Row, types::Type};

use super::Param;

/// What a pooled client knows.
#[derive(Debug)]
pub(super) struct Pooled {
    /// What every transaction sets first, as SQL that ends with a semicolon.
    settings: Mutex<String>,
    /// Whether a transaction was begun and not ended by what was sent so far: answers may still be under way.
    is_open: AtomicBool,
    types: Mutex<HashMap<String, Statement>>,
}

impl Pooled {
    pub(super) fn new(settings: &str) -> Self {
        let settings = Mutex::new(format!("{settings};\n"));
        Self { settings, is_open: AtomicBool::new(false), types: Mutex::default() }
    }

    /// Sets something more in every transaction that begins from here on.
    pub(super) fn set(&self, settings: &str) {
        let mut all = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        *all = format!("{all}{settings};\n");
    }

    /// Notes that what is sent from here on is within a transaction, or is not.
    pub(super) fn open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }

    fn types(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.types.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> String {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `begin` with our settings behind its first statement.
    pub(super) fn begin(&self, begin: &str) -> String {
        let (begin, rest) = begin.split_once(';').unwrap_or((begin, ""));
        let begin = begin.replacen("BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED", 1);
        format!("{begin};\n{}{rest}", self.settings())
    }
}

/// A statement that is ready for use.
#[derive(Debug, Clone)]
pub struct Statement {
    sql: Arc<str>,
    types: Arc<[Type]>,
    /// `None`: it has no name at the server.
    prepared: Option<tokio_postgres::Statement>,
}

impl Statement {
    pub(super) fn prepared(sql: &str, prepared: tokio_postgres::Statement) -> Self {
        Self { sql: sql.into(), types: prepared.params().into(), prepared: Some(prepared) }
    }

    pub(super) fn unnamed(sql: &str, types: impl Into<Arc<[Type]>>) -> Self {
        Self { sql: sql.into(), types: types.into(), prepared: None }
    }
}

/// What a query can be: a [`Statement`], or the SQL itself for what is asked once.
pub trait Sql {
    #[doc(hidden)]
    fn text(&self) -> Result<&str, &Statement>;
}

impl Sql for str {
    fn text(&self) -> Result<&str, &Statement> {
        Ok(self)
    }
}

impl Sql for String {
    fn text(&self) -> Result<&str, &Statement> {
        Ok(self)
    }
}

impl Sql for Statement {
    fn text(&self) -> Result<&str, &Statement> {
        Err(self)
    }
}

/// How statements are sent.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) driver: &'a tokio_postgres::Client,
    pub(super) pooled: Option<&'a Pooled>,
}

/// What the driver is asked for, for each of its two kinds of statements.
macro_rules! send {
    ($way:expr, $statement:expr, $params:expr, $named:ident, $unnamed:ident) => {
        match ($way.pooled, $statement.text()) {
            // Boxed, so that a direct session's futures are no larger for it.
            (Some(pooled), statement) => {
                let work = async move {
                    let (sql, types) = $way.unnamed(pooled, statement, $params.len()).await?;
                    let params: Vec<_> = $params.iter().copied().zip(types.iter().cloned()).collect();
                    $way.run(pooled, $way.driver.$unnamed(&sql, &params)).await
                };
                Box::pin(work).await
            }
            (None, Ok(sql)) => $way.driver.$named(sql, $params).await,
            (None, Err(Statement { prepared: Some(statement), .. })) => $way.driver.$named(statement, $params).await,
            (None, Err(Statement { sql, .. })) => $way.driver.$named(&**sql, $params).await,
        }
    };
}

impl Way<'_> {
    pub(super) async fn query<S: Sql + ?Sized>(self, statement: &S, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
        send!(self, statement, params, query, query_typed)
    }

    pub(super) async fn query_one<S: Sql + ?Sized>(self, statement: &S, params: &[Param<'_>]) -> Result<Row, Error> {
        send!(self, statement, params, query_one, query_typed_one)
    }

    pub(super) async fn query_opt<S: Sql + ?Sized>(
        self,
        statement: &S,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, Error> {
        send!(self, statement, params, query_opt, query_typed_opt)
    }

    pub(super) async fn execute<S: Sql + ?Sized>(self, statement: &S, params: &[Param<'_>]) -> Result<u64, Error> {
        send!(self, statement, params, execute, execute_typed)
    }

    pub(super) async fn batch_execute(self, sql: &str) -> Result<(), Error> {
        match self.pooled {
            None => self.driver.batch_execute(sql).await,
            Some(pooled) => Box::pin(self.run(pooled, self.driver.batch_execute(sql))).await,
        }
    }

    /// One statement, in a transaction of its own where none is open. All of it is sent when this is first polled.
    async fn run<T>(self, pooled: &Pooled, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        if pooled.is_open() {
            return work.await;
        }
        let begin = pooled.begin("BEGIN");
        let (begin, commit) = (self.driver.batch_execute(&begin), self.driver.batch_execute("COMMIT"));
        let (begun, done, committed) = join3(begin, work, commit).await;
        begun?;
        let done = done?;
        committed?;
        Ok(done)
    }

    /// SQL and the types of its parameters, of which there are `count`.
    async fn unnamed(
        self,
        pooled: &Pooled,
        statement: Result<&str, &Statement>,
        count: usize,
    ) -> Result<(Arc<str>, Arc<[Type]>), Error> {
        let Statement { sql, types, .. } = match statement {
            Ok(sql) if count == 0 => return Ok((sql.into(), Arc::default())),
            Ok(sql) => self.ask_types(pooled, sql).await?,
            Err(statement) => statement.clone(),
        };
        Ok((sql, types))
    }

    /// Asks for the types by preparing the statement, which is closed again within the same transaction: a name that were
    /// left there would meet the next one of the kind.
    pub(super) async fn ask_types(self, pooled: &Pooled, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = pooled.types().get(sql) {
            return Ok(statement.clone());
        }
        let types = |prepared: tokio_postgres::Statement| Arc::<[Type]>::from(prepared.params());
        let types = if pooled.is_open() {
            self.driver.prepare(sql).await.map(types)?
        } else {
            let begin = pooled.begin("BEGIN");
            let (begun, prepared) = join(self.driver.batch_execute(&begin), self.driver.prepare(sql)).await;
            let types = prepared.map(types);
            let ended = self.driver.batch_execute("COMMIT").await;
            begun?;
            let types = types?;
            ended?;
            types
        };
        let statement = Statement::unnamed(sql, types);
        pooled.types().insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }
}
