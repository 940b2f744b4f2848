//! What the triggers go by, as `migrate` notes it in the installation's row: a daemon that was started with another
//! `[leads]` would look for their leads in vain.

use tokio_postgres::Error;

use super::{
    client::{Client, Statement},
    mapping::{raw, table},
    session::Session,
};
use crate::config::{Columns, Leads, Mapping};

/// What decides which rows are leads, and whose: the table, and how id, tenant, email and phone are mapped.
pub fn spelled(leads: &Leads) -> String {
    let Columns { id, tenant_id, email, phone, .. } = &leads.columns;
    let column = |mapping: Option<&Mapping>| mapping.map_or_else(|| "nothing".to_owned(), raw);
    let [id, tenant_id, email, phone] = [Some(id), Some(tenant_id), email.as_ref(), phone.as_ref()].map(column);
    format!("{}: id {id}, tenant {tenant_id}, email {email}, phone {phone}", table(leads))
}

/// Whether what was [`spelled`] is of this table.
pub fn is_of(spelled: &str, leads: &Leads) -> bool {
    spelled.strip_prefix(&table(leads)).is_some_and(|rest| rest.starts_with(": "))
}

/// A daemon's own `[leads]` is another one than the triggers go by. To it a lead that they queue may be none.
#[derive(Debug, thiserror::Error)]
#[error(
    "the triggers go by another table, id, tenant_id, email or phone than this daemon's [leads]: restart it with the \
     configuration that `lead-webhook migrate` was run with, or run that; until then events wait"
)]
pub struct MappedAnew;

const IS_NOTED: &str = "\
-- mapped_as::is_noted
SELECT EXISTS (SELECT FROM lead_webhook.installation i WHERE coalesce(i.mapped, $1::text) = $1)";

/// The statement that [`is_noted`] runs.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn is_noted_statement(session: &mut Session) -> Result<Statement, Error> {
    session.statement(IS_NOTED).await
}

/// Whether the triggers go by what is `spelled` so, asked within a transaction.
///
/// # Errors
/// What the database says, or that the connection is lost.
pub async fn is_noted(client: &Client, statement: &Statement, spelled: &str) -> Result<bool, Error> {
    client.query_one(statement, &[&spelled]).await?.try_get(0)
}
