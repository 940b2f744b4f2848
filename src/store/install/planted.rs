//! What somebody has put into our schema. Whoever owns the database may have made the schema before us, and the code of
//! whoever owns the leads table runs in the triggers, by the rights of the owner role: either could leave a view in a
//! table's place, or a trigger on one, for an administrator to run unawares.
//!
//! So before a session of `owner_url` touches a relation of ours, the catalog is asked, and the catalog alone.

use super::{
    error::InstallError,
    remove::{SEQUENCES, TABLES, VIEWS},
    texts,
};
use crate::store::client::Client;

/// A trigger of ours on a table of ours calls one function: `$1` is its body. Another may be an administrator's, whose function
/// is so too. What is built in leaves no dependency, so that each which is there is on something of somebody's.
const PLANTED: &str = "-- planted::find
WITH ours AS (
    SELECT c.oid, c.relname, c.relkind, c.relowner FROM pg_class AS c
    WHERE c.relnamespace = to_regnamespace('lead_webhook')),
trusted AS (
    SELECT oid FROM pg_roles WHERE rolsuper OR rolname = current_user),
owners AS (
    SELECT oid FROM trusted UNION SELECT oid FROM pg_roles WHERE rolname = $2),
parts AS (
    SELECT 'pg_class'::regclass AS classid, oid AS objid, relname FROM ours
    UNION ALL
    SELECT 'pg_attrdef'::regclass, d.oid, o.relname FROM pg_attrdef AS d JOIN ours AS o ON o.oid = d.adrelid
    UNION ALL
    SELECT 'pg_constraint'::regclass, k.oid, o.relname FROM pg_constraint AS k JOIN ours AS o ON o.oid = k.conrelid)
SELECT format('schema lead_webhook itself, which is of role %I', pg_get_userbyid(n.nspowner)) FROM pg_namespace AS n
WHERE $6 AND n.nspname = 'lead_webhook' AND n.nspowner NOT IN (SELECT oid FROM owners)
UNION ALL
SELECT format('%I, which is of role %I', relname, pg_get_userbyid(relowner)) FROM ours
WHERE $6 AND relowner NOT IN (SELECT oid FROM owners)
UNION ALL
SELECT format('%I, which is no table', relname) FROM ours WHERE relname = ANY ($3) AND relkind <> 'r'
UNION ALL
SELECT format('%I, which is no sequence', relname) FROM ours WHERE relname = ANY ($4) AND relkind <> 'S'
UNION ALL
SELECT format('%I, which is no view', relname) FROM ours WHERE relname = ANY ($5) AND relkind <> 'v'
UNION ALL
SELECT format('trigger %I on %I', t.tgname, o.relname) FROM pg_trigger AS t JOIN ours AS o ON o.oid = t.tgrelid
JOIN pg_proc AS f ON f.oid = t.tgfoid
WHERE NOT t.tgisinternal AND f.proowner NOT IN (SELECT oid FROM trusted)
  AND NOT (f.pronamespace = to_regnamespace('lead_webhook') AND f.proname = 'note_endpoint_switch' AND f.prosrc = $1)
UNION ALL
SELECT format('rule %I on %I', r.rulename, o.relname) FROM pg_rewrite AS r JOIN ours AS o ON o.oid = r.ev_class
WHERE NOT (o.relkind = 'v' AND r.rulename = '_RETURN')
UNION ALL
SELECT format('policy %I on %I', p.polname, o.relname) FROM pg_policy AS p JOIN ours AS o ON o.oid = p.polrelid
UNION ALL
SELECT format('table %s, which inherits from %I', i.inhrelid::regclass, o.relname)
FROM pg_inherits AS i JOIN ours AS o ON o.oid = i.inhparent AND o.relkind = 'r'
UNION ALL
SELECT format('%s in %I', pg_describe_object(d.refclassid, d.refobjid, 0), p.relname)
FROM parts AS p JOIN pg_depend AS d ON d.classid = p.classid AND d.objid = p.objid
WHERE d.refclassid IN ('pg_proc'::regclass, 'pg_operator'::regclass, 'pg_type'::regclass, 'pg_opclass'::regclass)
ORDER BY 1";

/// What of it is not as we make it, in words. `by_owners`: nor owned by whom it should be, which a restored dump is not
/// before an administrator's `migrate`.
pub(super) async fn find(
    client: &Client,
    owner_role: &str,
    by_owners: bool,
) -> Result<Vec<String>, tokio_postgres::Error> {
    let (tables, sequences, views) = (TABLES.as_slice(), SEQUENCES.as_slice(), VIEWS.as_slice());
    texts(client, PLANTED, &[&note_endpoint_switch(), &owner_role, &tables, &sequences, &views, &by_owners]).await
}

/// Refuses to work in a schema where something would run by the rights of this session that is not ours.
///
/// # Errors
/// [`InstallError::Planted`].
pub async fn see_that_nothing_is_planted(client: &Client, owner_role: &str) -> Result<(), InstallError> {
    let found = find(client, owner_role, true).await?;
    if found.is_empty() { Ok(()) } else { Err(InstallError::Planted(found)) }
}

/// The function's body, as the migration has it. One that replaces it leaves both here: it is looked at before it runs.
fn note_endpoint_switch() -> &'static str {
    include_str!("../../../migrations/V1__tables.sql").split("$f$").nth(1).unwrap_or_default()
}
