//! What `check` says about the install: is everything there, and as the configuration wants it?

use jiff::SignedDuration;

use super::{
    error::InstallError,
    grants,
    history::History,
    indexes::{self, Found},
    installed::Installed,
    planted, privileges, publications,
    triggers::{self, Trigger},
    vet,
};
use crate::{
    config::{Config, Mapping},
    store::{
        capture_clock,
        capture_index::{self, CaptureIndex},
        client::Client,
        clocks, identifier,
        mapping::{MappedSql, MappingError, Problem, mapped, raw, table},
        said,
    },
};

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// Works, but the operator should know.
    Warning,
    /// Leads are lost or not sent until the operator acts.
    Broken,
}

/// One line of `check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, a word or two.
    pub subject: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// In words.
    pub text: String,
    /// What to do; `None` where nothing is to be done.
    pub remedy: Option<String>,
}

const MIGRATE: &str = "run `lead-webhook migrate`";

impl Finding {
    fn fine(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Fine, text: text.into(), remedy: None }
    }

    fn warning(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Warning, text: text.into(), remedy: Some(remedy.into()) }
    }

    fn broken(subject: &'static str, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, verdict: Verdict::Broken, text: text.into(), remedy: Some(remedy.into()) }
    }
}

/// Compares what is there with what the configuration wants; reads only. `client` is the daemon's own session: its
/// rights are what counts.
///
/// # Errors
/// [`InstallError::Database`] when the database cannot be asked. What is wrong is a [`Finding`].
pub async fn verify(client: &mut Client, config: &Config) -> Result<Vec<Finding>, InstallError> {
    let tables = tables(client, &config.database.owner_role).await?;
    let are_made = tables.verdict == Verdict::Fine;
    let mut findings = vec![tables];
    if are_made {
        findings.extend(unindexed(client).await?);
        findings.extend(published(client).await?);
    }
    findings.extend(encoding(client).await?);
    findings.push(own_rights(client, config).await?);
    findings.extend(privileges::beyond(client, config).await?);
    let mapped = match MappedSql::resolve(client, &config.leads).await {
        Ok(mapped) => mapped,
        Err(MappingError::Problems(problems)) => {
            findings.extend(problems.iter().map(wrongly_mapped));
            return Ok(findings);
        }
        Err(MappingError::Database(source)) => return Err(source.into()),
    };
    findings.push(Finding::fine("mapping", format!("the columns of {} are there", mapped.table)));
    findings.extend(vet::unseen_columns(client, &config.leads).await?.iter().map(wrongly_mapped));
    let installed =
        Installed::read(client, &mapped.table, &config.database.owner_role, mapped.partitioned_by.as_deref()).await?;
    let wanted = triggers::wanted(&mapped, &config.leads, config.database.notify);
    findings.extend(wanted.iter().map(|trigger| in_place(&installed, trigger)));
    findings.extend(installed.strays(&wanted).map(|stray| {
        let text = format!("trigger {} on {} calls our function too", stray.name, stray.table);
        Finding::broken("triggers", text, MIGRATE)
    }));
    findings.push(may_read_leads(client, config, &mapped).await?);
    findings.push(id_is_indexed(config, &mapped));
    findings.push(sweep_is_on(client, config, &mapped).await?);
    findings.extend(replication(client, &mapped).await?);
    Ok(findings)
}

fn wrongly_mapped(problem: &Problem) -> Finding {
    Finding::broken("mapping", problem.to_string(), "correct it, then run `lead-webhook migrate`")
}

const HAS_HISTORY: &str = "-- verify::has_history
SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false),
       coalesce(has_table_privilege(c.oid, 'SELECT'), false)
FROM (SELECT) AS one
LEFT JOIN pg_namespace AS n ON n.nspname = 'lead_webhook'
LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'migrations'";

/// Our tables' indexes that are lacking, and what an interrupted REINDEX has left.
async fn unindexed(client: &Client) -> Result<Vec<Finding>, InstallError> {
    let Found { lacking, left_over } = indexes::look(client).await?;
    let lacking = lacking.iter().map(|index| {
        let text = format!("index {} is missing, or not usable", index.qualified());
        Finding::broken("tables", text, format!("{MIGRATE}: outcomes wait while it is made"))
    });
    let left_over = left_over.iter().map(|name| {
        let name = indexes::qualified(name);
        let text = format!("index {name} is of no use and is written to: an interrupted REINDEX has left it");
        Finding::warning("tables", text, format!("DROP INDEX {name};"))
    });
    Ok(lacking.chain(left_over).collect())
}

/// Who follows a publication of all tables must have ours too.
async fn published(client: &Client) -> Result<Option<Finding>, InstallError> {
    let by = publications(client).await?;
    let text = format!("publication {} is FOR ALL TABLES: its subscribers need these too", by.join(", "));
    Ok((!by.is_empty()).then(|| Finding::fine("tables", text)))
}

