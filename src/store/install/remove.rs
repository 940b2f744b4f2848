//! `uninstall`: triggers first, so that nothing is queued into what is about to go.

use std::{collections::BTreeSet, convert::Infallible};

use super::{
    InstallError, NewInstallation, Plan, Report, SET_UP, apply, begin, end,
    installed::Installed,
    print,
    roles::{Facts, MADE_BY_US, owner_membership},
    step::Step,
    texts,
};
use crate::{
    config::Config,
    store::{client::Client, identifier, instances::is_unseen, mapping::table},
};

/// Everything of ours, in an order in which it can be dropped. `deliveries` is what `--keep-log` keeps.
pub(super) const TABLES: [&str; 12] = [
    "outbox",
    "uniqueness",
    "muted",
    "instances",
    "endpoint_switches",
    "endpoints",
    "installation",
    "log_edge",
    "swept",
    "migrations",
    "deliveries_kept",
    LOG,
];
/// What reads them, in an order in which it can be dropped.
pub(super) const VIEWS: [&str; 3] = ["endpoint_health", "backlog", "delivery_log"];
/// Our sequences.
pub(super) const SEQUENCES: [&str; 2] = ["missed", "bell"];

const LOG: &str = "deliveries";

/// Removes triggers, tables, rights and roles. With `keep_log` the table `lead_webhook.deliveries` stays as it is, and a
/// later [`migrate`](super::migrate) takes it over. Running it again changes nothing. `report` says what was done, also where
/// it ends by an error.
///
/// # Errors
/// [`InstallError`]; what was done before it is whole, and the next run goes on from there.
pub async fn uninstall(
    client: &mut Client,
    config: &Config,
    keep_log: bool,
    report: &mut Report,
) -> Result<(), InstallError> {
    begin(client).await?;
    let done = match plan(client, config, keep_log).await {
        Ok(plan) => apply(client, config, plan, never, report).await,
        Err(error) => Err(error),
    };
    end(client).await;
    done
}

/// The SQL that [`uninstall`] would run, complete and in order; changes nothing.
///
/// # Errors
/// [`InstallError`].
pub async fn uninstall_plan(client: &mut Client, config: &Config, keep_log: bool) -> Result<String, InstallError> {
    client.batch_execute(SET_UP).await?;
    let plan = plan(client, config, keep_log).await?;
    Ok(print(&plan, config))
}

/// A removal notes no installation.
fn never() -> Result<NewInstallation, Infallible> {
    Ok(NewInstallation {
        installation_id: uuid::Uuid::nil(),
        key_check_sealed: Vec::new(),
        uniqueness_key_sealed: Vec::new(),
    })
}

async fn plan(client: &Client, config: &Config, keep_log: bool) -> Result<Plan, InstallError> {
    let facts = Facts::read(client, config).await?.belonging_to_the_owner_role(config)?;
    let (owner, daemon) = (&config.database.owner_role, &config.database.daemon_role);
    let mut plan = Plan::default();
    let present: BTreeSet<String> = texts(client, PRESENT, &[]).await?;
    let keep_log = keep_log && present.contains(LOG);
    if facts.has_schema() {
        plan.administrator = owner_membership(client, config, &facts).await?;
        see_that_nothing_is_in_the_way(client, keep_log).await?;
        if plan.administrator.is_empty() && WITH_SOMETHING_IN_USE.iter().all(|table| present.contains(*table)) {
            plan.warnings.extend(in_use(client, owner).await?);
        }
        let installed = Installed::read(client, &table(&config.leads), owner, None).await?;
        if installed.has_functions() {
            plan.steps.push(triggers(&installed, owner));
        }
        plan.steps.extend(schema(&present, owner, daemon, keep_log));
    }
    let mut roles: Vec<String> = Vec::new();
    for row in client.query(ROLES, &[&[daemon, owner].as_slice(), &MADE_BY_US]).await? {
        let (role, is_somebodys): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        if is_somebodys {
            plan.warnings.push(format!(
                "role {role} stays as it is: `migrate` did not make it, or it can log in or is a superuser"
            ));
        } else {
            roles.push(role);
        }
    }
    for row in client.query(OUTSIDE, &[&roles]).await? {
        let (role, sql): (&str, String) = (row.try_get(0)?, row.try_get(1)?);
        plan.steps.push(Step::login(format!("take back what {role} was granted"), sql).that_may_fail());
    }
    for role in roles {
        if keep_log && role == *owner {
            plan.warnings.push(format!("role {role} stays: it owns the kept log"));
        } else {
            let sql = format!("DROP ROLE {};", identifier(&role));
            plan.steps.push(Step::login(format!("remove role {role}"), sql).that_may_fail());
        }
    }
    Ok(plan)
}

