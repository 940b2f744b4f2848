//! What the daemon role may do in our own schema: what it does, and nothing beyond.

use tokio_postgres::Client;

use super::{error::InstallError, step::Step};
use crate::store::identifier;

/// Relation of ours, and what the daemon does to it.
const GRANTS: [(&str, &[&str]); 11] = [
    ("endpoints", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("endpoint_switches", &["SELECT", "INSERT"]),
    // INSERT: the sweep queues what a failing trigger left out.
    ("outbox", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("deliveries", &["SELECT", "INSERT", "UPDATE"]),
    ("uniqueness", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("instances", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("installation", &["SELECT"]),
    ("muted", &["SELECT"]),
    ("migrations", &["SELECT"]),
    ("missed", &["SELECT"]),
    ("bell", &["SELECT", "UPDATE"]),
];

const MISSING: &str = "-- grants::missing
SELECT wanted.relation, wanted.privilege
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS wanted (relation, privilege, place)
LEFT JOIN pg_namespace AS n ON n.nspname = 'lead_webhook'
LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = wanted.relation
LEFT JOIN pg_roles AS d ON d.rolname = $3
WHERE d.oid IS NULL OR c.oid IS NULL
   OR NOT CASE c.relkind WHEN 'S' THEN has_sequence_privilege(d.oid, c.oid, wanted.privilege)
                         ELSE has_table_privilege(d.oid, c.oid, wanted.privilege) END
ORDER BY wanted.place";

const MAY_USE_SCHEMA: &str = "-- grants::may_use_schema
SELECT EXISTS (SELECT FROM pg_roles AS d JOIN pg_namespace AS n ON n.nspname = 'lead_webhook'
               WHERE d.rolname = $1 AND has_schema_privilege(d.oid, n.oid, 'USAGE'))";

/// The GRANTs that are missing.
pub(super) async fn missing(client: &Client, daemon_role: &str) -> Result<Vec<String>, InstallError> {
    let role = identifier(daemon_role);
    let mut sql = Vec::new();
    if !client.query_one(MAY_USE_SCHEMA, &[&daemon_role]).await?.try_get::<_, bool>(0)? {
        sql.push(format!("GRANT USAGE ON SCHEMA lead_webhook TO {role};"));
    }
    let pairs = GRANTS.iter().flat_map(|(relation, privileges)| privileges.iter().map(move |one| (*relation, *one)));
    let (relations, privileges): (Vec<_>, Vec<_>) = pairs.unzip();
    let rows = client.query(MISSING, &[&relations, &privileges, &daemon_role]).await?;
    let rows: Vec<(String, String)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, tokio_postgres::Error>>()?;
    for of_one in rows.chunk_by(|one, next| one.0 == next.0) {
        let privileges: Vec<_> = of_one.iter().map(|(_, privilege)| privilege.as_str()).collect();
        let relation = of_one.first().map_or("", |(relation, _)| relation);
        let kind = if ["missed", "bell"].contains(&relation) { "SEQUENCE " } else { "" };
        sql.push(format!("GRANT {} ON {kind}lead_webhook.{relation} TO {role};", privileges.join(", ")));
    }
    Ok(sql)
}

/// The step that grants what is missing.
pub(super) async fn step(client: &Client, owner: &str, daemon: &str) -> Result<Option<Step>, InstallError> {
    let sql = missing(client, daemon).await?;
    Ok((!sql.is_empty()).then(|| Step::owner(owner, "let the daemon use what is ours", sql.join("\n"))))
}
