//! A few sessions with the database, opened when they are needed and used again.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::{
    config::Database,
    store::{
        connect::{self, ConnectError},
        session::Session,
    },
};

/// Connections at once: those who look at a page are few, and the database is the application's.
const MOST: usize = 4;

/// What nobody waits for any more is not to go on at the server.
const LIMIT: &str = "SET statement_timeout = '25s'";

/// Nobody waits longer for a session.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoSession {
    /// All of them are in use.
    #[error("all sessions with the database are in use")]
    Busy,
    /// It does not answer.
    #[error("the database does not answer")]
    Silent,
    /// It refuses, or cannot be reached.
    #[error(transparent)]
    Refused(#[from] ConnectError),
}

/// Hands sessions out.
#[derive(Clone)]
pub struct Sessions {
    database: Arc<Database>,
    free: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Session>>>,
}

impl Sessions {
    /// Of this database.
    pub fn new(database: Arc<Database>) -> Self {
        Self { database, free: Arc::new(Semaphore::new(MOST)), idle: Arc::default() }
    }

    /// The configuration of their database.
    pub(super) fn database(&self) -> &Database {
        &self.database
    }

    /// A session for one request.
    pub(super) async fn take(&self) -> Result<Taken, NoSession> {
        let permit = timeout(PATIENCE, self.free.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else { return Err(NoSession::Busy) };
        let idle = std::iter::from_fn(|| self.idle().pop()).find(|session| !session.is_closed());
        let session = match idle {
            Some(session) => session,
            None => {
                let opened = timeout(PATIENCE, connect::connect(&self.database.url, &self.database)).await;
                let mut session = Session::new(opened.map_err(|_| NoSession::Silent)??);
                // Behind a pooler it would be somebody else's setting next.
                if !session.shared().is_pooled() {
                    let limited = session.client().batch_execute(LIMIT).await;
                    limited.map_err(|_| NoSession::Silent)?;
                }
                session
            }
        };
        Ok(Taken { session, kept: Arc::clone(&self.idle), _permit: permit })
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is in use. It is closed when it is dropped: somebody may have gone in the middle of a statement.
pub(super) struct Taken {
    session: Session,
    kept: Arc<Mutex<Vec<Session>>>,
    _permit: OwnedSemaphorePermit,
}

impl Taken {
    /// Nothing is under way in it any more: the next one may have it.
    pub(super) fn keep(self) {
        let Self { session, kept, _permit } = self;
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}

impl Deref for Taken {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}