const IN_THE_WAY: &str = "-- remove::in_the_way
SELECT DISTINCT coalesce('view ' || r.ev_class::regclass, format('constraint %I on %s', c.conname, c.conrelid::regclass))
FROM pg_class AS ours
JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = ours.oid
LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_constraint AS c ON d.classid = 'pg_constraint'::regclass AND c.oid = d.objid
JOIN pg_class AS theirs ON theirs.oid = coalesce(r.ev_class, c.conrelid)
WHERE ours.relnamespace = to_regnamespace('lead_webhook') AND ours.relname = ANY ($1)
  AND NOT (theirs.relnamespace = ours.relnamespace AND theirs.relname = ANY ($1))
ORDER BY 1";

/// Refuses while views or keys of the application's are over what would be dropped: the triggers would be gone by the time
/// that the server refuses.
async fn see_that_nothing_is_in_the_way(client: &Client, keep_log: bool) -> Result<(), InstallError> {
    let gone: Vec<_> = TABLES.iter().filter(|table| !(keep_log && **table == LOG)).chain(&VIEWS).collect();
    let found: Vec<String> = texts(client, IN_THE_WAY, &[&gone]).await?;
    if found.is_empty() { Ok(()) } else { Err(InstallError::InTheWay(found)) }
}

/// The triggers go with their functions: that takes no ownership of the application's table, as DROP TRIGGER would.
fn triggers(installed: &Installed, owner: &str) -> Step {
    let on = match installed.tables().as_slice() {
        [] => String::new(),
        tables => format!(" and the triggers on {}", tables.join(", ")),
    };
    let sql = "DROP FUNCTION IF EXISTS lead_webhook.lead_inserted(), lead_webhook.lead_updated() CASCADE;";
    Step::owner(owner, format!("remove the trigger functions{on}"), sql).locking_leads()
}

const PRESENT: &str = "-- remove::present
SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = 'lead_webhook' AND c.relkind = 'r'";

/// No CASCADE: a view of somebody's over our tables is not ours to drop.
fn schema(present: &BTreeSet<String>, owner: &str, daemon: &str, keep_log: bool) -> Option<Step> {
    let gone = TABLES.iter().filter(|table| present.contains(**table) && !(keep_log && **table == LOG));
    let gone: Vec<_> = gone.map(|table| format!("lead_webhook.{table}")).collect();
    let mut sql = String::new();
    if !gone.is_empty() {
        let views = VIEWS.map(|view| format!("lead_webhook.{view}")).join(", ");
        sql.push_str(&format!("DROP VIEW IF EXISTS {views};\n"));
        sql.push_str(&format!("DROP TABLE {};\n", gone.join(", ")));
    }
    let sequences = SEQUENCES.map(|name| format!("lead_webhook.{name}")).join(", ");
    sql.push_str(&format!(
        "DROP FUNCTION IF EXISTS lead_webhook.note_endpoint_switch();\nDROP SEQUENCE IF EXISTS {sequences};\n"
    ));
    if !keep_log {
        sql.push_str("DROP SCHEMA lead_webhook;");
        return Some(Step::owner(owner, "remove the tables and the schema", sql));
    }
    if gone.is_empty() {
        return None;
    }
    let role = identifier(daemon);
    sql.push_str(&format!(
        "REVOKE ALL ON lead_webhook.{LOG} FROM {role};\nREVOKE ALL ON SCHEMA lead_webhook FROM {role};"
    ));
    Some(Step::owner(owner, "remove the tables but for the log", sql))
}

