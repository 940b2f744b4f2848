//! What is measured, a file a part.

pub(crate) mod backlog;
pub(crate) mod burst;
pub(crate) mod daemons;
pub(crate) mod fairness;
pub(crate) mod first;
pub(crate) mod growth;
pub(crate) mod hour;
pub(crate) mod idle;
pub(crate) mod light;
pub(crate) mod writers;
