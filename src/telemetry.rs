//! The daemon's log lines: text on a terminal, JSON otherwise, or the journal's own protocol.
//!
//! What may stand in a line is decided where the line is written; nothing secret or personal ever does.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, Registry, filter::Targets, layer::SubscriberExt as _, reload, util::SubscriberInitExt as _,
};

use crate::config::{Format, Level, Log};

/// Changes the level while the daemon runs.
pub struct LevelSwitch(reload::Handle<Targets, Registry>);

impl LevelSwitch {
    /// Sets the level.
    pub fn set(&self, level: Level) {
        // Fails only when the subscriber is gone, with the process.
        let _ = self.0.reload(targets(level));
    }
}

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal's socket is not there.
    #[error("log.format: the journal cannot be reached; use `json` or `text`")]
    Journal(#[source] io::Error),
    /// Somebody set a subscriber before.
    #[error("logging is set up already")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Begins logging to stderr or the journal.
///
/// # Errors
/// [`LogError`].
pub fn begin(log: &Log) -> Result<LevelSwitch, LogError> {
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let is_terminal = io::stderr().is_terminal();
    let format = match log.format {
        Format::Auto if is_terminal => Format::Text,
        Format::Auto => Format::Json,
        chosen => chosen,
    };
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        // Fields by their own names: `journalctl TENANT_ID=acme`.
        Format::Journald => tracing_journald::layer().map_err(LogError::Journal)?.with_field_prefix(None).boxed(),
        Format::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(io::stderr)
            .boxed(),
        Format::Text | Format::Auto => {
            let lines = tracing_subscriber::fmt::layer().with_target(false).with_writer(io::stderr);
            // By itself it asks NO_COLOR, but not whether it is a terminal.
            if is_terminal { lines.boxed() } else { lines.with_ansi(false).boxed() }
        }
    };
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(LogError::Twice)?;
    Ok(LevelSwitch(handle))
}

/// Our own lines at the chosen level; none of the libraries': they may quote what they send.
fn targets(level: Level) -> Targets {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new().with_default(LevelFilter::OFF).with_target("lead_webhook", level)
}
