//! What this machine, not the receiver, had too little of to make an attempt: nothing was sent, so that it may be made
//! later.

use std::{fs::File, io};

use rustix::io::Errno;

/// What there was too little of. The text names the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Shortage {
    /// No connection can be opened.
    #[error(
        "no file descriptor is left: raise LimitNOFILE in the unit, or the system's fs.file-max, or \
         lower delivery.concurrency"
    )]
    Descriptors,
    /// The system has no memory for a connection.
    #[error("the system has no memory left for a connection: give it more, or lower delivery.concurrency")]
    Memory,
    /// No thread can be started to look a name up.
    #[error("no thread can be started to look a name up: raise TasksMax in the unit, or the user's limit of processes")]
    Threads,
    /// As many names are being looked up as may be.
    #[error("too many names are being looked up at once: see whether this machine's name servers answer")]
    LookUps,
    /// No local port is free for the receiver's address.
    #[error(
        "no local port is left for a connection: widen the system's net.ipv4.ip_local_port_range, or lower \
         delivery.concurrency"
    )]
    Ports,
    /// Nobody can be reached from here.
    #[error("this machine has no route to any receiver: see its interfaces and routes")]
    Network,
}

impl Shortage {
    /// Whether descriptors are short just now: what failed may not say that it was for their sake. A look-up holds two at a
    /// time, and so does a walk through a directory.
    pub(crate) fn present() -> Option<Self> {
        match (File::open("/dev/null"), File::open("/dev/null")) {
            (Ok(_), Ok(_)) => None,
            (Err(error), _) | (_, Err(error)) => Self::of(&error),
        }
    }

    /// Whether an error is one, whatever was tried.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        match Errno::from_io_error(error)? {
            Errno::MFILE | Errno::NFILE => Some(Self::Descriptors),
            Errno::NOBUFS | Errno::NOMEM => Some(Self::Memory),
            _ => None,
        }
    }
}
