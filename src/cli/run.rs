//! `lead-webhook run`: the daemon.

use crate::{
    daemon::{Daemon, Ended, StartError},
    keyring::KeyRing,
    telemetry,
};

use super::{Failure, context::Context};

/// Runs until a signal ends it.
pub(super) async fn run(context: Context) -> Result<(), Failure> {
    let keyring = keyring(&context)?;
    let level = telemetry::begin(&context.config.log).map_err(|error| Failure::Configuration(error.to_string()))?;
    let daemon = Daemon { config: context.config, config_file: context.config_file, keyring, level };
    match daemon.run().await {
        Ok(Ended::Drained) => Ok(()),
        Ok(Ended::InDoubt) => Err(Failure::Said),
        Err(StartError::Client(error)) => Err(error.into()),
        Err(error @ StartError::Admin { .. }) => Err(Failure::operation(error)),
        Err(StartError::Signals(error)) => Err(Failure::of_the_system("signals cannot be listened to", &error)),
    }
}

/// The key ring, where nothing is wrong with any of the files that the daemon needs; else all of it.
fn keyring(context: &Context) -> Result<KeyRing, Failure> {
    let token = context.config.admin.listen.as_ref().map_or(Ok(None), |_| context.operators_token());
    match (context.keyring(), token) {
        (Ok(keyring), Ok(_)) => Ok(keyring),
        (Err(keys), Err(token)) => Err(Failure::Configuration(format!("{keys}\n{token}"))),
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    }
}
