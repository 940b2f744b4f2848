//! The command line: a file a command, over the same code as the daemon.
//!
//! Data goes to stdout, messages to stderr, and a command ends with one of the exit codes of [`Failure`].

mod adopt;
pub mod args;
mod check;
mod context;
mod database;
mod deliveries;
mod draft;
mod endpoint;
mod fields;
mod forget;
mod key;
mod migrate;
mod output;
mod preset;
mod preview;
mod progress;
mod receive;
mod reconcile;
mod run;
mod secret;
mod seed;
mod test;
mod token;
mod verify;

use std::io;

use clap::Parser as _;

use args::{Cli, Command, KeyCommand};
use context::Context;

use crate::{delivery::tls::ClientError, shortage::Shortage};

/// Why a command ended badly; each kind has an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The operation failed: 1.
    #[error("{0}")]
    Operation(String),
    /// The operation failed and everything about it is said already: 1.
    #[error("")]
    Said,
    /// The arguments are wrong: 2. Every problem, one a line.
    #[error("{0}")]
    Arguments(String),
    /// The configuration is wrong, the key file included: 78 (`EX_CONFIG` of sysexits.h), which systemd does not restart.
    #[error("{0}")]
    Configuration(String),
}

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Operation(_) | Self::Said => 1,
            Self::Arguments(_) => 2,
            Self::Configuration(_) => 78,
        }
    }

    /// What the system refuses: it may have too little of something.
    fn of_the_system(what: &str, error: &io::Error) -> Self {
        Shortage::of(error).map_or_else(|| Self::Operation(format!("{what}: {error}")), Self::operation)
    }

    /// An operation's failure from anything that can be shown.
    fn operation(error: impl std::fmt::Display) -> Self {
        Self::Operation(error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Short(shortage) => Self::operation(shortage),
            error => Self::Configuration(error.to_string()),
        }
    }
}

/// Tells that there is no runtime to run anything by; the exit code.
pub fn without_runtime(error: &io::Error) -> u8 {
    ended(Err(Failure::of_the_system("the runtime cannot be made", error)))
}

/// Reads the arguments, runs the command and returns the process's exit code.
pub async fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(shown) => {
            let printed = shown.print();
            // Help and version are answers, not errors.
            return if shown.use_stderr() { 2 } else { ended(output::taken(printed)) };
        }
    };
    ended(dispatch(cli).await)
}

/// Tells what failed; the exit code.
fn ended(result: Result<(), Failure>) -> u8 {
    let Err(failure) = result else { return 0 };
    let failure = match (failure, Shortage::present()) {
        // Nothing is wrong with a file that could not be opened for that.
        (Failure::Configuration(_), Some(shortage)) => Failure::operation(shortage),
        (failure, _) => failure,
    };
    let text = failure.to_string();
    if !text.is_empty() {
        output::error(&text);
    }
    failure.exit_code()
}

async fn dispatch(cli: Cli) -> Result<(), Failure> {
    // Loaded by the commands that need it: a key file is made before there is anything to configure.
    let context = || Context::load(cli.config);
    match cli.command {
        Command::Key(KeyCommand::Generate { out }) => key::generate(out.as_deref()),
        Command::Key(KeyCommand::Rotate { reseal, drop_old, json }) => {
            key::rotate::rotate(&context()?, reseal.as_deref(), drop_old, json).await
        }
        Command::Verify { secret_file, signature, id, timestamp, body_file } => {
            verify::verify(verify::Words { secret_file, signature, id, timestamp, body_file })
        }
        Command::Receive { listen, secret_file, respond, delay, ca_file, json } => {
            let delay = delay.unwrap_or_default();
            receive::receive(receive::Options { listen, secret_file, respond, delay, ca_file, json }).await
        }
        Command::Run => run::run(context()?).await,
        Command::Migrate { dry_run, published } => migrate::migrate(&context()?, dry_run, published).await,
        Command::Uninstall { keep_log, dry_run } => migrate::uninstall(&context()?, keep_log, dry_run).await,
        Command::Seed => seed::seed(&context()?).await,
        Command::Adopt { queue, restored } => adopt::adopt(&context()?, &queue, restored).await,
        Command::Check { json } => check::check(&context()?, json).await,
        Command::Reconcile { since, json } => reconcile::reconcile(&context()?, since.as_deref(), json).await,
        Command::Endpoint(command) => endpoint::run(&context()?, command).await,
        Command::Secret(command) => secret::run(&context()?, command).await,
        Command::Test { tenant, draft, re_engaged, json } => {
            test::run(&context()?, &tenant, &test::Options { draft, re_engaged, json }).await
        }
        Command::Preset(command) => preset::run(command),
        Command::Token { tenant, ttl, json } => token::mint(&context()?, &tenant, ttl, json),
        Command::Forget { lead, tenant } => forget::forget(&context()?, &lead, tenant.as_deref()).await,
        Command::Preview { tenant, template, no_template, omit_empty, last, re_engaged, json } => {
            let draft = args::Draft { template, no_template, omit_empty, ..args::Draft::default() };
            let options = preview::Options { draft, last, re_engaged, json };
            preview::run(&context()?, &tenant, &options).await
        }
        Command::Deliveries(command) => deliveries::run(&context()?, command).await,
    }
}
