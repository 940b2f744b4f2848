//! What most commands begin with: the configuration, the key ring, a session.

use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::{
    config::{self, Config},
    keyring::KeyRing,
    pipeline::Pipeline,
    secret::Secret,
    store::{
        connect::{self, ConnectError},
        install, notifications,
        session::Session,
    },
};

use super::{Failure, database::failed};

/// The configuration that a command runs under.
pub(super) struct Context {
    /// Validated.
    pub(super) config: Config,
    /// Where it came from, for a reload.
    pub(super) config_file: Option<PathBuf>,
}

impl Context {
    /// Loads the configuration; every problem of it at once.
    pub(super) fn load(config_file: Option<PathBuf>) -> Result<Self, Failure> {
        let config = config::load(config_file.as_deref()).map_err(|error| Failure::Configuration(error.to_string()))?;
        Ok(Self { config, config_file })
    }

    /// Reads the key file.
    pub(super) fn keyring(&self) -> Result<KeyRing, Failure> {
        KeyRing::read(&self.config.keys_file).map_err(|error| Failure::Configuration(error.to_string()))
    }

    /// The admin listener's token of the operator; `None`: it has no API.
    pub(super) fn operators_token(&self) -> Result<Option<Secret<String>>, Failure> {
        self.config.admin.token.clone().map_err(|problem| Failure::Configuration(problem.to_string()))
    }

    /// What opens, checks and sends.
    pub(super) fn pipeline(&self) -> Result<Pipeline, Failure> {
        Ok(Pipeline::new(&self.config, self.keyring()?)?)
    }

    /// A session as the daemon's user.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        self.connect(&self.config.database.url).await
    }

    /// A session as the user that may create triggers.
    pub(super) async fn owner_session(&self) -> Result<Session, Failure> {
        self.vetted(self.connect(&self.config.database.owner_url).await?).await
    }

    /// The same for work that needs one and the same session from its beginning to its end: its settings, and a lock that
    /// keeps others off. `command` is that work.
    ///
    /// # Errors
    /// [`Failure::Configuration`] behind a pooler that does not give one.
    pub(super) async fn lasting_owner_session(&self, command: &str) -> Result<Session, Failure> {
        let database = &self.config.database;
        let (sender, mut heard) = mpsc::channel(1);
        let session = connect::connect_listening(&database.owner_url, database, sender).await.map_err(failure)?;
        if !session.client.is_pooled() {
            return self.vetted(Session::new(session)).await;
        }
        let notifying = self.owner_session().await?;
        let lasting = notifications::lasting(session, &mut heard, notifying.shared()).await.map_err(failed(self))?;
        lasting.map(Session::new).ok_or_else(|| {
            Failure::Configuration(format!(
                "database.owner_url leads through a pooler that does not keep a session together, as in transaction mode: \
                 `lead-webhook {command}` needs one of its own. Set database.owner_url to the server itself"
            ))
        })
    }

    /// The session of `owner_url`, looked at before it touches anything of ours.
    async fn vetted(&self, session: Session) -> Result<Session, Failure> {
        let looked = install::see_that_nothing_is_planted(session.shared(), &self.config.database.owner_role);
        looked.await.map_err(Failure::operation)?;
        Ok(session)
    }

    async fn connect(&self, url: &Secret<String>) -> Result<Session, Failure> {
        connect::connect(url, &self.config.database).await.map(Session::new).map_err(failure)
    }
}

/// Why there is no session, as a command's end.
fn failure(error: ConnectError) -> Failure {
    if error.may_pass() { Failure::operation(error) } else { Failure::Configuration(error.to_string()) }
}
