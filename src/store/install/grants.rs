//! What the daemon role may do in our own schema: what it does, and nothing beyond. And what the triggers do by the owner
//! role's rights, which somebody may have taken.

use super::{error::InstallError, remove::SEQUENCES, step::Step};
use crate::store::{client::Client, identifier};

/// Relation of ours, and what the daemon does to it.
const GRANTS: [(&str, &[&str]); 13] = [
    ("endpoints", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("endpoint_switches", &["SELECT", "INSERT"]),
    // INSERT: the sweep queues what a failing trigger left out.
    ("outbox", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    // DELETE: what is older than the retention.
    ("deliveries", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("log_edge", &["SELECT", "INSERT", "UPDATE"]),
    ("swept", &["SELECT", "INSERT", "UPDATE"]),
    ("uniqueness", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("instances", &["SELECT", "INSERT", "UPDATE", "DELETE"]),
    ("installation", &["SELECT"]),
    ("muted", &["SELECT"]),
    ("migrations", &["SELECT"]),
    ("missed", &["SELECT"]),
    ("bell", &["SELECT", "UPDATE"]),
];

/// The same for the trigger functions, which run as the owner role.
const OF_TRIGGERS: [(&str, &[&str]); 5] = [
    ("endpoints", &["SELECT"]),
    ("outbox", &["INSERT"]),
    ("muted", &["INSERT"]),
    ("missed", &["UPDATE"]),
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

/// The GRANTs that the daemon role lacks.
pub(super) async fn of_daemon(client: &Client, daemon_role: &str) -> Result<Vec<String>, InstallError> {
    missing(client, daemon_role, &GRANTS).await
}

/// The GRANTs that the owner role lacks.
pub(super) async fn of_owner(client: &Client, owner_role: &str) -> Result<Vec<String>, InstallError> {
    missing(client, owner_role, &OF_TRIGGERS).await
}

async fn missing(client: &Client, name: &str, grants: &[(&str, &[&str])]) -> Result<Vec<String>, InstallError> {
    let role = identifier(name);
    let mut sql = Vec::new();
    if !client.query_one(MAY_USE_SCHEMA, &[&name]).await?.try_get::<_, bool>(0)? {
        sql.push(format!("GRANT USAGE ON SCHEMA lead_webhook TO {role};"));
    }
    let pairs = grants.iter().flat_map(|(relation, privileges)| privileges.iter().map(move |one| (*relation, *one)));
    let (relations, privileges): (Vec<_>, Vec<_>) = pairs.unzip();
    let rows = client.query(MISSING, &[&relations, &privileges, &name]).await?;
    let rows: Vec<(String, String)> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, tokio_postgres::Error>>()?;
    for of_one in rows.chunk_by(|one, next| one.0 == next.0) {
        let privileges: Vec<_> = of_one.iter().map(|(_, privilege)| privilege.as_str()).collect();
        let relation = of_one.first().map_or("", |(relation, _)| relation);
        let kind = if SEQUENCES.contains(&relation) { "SEQUENCE " } else { "" };
        sql.push(format!("GRANT {} ON {kind}lead_webhook.{relation} TO {role};", privileges.join(", ")));
    }
    Ok(sql)
}

/// The steps that grant what is missing. `is_new`: the owner role owns nothing yet, and will lack nothing of it.
pub(super) async fn steps(client: &Client, owner: &str, daemon: &str, is_new: bool) -> Result<Vec<Step>, InstallError> {
    let of_owner = if is_new { Vec::new() } else { of_owner(client, owner).await? };
    let of_daemon = of_daemon(client, daemon).await?;
    let headings = ["let the triggers use what is ours", "let the daemon use what is ours"];
    let both = [of_owner, of_daemon].into_iter().zip(headings).filter(|(sql, _)| !sql.is_empty());
    Ok(both.map(|(sql, heading)| Step::owner(owner, heading, sql.join("\n"))).collect())
}
