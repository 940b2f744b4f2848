//! What this machine, not the receiver, had too little of to make an attempt: nothing was sent, so that it may be made
//! later.

use std::io;

use rustix::io::Errno;

/// What there was too little of. The text names the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// No connection can be opened.
    #[error(
        "no file descriptor is left for a connection: raise LimitNOFILE in the unit, or the system's fs.file-max, or \
         lower delivery.concurrency"
    )]
    Descriptors,
    /// The system has no memory for a connection.
    #[error("the system has no memory left for a connection: give it more, or lower delivery.concurrency")]
    Memory,
    /// No thread can be started to look a name up.
    #[error("no thread can be started to look a name up: raise TasksMax in the unit, or the user's limit of processes")]
    Threads,
}

impl Shortage {
    /// Whether an error is one. A local port or address that is missing is none: a receiver's address may be the cause.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        if let Some(said) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Some(*said);
        }
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::Memory),
            _ => None,
        }
    }
}
