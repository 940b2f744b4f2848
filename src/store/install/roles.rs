//! The owner role, the daemon role, the schema, and what both roles may touch outside of it.
//!
//! Nothing here is tried to see whether it works: the catalog says what is missing and whether this user may do it.
//! What it may not do is collected for an administrator.

use std::collections::BTreeSet;

use tokio_postgres::Row;

use super::{
    error::InstallError,
    remove::{SEQUENCES, TABLES, VIEWS},
    step::Step,
    vet::Needed,
};
use crate::{
    config::Config,
    store::{client::Client, connect::login, identifier, mapping},
};

/// The least version: `CREATE OR REPLACE TRIGGER`.
const OLDEST_SERVER: i32 = 140_000;

/// Since this version membership is granted with options.
const GRANTS_HAVE_OPTIONS: i32 = 160_000;

/// One thing that is missing outside of our schema.
#[derive(Debug)]
pub(super) struct Need {
    heading: String,
    sql: String,
    permitted: bool,
    /// Of a role that is not there yet.
    is_of_new_role: bool,
}

impl Need {
    pub(super) fn new(permitted: bool, heading: impl Into<String>, sql: String) -> Self {
        Self { heading: heading.into(), sql, permitted, is_of_new_role: false }
    }

    fn of_new_role(self) -> Self {
        Self { is_of_new_role: true, ..self }
    }
}

/// What this user may do itself, and the SQL for an administrator; empty where nothing is left to one. New roles are left
/// to one who is needed anyway: most of what comes after names them.
pub(super) fn divide(needs: Vec<Need>) -> (Vec<Step>, String) {
    let all_permitted = needs.iter().all(|need| need.permitted);
    let is_own = |need: &Need| need.permitted && (all_permitted || !need.is_of_new_role);
    let (own, others): (Vec<_>, Vec<_>) = needs.into_iter().partition(is_own);
    let sql = others.iter().map(|need| format!("{}\n", need.sql)).collect();
    (own.into_iter().map(|need| Step::login(need.heading, need.sql)).collect(), sql)
}

/// Who is connected, to what.
#[derive(Debug)]
pub(super) struct Facts {
    version: i32,
    me: String,
    is_superuser: bool,
    creates_roles: bool,
    creates_schemas: bool,
    schema_owner: Option<String>,
    /// Whether the schema can be looked into: it is the owner role's, and this user is a member.
    pub(super) may_look: bool,
}

const FACTS: &str = "-- roles::facts
SELECT current_setting('server_version_num')::integer, pg_is_in_recovery(), me.rolname::text, me.rolsuper, me.rolcreaterole,
       has_database_privilege(current_database(), 'CREATE'),
       pg_get_userbyid(n.nspowner)::text, coalesce(pg_has_role(n.nspowner, 'USAGE'), true),
       EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'installation')
FROM pg_roles AS me LEFT JOIN pg_namespace AS n ON n.nspname = 'lead_webhook'
WHERE me.rolname = current_user";

impl Facts {
    /// Reads who is connected, to what.
    pub(super) async fn read(client: &Client, config: &Config) -> Result<Self, InstallError> {
        let row = client.query_one(FACTS, &[]).await?;
        let facts = Self {
            version: row.try_get(0)?,
            me: row.try_get(2)?,
            is_superuser: row.try_get(3)?,
            creates_roles: row.try_get(4)?,
            creates_schemas: row.try_get(5)?,
            schema_owner: row.try_get(6)?,
            may_look: row.try_get(7)?,
        };
        if facts.version < OLDEST_SERVER {
            return Err(InstallError::TooOld(facts.version / 10_000));
        }
        if row.try_get(1)? {
            return Err(InstallError::Standby);
        }
        let is_ours: bool = row.try_get(8)?;
        if is_ours { Ok(facts) } else { facts.belonging_to_the_owner_role(config) }
    }

    /// The same where the schema, if it is there, belongs to the owner role. It does not in a dump that was restored with
    /// `--no-owner`: [`astray`] sets that right.
    pub(super) fn belonging_to_the_owner_role(self, config: &Config) -> Result<Self, InstallError> {
        let expected = &config.database.owner_role;
        match &self.schema_owner {
            Some(owner) if owner != expected => {
                Err(InstallError::ForeignSchema { owner: owner.clone(), expected: expected.clone() })
            }
            _ => Ok(self),
        }
    }

    /// Whether the schema is there.
    pub(super) fn has_schema(&self) -> bool {
        self.schema_owner.is_some()
    }
}