/// The tables that [`IN_USE`] reads.
const WITH_SOMETHING_IN_USE: [&str; 3] = ["outbox", "endpoints", "instances"];

/// What somebody may still want or use, a line each.
const IN_USE: &str = concat!(
    "-- remove::in_use
SELECT format('pending events: %s, which will never be sent', count(*)) FROM lead_webhook.outbox
WHERE claimed_by IS NULL HAVING count(*) > 0
UNION ALL
SELECT format('attempts in flight: %s, whose outcomes will not be logged', count(*)) FROM lead_webhook.outbox
WHERE claimed_by IS NOT NULL HAVING count(*) > 0
UNION ALL
SELECT format('tenants whose endpoint goes, with its secret: %s', count(*)) FROM lead_webhook.endpoints HAVING count(*) > 0
UNION ALL
SELECT format('daemons that run, and are to be stopped: %s', string_agg(format('process %s on %s', process_id, host), ', '))
FROM lead_webhook.instances WHERE NOT (",
    is_unseen!("renewed_at"),
    ") HAVING count(*) > 0"
);

async fn in_use(client: &Client, owner: &str) -> Result<Vec<String>, InstallError> {
    client.batch_execute(&format!("BEGIN; SET LOCAL ROLE {}", identifier(owner))).await?;
    let found = texts(client, IN_USE, &[]).await;
    client.batch_execute("ROLLBACK").await?;
    Ok(found?)
}

/// What our roles were granted outside of our schema, as the statements that take it back.
const OUTSIDE: &str = "-- remove::outside
SELECT r.rolname::text, format('REVOKE SELECT (%s) ON %s FROM %I;', string_agg(DISTINCT quote_ident(a.attname), ', '),
                         a.attrelid::regclass, r.rolname)
FROM pg_attribute AS a
JOIN pg_class AS c ON c.oid = a.attrelid AND c.relnamespace IS DISTINCT FROM to_regnamespace('lead_webhook')
CROSS JOIN LATERAL aclexplode(a.attacl) AS acl
JOIN pg_roles AS r ON r.oid = acl.grantee
WHERE r.rolname = ANY ($1) AND acl.privilege_type = 'SELECT' AND NOT a.attisdropped
GROUP BY r.rolname, a.attrelid
UNION ALL
SELECT r.rolname, format('REVOKE USAGE ON SCHEMA %I FROM %I;', n.nspname, r.rolname)
FROM pg_namespace AS n
CROSS JOIN LATERAL aclexplode(n.nspacl) AS acl
JOIN pg_roles AS r ON r.oid = acl.grantee
WHERE r.rolname = ANY ($1) AND acl.privilege_type = 'USAGE' AND n.nspname <> 'lead_webhook'
UNION ALL
SELECT r.rolname, format('REVOKE CONNECT ON DATABASE %I FROM %I;', d.datname, r.rolname)
FROM pg_database AS d
CROSS JOIN LATERAL aclexplode(d.datacl) AS acl
JOIN pg_roles AS r ON r.oid = acl.grantee
WHERE r.rolname = ANY ($1) AND acl.privilege_type = 'CONNECT' AND d.datname = current_database()
UNION ALL
SELECT r.rolname, format('REVOKE EXECUTE ON FUNCTION %s FROM %I;', f.oid::regprocedure, r.rolname)
FROM pg_proc AS f
CROSS JOIN LATERAL aclexplode(f.proacl) AS acl
JOIN pg_roles AS r ON r.oid = acl.grantee
WHERE r.rolname = ANY ($1) AND f.pronamespace IS DISTINCT FROM to_regnamespace('lead_webhook')";

/// The two roles, and whether one is somebody's: `migrate` makes roles that cannot log in, and says so in their comment.
const ROLES: &str = "-- remove::roles
SELECT r.rolname::text,
       r.rolcanlogin OR r.rolsuper OR NOT starts_with(coalesce(shobj_description(r.oid, 'pg_authid'), ''), $2)
FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, place)
JOIN pg_roles AS r ON r.rolname = wanted.name ORDER BY wanted.place";
