//! Those that are compared.

pub(crate) mod graphile;
pub(crate) mod limit;
pub(crate) mod naive;
pub(crate) mod ours;
