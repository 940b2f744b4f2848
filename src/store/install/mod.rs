//! Creates, upgrades, verifies and removes what belongs to us in the application's database.
//!
//! # How it works
//!
//! [`migrate`] looks first and acts then: it reads the catalog, makes a plan of `step`s for what is missing or
//! different, and runs it; with nothing missing the plan is empty. [`migrate_plan`] prints the same plan. The order:
//!
//! 1. roles, schema, and the daemon's rights on the application's table (`roles`). What this user may not do is
//!    collected, and nothing is done before an administrator has run it;
//! 2. the numbered migrations (`history`), as the owner role;
//! 3. the daemon's rights on our tables (`grants`);
//! 4. the trigger functions, filled in from the mapping (`triggers`, after `vet` has looked into its expressions);
//! 5. the installation's row;
//! 6. in a transaction of its own, the triggers on the application's table. It waits 200 ms for its lock and gives way,
//!    for up to a minute: a busy table is never blocked for longer;
//! 7. a look at the newest leads, where their captured times are ahead of the clock (`capture_clock`).
//!
//! An advisory lock keeps two of them apart. [`uninstall`] goes the other way: triggers first. `verify` compares what
//! is there with what a migrate would make.

mod error;
mod grants;
mod history;
mod indexes;
mod installed;
mod planted;
mod privileges;
mod remove;
mod roles;
mod step;
mod triggers;
mod verify;
mod vet;

use std::error::Error;

pub use self::{
    error::InstallError,
    history::NewInstallation,
    planted::see_that_nothing_is_planted,
    remove::{uninstall, uninstall_plan},
    verify::{Finding, Verdict, verify},
};
use self::{
    history::History,
    installed::Installed,
    roles::{Facts, Need},
    step::{Action, Step},
    triggers::Trigger,
    vet::Needed,
};
use crate::{
    config::Config,
    store::{
        capture_clock,
        client::{Client, Param},
        mapping::{MappedSql, MappingError, table},
    },
};

/// What was done, and what the operator should know.
#[derive(Debug, Default)]
pub struct Report {
    /// One line a step; empty: everything was in place.
    pub done: Vec<String>,
    /// What does not stop anything, but needs looking at.
    pub warnings: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Default)]
struct Plan {
    /// SQL that this user may not run.
    administrator: String,
    steps: Vec<Step>,
    warnings: Vec<String>,
    /// Publications that would have the new tables at once.
    published_by: Vec<String>,
}

/// `lead_web`, as a number: the advisory lock of `migrate` and `uninstall`.
const LOCK: i64 = 0x6c65_6164_5f77_6562;

/// What no plan can hold: which migrations are recorded as run, and keys that the key file has sealed.
const FOR_READING: &str = "\
-- What `lead-webhook migrate` would run, for reading. Let it run it: it also records which migrations were run, and seals
-- two keys of the installation with the key file.
";

/// The leads are read in one step only, which sees to itself; so a policy over them is no obstacle.
const SET_UP: &str = "-- install::set_up
SET search_path = pg_catalog, pg_temp;
SET check_function_bodies = on;
SET row_security = on;
SET lock_timeout = '10s'";

/// Creates or upgrades everything of ours; `new` is called once, for the first install. Running it again changes nothing.
/// `report` says what was done, also where it ends by an error. With `is_published` the subscribers of a publication FOR ALL
/// TABLES have the new tables already.
///
/// # Errors
/// [`InstallError`]; what was done before it is whole, and the next run goes on from there.
pub async fn migrate<E>(
    client: &mut Client,
    config: &Config,
    is_published: bool,
    new: impl FnOnce() -> Result<NewInstallation, E>,
    report: &mut Report,
) -> Result<(), InstallError>
where
    E: Error + Send + Sync + 'static,
{
    begin(client).await?;
    let done = match plan(client, config).await {
        Ok(plan) if !is_published && !plan.published_by.is_empty() => Err(InstallError::Published(plan.published_by)),
        Ok(plan) => apply(client, config, plan, new, report).await,
        Err(error) => Err(error),
    };
    end(client).await;
    done
}

/// The SQL that [`migrate`] would run, complete and in order; changes nothing.
///
/// # Errors
/// [`InstallError`].
pub async fn migrate_plan(client: &mut Client, config: &Config) -> Result<String, InstallError> {
    client.batch_execute(SET_UP).await?;
    let plan = plan(client, config).await?;
    let sql = print(&plan, config);
    Ok(if plan.steps.is_empty() { sql } else { format!("{FOR_READING}\n{sql}") })
}

