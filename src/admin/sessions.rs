//! A few sessions with the database, opened when they are needed and used again.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{AcquireError, Semaphore},
    time::timeout,
};

use super::{problem::Problem, shares::Shares};
use crate::{
    config::Database,
    control::token::Bearer,
    store::{
        Error,
        client::Setting,
        connect::{self, ConnectError},
        session::Session,
    },
};

/// Connections at once: those who look at a page are few, and the database is the application's. Of them those of all tenants,
/// so that the operator and the probes have theirs; and those of one tenant that looks through a long log.
const MOST: usize = 4;
const MOST_OF_TENANTS: usize = 3;
const MOST_OF_ONE: usize = 2;

/// For one of them to be free.
const WAIT: Duration = Duration::from_secs(5);

/// For all that is done in a session at once. A statement that is under way then has ended at the server by [`LIMIT`].
const WHOLE: Duration = Duration::from_secs(25);

/// It goes for what only reads as well.
const TOO_SLOW: &str = "the database did not answer in time: read what is in force before you try again";

/// What nobody waits for any more is not to go on at the server.
const LIMIT: [Setting; 1] = [("statement_timeout", "20s")];

/// Nobody waits longer for a connection to be made.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSession {
    /// All of them are in use.
    #[error("too many requests wait for the database")]
    Busy,
    /// It does not answer.
    #[error("the database does not answer")]
    Silent,
    /// It refuses, or cannot be reached.
    #[error(transparent)]
    Refused(#[from] ConnectError),
}

/// Why work in a session came to nothing.
pub(super) enum Trouble {
    /// The database did not do its part, or the connection is lost.
    Database(Error),
    /// It is refused.
    Refused(Problem),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<Problem> for Trouble {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// Hands sessions out.
#[derive(Clone)]
pub struct Sessions {
    database: Arc<Database>,
    free: Arc<Semaphore>,
    of_tenants: Arc<Semaphore>,
    of_one: Shares,
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Sessions {
    /// Of this database.
    pub fn new(database: Arc<Database>) -> Self {
        Self {
            database,
            free: Arc::new(Semaphore::new(MOST)),
            of_tenants: Arc::new(Semaphore::new(MOST_OF_TENANTS)),
            of_one: Shares::new(MOST_OF_ONE),
            idle: Arc::default(),
        }
    }

    /// Does `work` in a session, which the next one may have: not where the work was left in the middle, or the database did not
    /// do its part.
    pub(super) async fn within<T>(
        &self,
        bearer: &Bearer,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, Trouble>,
    ) -> Result<T, Problem> {
        let of_theirs = self.of_one.of(bearer);
        let permits = async {
            let of_one = of_theirs.acquire().await?;
            let of_tenants = match bearer {
                Bearer::Operator => None,
                Bearer::Tenant(_) => Some(self.of_tenants.acquire().await?),
            };
            Ok::<_, AcquireError>((of_one, of_tenants, self.free.acquire().await?))
        };
        let Ok(Ok(_permits)) = timeout(WAIT, permits).await else { return Err(NoSession::Busy.into()) };
        let mut session = self.take().await?;
        let worked = timeout(WHOLE, work(&mut session)).await;
        let done = match worked.map_err(|_| Problem::slow(TOO_SLOW))? {
            Err(Trouble::Database(error)) => return Err(Problem::database(&error, &self.database.daemon_role)),
            Err(Trouble::Refused(problem)) => Err(problem),
            Ok(done) => Ok(done),
        };
        self.idle().push(session);
        done
    }

    async fn take(&self) -> Result<Session, NoSession> {
        if let Some(session) = std::iter::from_fn(|| self.idle().pop()).find(|session| !session.is_closed()) {
            return Ok(session);
        }
        let opened = timeout(PATIENCE, connect::connect(&self.database.url, &self.database)).await;
        let session = Session::new(opened.map_err(|_| NoSession::Silent)??);
        session.shared().set("sessions::limit", &LIMIT).await.map_err(|_| NoSession::Silent)?;
        Ok(session)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
