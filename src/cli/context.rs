//! What most commands begin with: the configuration, the key ring, a session.

use std::path::PathBuf;

use crate::{
    config::{self, Config},
    keyring::KeyRing,
    pipeline::Pipeline,
    secret::Secret,
    store::{connect, session::Session},
};

use super::Failure;

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

    /// What opens, checks and sends.
    pub(super) fn pipeline(&self) -> Result<Pipeline, Failure> {
        Pipeline::new(&self.config, self.keyring()?).map_err(|error| Failure::Configuration(error.to_string()))
    }

    /// A session as the daemon's user.
    pub(super) async fn session(&self) -> Result<Session, Failure> {
        self.connect(&self.config.database.url).await
    }

    /// A session as the user that may create triggers and read every lead.
    pub(super) async fn owner_session(&self) -> Result<Session, Failure> {
        self.connect(&self.config.database.owner_url).await
    }

    async fn connect(&self, url: &Secret<String>) -> Result<Session, Failure> {
        let connected = connect::connect(url, &self.config.database).await.map_err(|error| {
            if error.may_pass() { Failure::operation(error) } else { Failure::Configuration(error.to_string()) }
        })?;
        Ok(Session::new(connected))
    }
}