const ROLE: &str = "-- roles::role
SELECT pg_has_role(r.oid, 'USAGE') AND pg_has_role(r.oid, $2), pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
FROM pg_roles AS r WHERE r.rolname = $1";

const LOGIN: &str = "-- roles::login
SELECT pg_has_role(l.oid, d.oid, 'MEMBER'), pg_has_role(l.oid, d.oid, 'USAGE')
FROM pg_roles AS l LEFT JOIN pg_roles AS d ON d.rolname = $2 WHERE l.rolname = $1";

/// How the comment on a role begins that `migrate` made: `uninstall` removes no other.
pub(super) const MADE_BY_US: &str = "Made by lead-webhook";

/// A role, as this user sees it.
struct Role {
    name: String,
    exists: bool,
    can_be_used: bool,
    may_be_granted: bool,
}

impl Role {
    async fn read(client: &Client, facts: &Facts, name: &str) -> Result<Self, InstallError> {
        let has_options = facts.version >= GRANTS_HAVE_OPTIONS;
        let row = client.query_opt(ROLE, &[&name, &if has_options { "SET" } else { "MEMBER" }]).await?;
        let ask = |at: usize| row.as_ref().map_or(Ok(false), |row: &Row| row.try_get(at));
        let (exists, is_admin): (bool, bool) = (row.is_some(), ask(1)?);
        // Whoever may create roles could grant any of them before version 16; since then, those that it has created.
        let by_right = facts.creates_roles && (!has_options || !exists);
        let may_be_granted = facts.is_superuser || is_admin || by_right;
        Ok(Self { name: name.to_owned(), exists, can_be_used: ask(0)?, may_be_granted })
    }

    fn create(&self, facts: &Facts, purpose: &str) -> Option<Need> {
        let role = identifier(&self.name);
        let sql = format!("CREATE ROLE {role} NOLOGIN;\nCOMMENT ON ROLE {role} IS '{MADE_BY_US}: {purpose}';");
        let permitted = facts.is_superuser || facts.creates_roles;
        let need = || Need::new(permitted, format!("create role {}: {purpose}", self.name), sql).of_new_role();
        (!self.exists).then(need)
    }

    fn grant(&self, facts: &Facts, to: &str) -> Need {
        let options = if facts.version >= GRANTS_HAVE_OPTIONS { " WITH INHERIT TRUE, SET TRUE" } else { "" };
        let sql = format!("GRANT {} TO {}{options};", identifier(&self.name), identifier(to));
        let need = Need::new(self.may_be_granted, format!("make {to} a member of {}", self.name), sql);
        if self.exists { need } else { need.of_new_role() }
    }
}

/// What is missing of roles and schema; the second are warnings.
pub(super) async fn roles(
    client: &Client,
    config: &Config,
    facts: &Facts,
) -> Result<(Vec<Need>, Vec<String>), InstallError> {
    let owner = Role::read(client, facts, &config.database.owner_role).await?;
    let daemon = Role::read(client, facts, &config.database.daemon_role).await?;
    let mut needs: Vec<_> = owner.create(facts, "owns what is ours").into_iter().collect();
    needs.extend(daemon.create(facts, "may what the daemon must"));
    if !owner.can_be_used && !facts.is_superuser {
        needs.push(owner.grant(facts, &facts.me));
    }
    let (membership, warnings) = membership(client, config, facts, &daemon).await?;
    needs.extend(membership);
    if !facts.has_schema() {
        let sql = format!("CREATE SCHEMA lead_webhook AUTHORIZATION {};", identifier(&owner.name));
        needs.push(Need::new(facts.creates_schemas, "create the schema", sql));
    }
    Ok((needs, warnings))
}

const ASTRAY: &str = "-- roles::astray
SELECT format('ALTER %s OWNER TO %I;', o.what, $1::text)
FROM pg_namespace AS n
CROSS JOIN LATERAL (
    SELECT 1 AS place, 'SCHEMA lead_webhook' AS what, n.nspowner AS owner
    UNION ALL
    SELECT 2, format(CASE c.relkind WHEN 'S' THEN 'SEQUENCE %I.%I' ELSE 'TABLE %I.%I' END, n.nspname, c.relname), c.relowner
    FROM pg_class AS c
    WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'S', 'v') AND c.relname = ANY ($2)
    UNION ALL
    SELECT 3, format('FUNCTION %I.%I()', n.nspname, f.proname), f.proowner
    FROM pg_proc AS f
    WHERE f.pronamespace = n.oid AND f.pronargs = 0 AND f.proname IN ('lead_inserted', 'lead_updated', 'note_endpoint_switch')
) AS o
WHERE n.nspname = 'lead_webhook' AND pg_get_userbyid(o.owner) <> $1
ORDER BY o.place, o.what";