const IS_UNCHECKED: &str = "-- verify::is_unchecked
SELECT current_setting('server_encoding') = 'SQL_ASCII'";

/// A server that does not know its texts' encoding takes any bytes, also those that it cannot tell us.
async fn encoding(client: &Client) -> Result<Option<Finding>, InstallError> {
    let is_unchecked: bool = client.query_one(IS_UNCHECKED, &[]).await?.try_get(0)?;
    let text = "the database's encoding is SQL_ASCII: an id or tenant whose bytes are no UTF-8 stops the claims of all";
    let remedy =
        "add CHECK (convert_from(convert_to(id, 'SQL_ASCII'), 'UTF8') IS NOT NULL) to such columns, or move to UTF8";
    Ok(is_unchecked.then(|| Finding::warning("encoding", text, remedy)))
}

async fn tables(client: &Client, owner_role: &str) -> Result<Finding, InstallError> {
    let planted = planted::find(client, owner_role, false).await?;
    if !planted.is_empty() {
        let text = format!("schema lead_webhook has what is not lead-webhook's: {}", planted.join("; "));
        return Ok(Finding::broken("tables", text, "find out who has put it there, and drop it"));
    }
    let row = client.query_one(HAS_HISTORY, &[]).await?;
    let (exists, may_use, may_read): (bool, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(match (exists, may_use && may_read) {
        (false, _) => Finding::broken("tables", "schema lead_webhook is not there", MIGRATE),
        (true, false) => Finding::broken("tables", "this user may not look into schema lead_webhook", MIGRATE),
        (true, true) => match History::read(client).await {
            Ok(history) if !history.pending.is_empty() => Finding::broken("tables", "are an older version's", MIGRATE),
            Ok(history) if !history.is_installed => {
                Finding::broken("tables", "the installation is not complete", MIGRATE)
            }
            Ok(_) => Finding::fine("tables", "are this version's"),
            Err(error @ InstallError::ForeignMigration(_)) => {
                Finding::broken("tables", error.to_string(), "install the version that migrated them, or a newer one")
            }
            Err(error) => return Err(error),
        },
    })
}

async fn own_rights(client: &Client, config: &Config) -> Result<Finding, InstallError> {
    let (owner, role) = (&config.database.owner_role, &config.database.daemon_role);
    let missing = [(owner, grants::of_owner(client, owner).await?), (role, grants::of_daemon(client, role).await?)];
    if let Some((role, missing)) = missing.into_iter().find(|(_, missing)| !missing.is_empty()) {
        let (first, rest) = (missing.first().map_or("", String::as_str), missing.len() - 1);
        let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
        let text = format!("{role} lacks: {}{more}", first.trim_end_matches(';'));
        return Ok(Finding::broken("rights", text, MIGRATE));
    }
    let is_member: bool = client.query_one(IS_MEMBER, &[&role]).await?.try_get(0)?;
    Ok(if is_member {
        Finding::fine("rights", format!("{role} has what it needs of our tables, and this user is a member"))
    } else {
        Finding::broken(
            "rights",
            format!("this user has not the rights of {role}"),
            format!("{MIGRATE} and do what it notes"),
        )
    })
}

const IS_MEMBER: &str = "-- verify::is_member
SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = $1";

fn in_place(installed: &Installed, wanted: &Trigger) -> Finding {
    let (name, subject) = (wanted.name, "triggers");
    if installed.is_switched_off(wanted) {
        Finding::broken(subject, format!("{name} is switched off: no lead is queued by it"), MIGRATE)
    } else if !installed.has_trigger(wanted) {
        Finding::broken(subject, format!("{name} is not in place: no lead is queued by it"), MIGRATE)
    } else if installed.has_function(wanted) {
        Finding::fine(subject, format!("{name} is in place and matches the mapping"))
    } else {
        Finding::broken(subject, format!("{name} does not match the mapping, the table or this version"), MIGRATE)
    }
}

/// Reads no row: the server checks every right before the first.
async fn may_read_leads(client: &Client, config: &Config, mapped: &MappedSql) -> Result<Finding, InstallError> {
    let values: Vec<_> = self::mapped(&config.leads.columns).into_iter().map(|(_, mapping)| raw(mapping)).collect();
    let sql = format!("-- verify::may_read_leads\nSELECT {} FROM {} AS lead LIMIT 0", values.join(", "), mapped.table);
    match client.batch_execute(&sql).await {
        Ok(()) => Ok(Finding::fine("leads", "the mapped columns can be read")),
        Err(error) if error.as_db_error().is_some() => Ok(Finding::broken("leads", said(&error), MIGRATE)),
        Err(error) => Err(error.into()),
    }
}

/// Leads are looked up by id at every claim.
pub(super) fn id_is_indexed(config: &Config, mapped: &MappedSql) -> Finding {
    let (id, subject) = (&config.leads.columns.id, "leads");
    match id {
        Mapping::Column(_) if mapped.id_is_indexed => Finding::fine(subject, "the id has an index"),
        Mapping::Column(_) => {
            // On a partitioned table the server refuses both words.
            let kind = if mapped.partitioned_by.is_none() { "UNIQUE INDEX CONCURRENTLY" } else { "INDEX" };
            let remedy = format!("CREATE {kind} ON {} ({});", table(&config.leads), column(id));
            Finding::warning(subject, "the id has no index: every claim reads the whole table", remedy)
        }
        Mapping::Sql(_) => {
            let text = "the id is an expression: every claim reads the whole table unless it has an index";
            Finding::warning(subject, text, format!("see that {} has an index over {}", table(&config.leads), raw(id)))
        }
    }
}

/// Without an index on the captured time the sweep would read the whole table.
async fn sweep_is_on(client: &mut Client, config: &Config, mapped: &MappedSql) -> Result<Finding, InstallError> {
    let off = "the sweep is off, leads that a failing trigger misses are not looked for";
    let warning = |why: &str, remedy: String| Finding::warning("sweep", format!("{off}: {why}"), remedy);
    Ok(match capture_index::look(client, mapped).await {
        Ok(CaptureIndex::Usable) => return on_time(client, mapped).await,
        Ok(CaptureIndex::Missing { create: Some(create) }) => {
            let is_expression = matches!(config.leads.columns.captured_at, Some(Mapping::Sql(_)));
            let unless =
                if is_expression { " -- refused where the expression is not immutable: map a column then" } else { "" };
            warning("the captured time has no index", format!("{create}{unless}"))
        }
        Ok(CaptureIndex::Missing { create: None }) => {
            let remedy = "make an index over the expression of leads.columns.captured_at, or map a column";
            warning("the captured time has no index", remedy.to_owned())
        }
        Ok(CaptureIndex::OnlyADay) => {
            let remedy = "map a timestamp to leads.columns.captured_at, where there is one";
            warning("the captured time is a date, which is too coarse", remedy.to_owned())
        }
        Ok(CaptureIndex::Unmapped) => {
            let remedy = "map leads.columns.captured_at, where the table has such a time";
            warning("the captured time is not mapped", remedy.to_owned())
        }
        Err(error) if error.as_db_error().is_some() => Finding::broken("sweep", said(&error), MIGRATE),
        Err(error) => return Err(error.into()),
    })
}

/// Clocks of applications differ by less.
const MAY_BE_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Captured times that are far from the server's clock are not what they are taken for.
async fn on_time(client: &mut Client, mapped: &MappedSql) -> Result<Finding, InstallError> {
    let newest = match capture_clock::newest(client, mapped).await {
        Ok(newest) => newest,
        // Whether leads can be read at all is another finding.
        Err(error) if error.as_db_error().is_some() => None,
        Err(error) => return Err(error.into()),
    };
    let now = clocks::now(client).await?;
    let ahead = newest.map_or(SignedDuration::ZERO, |newest| newest.duration_since(now));
    if ahead < MAY_BE_AHEAD {
        return Ok(Finding::fine("sweep", "leads that a failing trigger misses are looked for by their captured time"));
    }
    let text = format!(
        "leads have captured times ahead of the server's clock, by up to {} min; a timestamp without time zone is taken for \
         UTC",
        ahead.as_mins()
    );
    let remedy = "where it is local time, say so: captured_at = \"sql: lead.… AT TIME ZONE 'Europe/Berlin'\"";
    Ok(Finding::warning("captured times", text, remedy))
}

fn column(mapping: &Mapping) -> String {
    match mapping {
        Mapping::Column(name) => identifier(name),
        Mapping::Sql(expression) => format!("({expression})"),
    }
}

const IS_SUBSCRIBED: &str = "-- verify::is_subscribed
SELECT EXISTS (SELECT FROM pg_subscription_rel WHERE srrelid = $1::text::regclass)";

/// Rows that logical replication writes fire no trigger.
async fn replication(client: &Client, mapped: &MappedSql) -> Result<Option<Finding>, InstallError> {
    let is_subscribed: bool = client.query_one(IS_SUBSCRIBED, &[&mapped.table]).await?.try_get(0)?;
    let text = format!("{} is the target of a subscription: rows that come by it fire no trigger", mapped.table);
    let remedy = "install lead-webhook where the application writes";
    Ok(is_subscribed.then(|| Finding::warning("leads", text, remedy)))
}
