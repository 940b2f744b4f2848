//! The statements of a claim.

use crate::store::{
    Error, Statement, delivery_log, endpoints,
    leads::LoadStatements,
    mapped_as,
    mapping::MappedSql,
    outbox::{self, PickStatements},
    session::Session,
    uniqueness,
};

/// Prepared once a session.
pub struct Statements {
    pub(super) pick: PickStatements,
    pub(super) decide: Statement,
    pub(super) record: Statement,
    pub(super) endpoints: Statement,
    pub(super) load: LoadStatements,
    pub(super) uniqueness: uniqueness::Statements,
    pub(super) is_mapped_so: Statement,
    pub(super) known: Statement,
}

impl Statements {
    /// Prepares them for `session`.
    ///
    /// # Errors
    /// What the database says of a statement, or that the connection is lost.
    pub async fn prepare(session: &mut Session, mapped: &MappedSql) -> Result<Self, Error> {
        Ok(Self {
            pick: PickStatements::prepare(session, mapped).await?,
            decide: outbox::decide_statement(session).await?,
            record: delivery_log::record_within_statement(session).await?,
            endpoints: endpoints::load_statement(session).await?,
            load: LoadStatements::prepare(session, mapped).await?,
            uniqueness: uniqueness::Statements::prepare(session).await?,
            is_mapped_so: mapped_as::is_noted_statement(session).await?,
            known: outbox::known_statement(session).await?,
        })
    }
}