/// What is ours and does not belong to the owner role, as in a dump that was restored with `--no-owner`.
pub(super) async fn astray(client: &Client, config: &Config, facts: &Facts) -> Result<Option<Need>, InstallError> {
    let owner = &config.database.owner_role;
    let ours: Vec<&str> = TABLES.iter().chain(&SEQUENCES).chain(&VIEWS).copied().collect();
    let rows = client.query(ASTRAY, &[owner, &ours]).await?;
    let sql: Vec<&str> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    // Who is no superuser would have to own all of it, and to be a member of the owner role.
    let need = || Need::new(facts.is_superuser, format!("give what is ours to {owner}"), sql.join("\n"));
    Ok((!sql.is_empty()).then(need))
}

/// The SQL for an administrator that lets this user act as the owner role; empty where it may.
pub(super) async fn owner_membership(client: &Client, config: &Config, facts: &Facts) -> Result<String, InstallError> {
    let owner = Role::read(client, facts, &config.database.owner_role).await?;
    let may = facts.is_superuser || owner.can_be_used;
    Ok(if may { String::new() } else { owner.grant(facts, &facts.me).sql })
}

/// Makes the daemon's login a member of the daemon role.
async fn membership(
    client: &Client,
    config: &Config,
    facts: &Facts,
    daemon: &Role,
) -> Result<(Option<Need>, Vec<String>), InstallError> {
    let Some(login) = login(&config.database.url) else {
        let text = format!("database.url names no user: make the daemon's login a member of {}", daemon.name);
        return Ok((None, vec![text]));
    };
    let Some(row) = client.query_opt(LOGIN, &[&login, &daemon.name]).await? else {
        let (login, role) = (identifier(&login), identifier(&daemon.name));
        let text = format!(
            "the daemon's login does not exist yet: CREATE ROLE {login} LOGIN PASSWORD '…'; GRANT {role} TO {login};"
        );
        return Ok((None, vec![text]));
    };
    match (row.try_get::<_, Option<bool>>(0)?, row.try_get::<_, Option<bool>>(1)?) {
        (_, Some(true)) => Ok((None, Vec::new())),
        // Since version 16 that is a matter of the grant, which the login's own INHERIT only begins with.
        (Some(true), _) if facts.version < GRANTS_HAVE_OPTIONS => {
            let text = format!(
                "{login} is a member of {}, but does not inherit its rights: ALTER ROLE {} INHERIT;",
                daemon.name,
                identifier(&login)
            );
            Ok((None, vec![text]))
        }
        _ => Ok((Some(daemon.grant(facts, &login)), Vec::new())),
    }
}

/// Which PUBLIC has, unless somebody took it.
const CONNECT: &str = "-- roles::connect
SELECT d.datname::text, has_database_privilege(d.oid, 'CONNECT WITH GRANT OPTION')
FROM pg_database AS d
WHERE d.datname = current_database()
  AND NOT EXISTS (SELECT FROM unnest($1::text[]) AS wanted (role) LEFT JOIN pg_roles AS r ON r.rolname = wanted.role
                  WHERE has_database_privilege(coalesce(r.oid, 0), d.oid, 'CONNECT'))";

const TRIGGER_RIGHT: &str = "-- roles::trigger_right
SELECT has_table_privilege($1::text::regclass, 'TRIGGER')";

const COLUMNS: &str = "-- roles::columns
SELECT a.attname::text, has_column_privilege(coalesce(d.oid, 0), a.attrelid, a.attnum, 'SELECT'),
       EXISTS (SELECT FROM aclexplode(a.attacl) AS acl WHERE acl.grantee = d.oid AND acl.privilege_type = 'SELECT'),
       has_column_privilege(a.attrelid, a.attnum, 'SELECT WITH GRANT OPTION')
FROM pg_attribute AS a LEFT JOIN pg_roles AS d ON d.rolname = $2
WHERE a.attrelid = $1::text::regclass AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

