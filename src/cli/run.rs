//! `lead-webhook run`: the daemon.

use crate::{
    daemon::{Daemon, Ended, StartError},
    telemetry,
};

use super::{Failure, context::Context};

/// Runs until a signal ends it.
pub(super) async fn run(context: Context) -> Result<(), Failure> {
    let keyring = context.keyring()?;
    if context.config.admin.listen.is_some() {
        context.operators_token()?;
    }
    let level = telemetry::begin(&context.config.log).map_err(|error| Failure::Configuration(error.to_string()))?;
    let daemon = Daemon { config: context.config, config_file: context.config_file, keyring, level };
    match daemon.run().await {
        Ok(Ended::Drained) => Ok(()),
        Ok(Ended::InDoubt) => Err(Failure::Said),
        Err(StartError::Client(error)) => Err(error.into()),
        Err(error @ StartError::Admin(_)) => Err(Failure::operation(error)),
        Err(StartError::Signals(error)) => Err(Failure::of_the_system("signals cannot be listened to", &error)),
    }
}