/// One `migrate` or `uninstall` at a time.
async fn begin(client: &Client) -> Result<(), InstallError> {
    client.batch_execute(SET_UP).await?;
    client.execute("SELECT set_config('lock_timeout', '60s', false)", &[]).await?;
    client.execute("-- install::lock\nSELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(|error| {
        match error.code().map(tokio_postgres::error::SqlState::code) {
            Some("55P03") => InstallError::AnotherRuns,
            _ => error.into(),
        }
    })?;
    client.batch_execute(SET_UP).await?;
    Ok(())
}

/// Lets go of the lock. Where that fails the connection is lost, and the lock with it.
async fn end(client: &Client) {
    drop(client.batch_execute(&format!("-- install::unlock\nRESET ROLE; SELECT pg_advisory_unlock({LOCK})")).await);
}

/// Looks at everything, changes nothing.
async fn plan(client: &mut Client, config: &Config) -> Result<Plan, InstallError> {
    let facts = Facts::read(client, config).await?;
    let (mapped, needed) = look_at_mapping(client, config).await?;
    let (owner, daemon) = (&config.database.owner_role, &config.database.daemon_role);
    let wanted = triggers::wanted(&mapped, &config.leads, config.database.notify);
    let installed = Installed::read(client, &table(&config.leads), owner, mapped.partitioned_by.as_deref()).await?;

    let (mut needs, mut warnings) = roles::roles(client, config, &facts).await?;
    needs.extend(roles::astray(client, config, &facts).await?);
    needs.extend(roles::rights(client, config, &facts, &needed).await?);
    needs.extend(installed.strays(&wanted).map(|stray| {
        let sql = format!("DROP TRIGGER {} ON {};", crate::store::identifier(&stray.name), stray.table);
        Need::new(stray.may_be_dropped, format!("remove a trigger from {} that is not wanted there", stray.table), sql)
    }));
    needs.extend(installed.left().into_iter().map(|(table, may_be_left)| {
        let sql = format!("REVOKE SELECT ON {table} FROM {};", crate::store::identifier(daemon));
        Need::new(may_be_left, format!("take back the right to read {table}"), sql)
    }));
    let id = verify::id_is_indexed(config, &mapped);
    warnings.extend(id.remedy.map(|remedy| format!("{}: {remedy}", id.text)));
    let (mut steps, administrator) = roles::divide(needs);
    let mut published_by = Vec::new();
    if facts.may_look {
        let history = History::read(client).await?;
        if !history.pending.is_empty() {
            published_by = publications(client).await?;
        }
        steps.extend(history.before(owner));
        if !history.pending.is_empty() {
            let heading = "create or upgrade the tables".to_owned();
            steps.push(Step { heading, action: Action::Migrate(history.pending.clone()) });
        }
        steps.extend(history.after(owner));
        if history.pending.is_empty() {
            steps.extend(indexes::look(client).await?.steps(owner));
        }
        steps.extend(grants::steps(client, owner, daemon, !history.is_installed).await?);
        let placed = place(&installed, &wanted, &mapped);
        // A table that was only renamed has its triggers.
        let moves = placed.is_some() && history.names_another_table(&config.leads);
        let mut maps = history.maps(&config.leads, moves, owner);
        if history.is_installed {
            // First: a daemon is to know it before it claims what new functions queue.
            steps.extend(maps.take());
        }
        steps.extend(functions(&installed, &wanted, owner));
        if !history.is_installed {
            steps.push(Step { heading: "note the installation".to_owned(), action: Action::Install });
            steps.extend(maps);
        }
        let leaves_a_mark = placed.is_some() && history.is_installed;
        steps.extend(placed);
        if !history.notes_leads || moves {
            let heading = "note from which captured time on leads are new";
            let note = |newest| Step { heading: heading.to_owned(), action: Action::NoteLeads(newest) };
            steps.extend(capture_clock::printed(&mapped).map(note));
        }
        if leaves_a_mark {
            let heading = "leave a mark, so that daemons look for what was captured meanwhile";
            steps.push(Step::owner(owner, heading, "SELECT nextval('lead_webhook.missed');"));
        }
    }
    Ok(Plan { administrator, steps, warnings, published_by })
}