const SCHEMAS: &str = "-- roles::schemas
SELECT wanted.role, n.nspname::text, has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION')
FROM unnest($1::text[], $2::text[]) AS wanted (role, schema)
JOIN pg_namespace AS n ON n.nspname = wanted.schema
LEFT JOIN pg_roles AS r ON r.rolname = wanted.role
WHERE NOT has_schema_privilege(coalesce(r.oid, 0), n.oid, 'USAGE')";

const FUNCTIONS: &str = "-- roles::functions
SELECT wanted.role, wanted.function, has_function_privilege(f.oid, 'EXECUTE WITH GRANT OPTION')
FROM unnest($1::text[], $2::text[]) AS wanted (role, function)
JOIN pg_proc AS f ON f.oid = wanted.function::regprocedure
LEFT JOIN pg_roles AS r ON r.rolname = wanted.role
WHERE NOT has_function_privilege(coalesce(r.oid, 0), f.oid, 'EXECUTE')";

/// What is missing of the rights on the application's objects.
pub(super) async fn rights(
    client: &Client,
    config: &Config,
    facts: &Facts,
    needed: &Needed,
) -> Result<Vec<Need>, InstallError> {
    let table = mapping::table(&config.leads);
    let (owner, daemon) = (&config.database.owner_role, &config.database.daemon_role);
    let mut needs = Vec::new();
    if !client.query_one(TRIGGER_RIGHT, &[&table]).await?.try_get::<_, bool>(0)? {
        let sql = format!("GRANT TRIGGER ON {table} TO {};", identifier(&facts.me));
        needs.push(Need::new(false, "allow the triggers", sql));
    }
    let login = login(&config.database.url);
    let who_may: Vec<&str> = [Some(daemon.as_str()), login.as_deref()].into_iter().flatten().collect();
    for row in client.query(CONNECT, &[&who_may]).await? {
        let sql = format!("GRANT CONNECT ON DATABASE {} TO {};", identifier(row.try_get(0)?), identifier(daemon));
        needs.push(Need::new(row.try_get(1)?, format!("let {daemon} connect to the database"), sql));
    }
    needs.extend(columns(client, &table, daemon, needed).await?);
    let both = [owner, daemon];
    let used: BTreeSet<_> = needed.schemas.iter().flat_map(|schema| both.map(|role| (role, schema))).collect();
    let pairs = used.into_iter().chain([(daemon, &config.leads.table.schema)]).collect::<BTreeSet<_>>();
    for row in missing(client, SCHEMAS, pairs).await? {
        let (role, schema): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let sql = format!("GRANT USAGE ON SCHEMA {} TO {};", identifier(schema), identifier(role));
        needs.push(Need::new(row.try_get(2)?, format!("let {role} use schema {schema}"), sql));
    }
    let pairs = needed.functions.iter().flat_map(|function| both.map(|role| (role, function))).collect();
    for row in missing(client, FUNCTIONS, pairs).await? {
        let (role, function): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let sql = format!("GRANT EXECUTE ON FUNCTION {function} TO {};", identifier(role));
        needs.push(Need::new(row.try_get(2)?, format!("let {role} call {function}"), sql));
    }
    Ok(needs)
}

async fn missing(client: &Client, sql: &str, pairs: BTreeSet<(&String, &String)>) -> Result<Vec<Row>, InstallError> {
    let (roles, objects): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    Ok(client.query(sql, &[&roles, &objects]).await?)
}

/// SELECT on the mapped columns, and on no other.
async fn columns(client: &Client, table: &str, daemon: &str, needed: &Needed) -> Result<Vec<Need>, InstallError> {
    let (mut grant, mut revoke, mut permitted) = (Vec::new(), Vec::new(), true);
    for row in client.query(COLUMNS, &[&table, &daemon]).await? {
        let (name, readable, granted): (&str, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let list = match (needed.columns.contains(name), readable, granted) {
            (true, false, _) => &mut grant,
            (false, _, true) => &mut revoke,
            _ => continue,
        };
        list.push(identifier(name));
        permitted &= row.try_get::<_, bool>(3)?;
    }
    let role = identifier(daemon);
    let need = |verb: &str, columns: &[String], to: &str, heading: &str| {
        let sql = format!("{verb} SELECT ({}) ON {table} {to} {role};", columns.join(", "));
        (!columns.is_empty()).then(|| Need::new(permitted, heading, sql))
    };
    let grant = need("GRANT", &grant, "TO", "let the daemon read the mapped columns");
    let revoke = need("REVOKE", &revoke, "FROM", "take back columns that are no longer mapped");
    Ok(grant.into_iter().chain(revoke).collect())
}
