//! What the daemon's login could do beyond what it needs: whoever takes the daemon over could do it too.

use tokio_postgres::Row;

use super::{
    error::InstallError,
    verify::{Finding, Verdict},
};
use crate::{
    config::Config,
    store::{client::Client, identifier, mapping::table},
};

/// The login's own attributes.
const ATTRIBUTES: &str = "-- privileges::attributes
SELECT r.rolname::text, r.rolsuper, r.oid = 10, r.rolcreaterole, r.rolreplication,
       r.rolbypassrls AND NOT coalesce(c.relrowsecurity, false), coalesce(c.relowner = r.oid, false)
FROM pg_roles AS r LEFT JOIN pg_class AS c ON c.oid = to_regclass($1::text)
WHERE r.rolname = current_user";

/// Memberships of the login, or of the daemon's role, by which it may act as a role that can do more; each with the
/// roles it leads to. Not by `pg_has_role`: of a superuser that says yes to everything.
const MEMBERSHIPS: &str = "-- privileges::memberships
WITH RECURSIVE target AS (
    SELECT r.oid, CASE WHEN r.rolsuper THEN 'is a superuser'
                       WHEN r.rolname = $3 THEN 'owns our tables'
                       WHEN r.oid = c.relowner THEN 'owns the leads table'
                       WHEN r.rolname = 'pg_read_all_data' THEN 'may read every table'
                       WHEN r.rolname = 'pg_write_all_data' THEN 'may write to every table'
                       ELSE 'reaches the server''s files and programs' END AS power
    FROM pg_roles AS r LEFT JOIN pg_class AS c ON c.oid = to_regclass($1::text)
    WHERE r.rolsuper OR r.rolname = $3 OR r.oid = c.relowner OR r.rolname IN ('pg_read_all_data', 'pg_write_all_data',
          'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
), reach AS (
    SELECT m.member, m.roleid AS given, m.roleid FROM pg_auth_members AS m
    JOIN pg_roles AS member ON member.oid = m.member JOIN pg_roles AS given ON given.oid = m.roleid
    WHERE member.rolname IN (current_user, $2) AND given.rolname <> $2
      AND pg_has_role(current_user, member.oid, 'MEMBER')
    UNION
    SELECT reach.member, reach.given, m.roleid FROM reach JOIN pg_auth_members AS m ON m.member = reach.roleid
)
SELECT pg_get_userbyid(reach.member)::text, pg_get_userbyid(reach.given)::text,
       string_agg(DISTINCT target.power, ', ' ORDER BY target.power)
FROM reach JOIN target ON target.oid = reach.roleid
GROUP BY 1, 2 ORDER BY 1, 2";

/// A warning for each thing that makes the login more powerful than it need be, with the statement that ends it; where
/// there is none, a line that says so.
pub(super) async fn beyond(client: &Client, config: &Config) -> Result<Vec<Finding>, InstallError> {
    let (leads, database) = (table(&config.leads), &config.database);
    let row = client.query_one(ATTRIBUTES, &[&leads]).await?;
    let mut findings = attributes(&row, &database.daemon_role)?;
    // A superuser may act as every role, whatever it is a member of.
    if !row.try_get::<_, bool>(1)? {
        let rows = client.query(MEMBERSHIPS, &[&leads, &database.daemon_role, &database.owner_role]).await?;
        for row in rows {
            let (member, given, powers): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let text = format!("{member} is a member of {given}, and so {powers}");
            findings.push(warning(text, format!("REVOKE {} FROM {};", identifier(given), identifier(member))));
        }
    }
    if findings.is_empty() {
        let text = "this user is no superuser, owns nothing and may act as nobody who could do more";
        findings.push(Finding { subject: SUBJECT, verdict: Verdict::Fine, text: text.to_owned(), remedy: None });
    }
    Ok(findings)
}

const SUBJECT: &str = "rights";

fn attributes(row: &Row, daemon_role: &str) -> Result<Vec<Finding>, InstallError> {
    let me: &str = row.try_get(0)?;
    let [is_superuser, is_first, creates_roles, replicates, bypasses, owns_leads] =
        [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?, row.try_get(6)?];
    let login = identifier(me);
    let without = |attribute: &str| format!("ALTER ROLE {login} {attribute};");
    let another = format!(
        "CREATE ROLE lead_webhook LOGIN PASSWORD '…'; GRANT {} TO lead_webhook; and name it in database.url",
        identifier(daemon_role)
    );
    if is_superuser {
        // The server does not let its first one be made an ordinary role.
        let remedy = if is_first { another } else { without("NOSUPERUSER") };
        let text = format!("{me} is a superuser: whoever takes the daemon over has the whole server");
        return Ok(vec![warning(text, remedy)]);
    }
    let found = [
        (owns_leads, "owns the leads table, and so may change and drop it", another),
        (creates_roles, "may create roles, and so change what others may do", without("NOCREATEROLE")),
        (replicates, "may copy the whole server by replication", without("NOREPLICATION")),
        (bypasses, "passes by row-level security, and the leads table has none", without("NOBYPASSRLS")),
    ];
    let warnings = found.into_iter().filter(|(is_so, ..)| *is_so);
    Ok(warnings.map(|(_, what, remedy)| warning(format!("{me} {what}"), remedy)).collect())
}

fn warning(text: String, remedy: String) -> Finding {
    Finding { subject: SUBJECT, verdict: Verdict::Warning, text, remedy: Some(remedy) }
}