const PUBLICATIONS: &str = "-- install::publications
SELECT quote_ident(pubname) FROM pg_publication WHERE puballtables ORDER BY 1";

/// The publications that have all tables of the database.
async fn publications(client: &Client) -> Result<Vec<String>, tokio_postgres::Error> {
    texts(client, PUBLICATIONS, &[]).await
}

/// The first column of what `sql` finds.
async fn texts<T: FromIterator<String>>(
    client: &Client,
    sql: &str,
    params: &[Param<'_>],
) -> Result<T, tokio_postgres::Error> {
    client.query(sql, params).await?.iter().map(|row| row.try_get(0)).collect()
}

/// The mapping as SQL and what it needs; or everything that is to be said against it, at once.
async fn look_at_mapping(client: &mut Client, config: &Config) -> Result<(MappedSql, Needed), InstallError> {
    let (mapped, mut problems) = match MappedSql::resolve(client, &config.leads).await {
        Ok(mapped) => (Some(mapped), Vec::new()),
        Err(MappingError::Problems(problems)) => (None, problems),
        Err(MappingError::Database(source)) => return Err(source.into()),
    };
    let has_table = problems.iter().all(|problem| problem.key != "leads.table");
    let needed = if has_table { vet::vet(client, &config.leads, &mut problems).await? } else { Needed::default() };
    match mapped {
        Some(mapped) if problems.is_empty() => Ok((mapped, needed)),
        _ => Err(InstallError::Mapping(problems)),
    }
}

fn functions(installed: &Installed, wanted: &[Trigger], owner: &str) -> Vec<Step> {
    let missing = wanted.iter().filter(|trigger| !installed.has_function(trigger));
    let step = |trigger: &Trigger| {
        let heading = format!("make function lead_webhook.{}", trigger.function);
        Step::owner(owner, heading, trigger.function_sql())
    };
    missing.map(step).collect()
}

fn place(installed: &Installed, wanted: &[Trigger], mapped: &MappedSql) -> Option<Step> {
    let missing = wanted.iter().filter(|trigger| !installed.has_trigger(trigger));
    let sql: Vec<_> = missing.map(|trigger| trigger.trigger_sql(&mapped.table)).collect();
    let heading = format!("install the triggers on {}", mapped.table);
    (!sql.is_empty()).then(|| Step::login(heading, sql.join("\n")).locking_leads())
}

async fn apply<E>(
    client: &mut Client,
    config: &Config,
    plan: Plan,
    new: impl FnOnce() -> Result<NewInstallation, E>,
    report: &mut Report,
) -> Result<(), InstallError>
where
    E: Error + Send + Sync + 'static,
{
    if !plan.administrator.is_empty() {
        return Err(InstallError::NeedsAdministrator { sql: plan.administrator });
    }
    let owner = &config.database.owner_role;
    report.warnings = plan.warnings;
    let mut new = Some(new);
    for step in plan.steps {
        match &step.action {
            Action::Sql(sql) => {
                if let Some(refusal) = sql.run(client, &step.heading).await? {
                    report.warnings.push(format!("{}: not possible: {refusal}", step.heading));
                    continue;
                }
            }
            Action::Migrate(_) => history::run(client, owner).await?,
            Action::Install => {
                if let Some(new) = new.take() {
                    let new = new().map_err(|error| InstallError::NewInstallation(Box::new(error)))?;
                    history::install(client, owner, new).await?;
                }
            }
            Action::NoteLeads(_) => match capture_clock::newest_by_the_daemon(config).await {
                Ok(newest) => history::note_leads(client, owner, newest).await?,
                Err(error) => {
                    let then = "until a `migrate` can, leads from before it whose captured time is ahead look new";
                    report
                        .warnings
                        .push(format!("{}: not possible by the daemon's login: {error}; {then}", step.heading));
                    continue;
                }
            },
        }
        report.done.push(step.heading);
    }
    Ok(())
}

fn print(plan: &Plan, config: &Config) -> String {
    let mut parts: Vec<_> = plan.warnings.iter().map(|warning| format!("-- note: {warning}\n")).collect();
    if !plan.administrator.is_empty() {
        parts.push(format!("-- this user may not do this; an administrator runs it first\n{}", plan.administrator));
    }
    parts.extend(plan.steps.iter().map(|step| step.print(&config.database.owner_role)));
    if plan.steps.is_empty() && plan.administrator.is_empty() {
        parts.push("-- nothing to do\n".to_owned());
    }
    parts.join("\n")
}
