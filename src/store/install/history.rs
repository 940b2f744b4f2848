//! The numbered migrations, the installation's row, and a log that an earlier `uninstall --keep-log` left.

use jiff::Timestamp;
use refinery::{Migration, Runner};
use uuid::Uuid;

use super::{error::InstallError, step::Step};
use crate::{
    config::Leads,
    store::{
        capture_clock,
        client::Client,
        identifier,
        installation::{Identity, identity},
        literal, mapped_as,
        session::Param,
    },
};

/// Where migrations are noted.
pub(super) const HISTORY: &str = "lead_webhook.migrations";

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// What a new installation brings along; made by the caller, who has the key file.
#[derive(Debug)]
pub struct NewInstallation {
    /// Bound into whatever is sealed for this installation.
    pub installation_id: Uuid,
    /// A known text, sealed.
    pub key_check_sealed: Vec<u8>,
    /// The HMAC key of the uniqueness keys, sealed.
    pub uniqueness_key_sealed: Vec<u8>,
}

/// How far the schema is.
#[derive(Debug)]
pub(super) struct History {
    /// Migrations that are still to be run.
    pub(super) pending: Vec<Migration>,
    /// Whether the installation's row is written.
    pub(super) is_installed: bool,
    /// Whether it says from which captured time on leads are new.
    pub(super) notes_leads: bool,
    /// What it says that the triggers go by.
    pub(super) mapped: Option<String>,
    log_is_kept: bool,
    log_is_aside: bool,
}

const TABLES: &str = "-- history::tables
SELECT to_regclass('lead_webhook.migrations') IS NOT NULL, to_regclass('lead_webhook.installation') IS NOT NULL,
       to_regclass('lead_webhook.deliveries') IS NOT NULL, to_regclass('lead_webhook.deliveries_kept') IS NOT NULL";

const APPLIED: &str = "-- history::applied
SELECT version, name, checksum FROM lead_webhook.migrations ORDER BY version";

const INSTALLATION: &str = "-- history::installation
SELECT leads_since IS NOT NULL, mapped FROM lead_webhook.installation";

/// Writes the installation's row.
pub(super) const INSTALL: &str = "-- history::install
INSERT INTO lead_webhook.installation
    (installation_id, system_identifier, database_name, key_check_sealed, uniqueness_key_sealed, table_oid)
VALUES ($1, $2, $3, $4, $5, 'lead_webhook.installation'::regclass);";

impl History {
    /// Reads how far the schema is.
    pub(super) async fn read(client: &Client) -> Result<Self, InstallError> {
        let row = client.query_one(TABLES, &[]).await?;
        let (has_history, has_installation): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        let (has_log, log_is_aside): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
        let mut pending = migrations();
        let applied = if has_history { client.query(APPLIED, &[]).await? } else { Vec::new() };
        let log_is_kept = has_log && applied.is_empty();
        for row in applied {
            let (version, name, checksum): (i32, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let same = |known: &Migration| {
                known.version() == version && known.name() == name && known.checksum().to_string() == checksum
            };
            let Some(at) = pending.iter().position(same) else {
                return Err(InstallError::ForeignMigration(format!("V{version}__{name}")));
            };
            pending.remove(at);
        }
        let row = if has_installation { client.query_opt(INSTALLATION, &[]).await? } else { None };
        let notes_leads = row.as_ref().map_or(Ok(false), |row| row.try_get(0))?;
        let mapped = row.as_ref().map_or(Ok(None), |row| row.try_get(1))?;
        Ok(Self { pending, is_installed: row.is_some(), notes_leads, mapped, log_is_kept, log_is_aside })
    }

    /// Moves a kept log out of the migrations' way.
    pub(super) fn before(&self, owner: &str) -> Option<Step> {
        self.log_is_kept.then(|| Step::owner(owner, "set the kept log aside", SET_LOG_ASIDE))
    }

    /// Whether the triggers went by a table of another name than that of `leads`.
    pub(super) fn names_another_table(&self, leads: &Leads) -> bool {
        self.mapped.as_ref().is_some_and(|mapped| !mapped_as::is_of(mapped, leads))
    }

    /// Notes what the triggers go by from here on, where that is something else. `moves`: the table is another one, where
    /// nothing was missed before.
    pub(super) fn maps(&self, leads: &Leads, moves: bool, owner: &str) -> Option<Step> {
        let spelled = mapped_as::spelled(leads);
        let since = if moves { ", leads_since = clock_timestamp()" } else { "" };
        let sql = format!("UPDATE lead_webhook.installation SET mapped = {}{since};", literal(&spelled));
        (self.mapped.as_ref() != Some(&spelled)).then(|| Step::owner(owner, "note what is mapped", sql))
    }

    /// Puts a kept log's rows into the new table.
    pub(super) fn after(&self, owner: &str) -> Option<Step> {
        (self.log_is_kept || self.log_is_aside)
            .then(|| Step::owner(owner, "put the kept log's rows back", PUT_LOG_BACK))
    }
}

/// Its indexes' names are needed for the new table's.
const SET_LOG_ASIDE: &str = "ALTER TABLE lead_webhook.deliveries RENAME TO deliveries_kept;
DO $$
DECLARE
    index_name name;
BEGIN
    FOR index_name IN
        SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
        WHERE i.indrelid = 'lead_webhook.deliveries_kept'::regclass
    LOOP
        EXECUTE format('ALTER INDEX lead_webhook.%I RENAME TO %I', index_name, 'kept_' || index_name);
    END LOOP;
END $$;";

/// The columns that both have: the log may be an older version's.
const PUT_LOG_BACK: &str = "DO $$
DECLARE
    columns text;
BEGIN
    SELECT string_agg(quote_ident(kept.attname), ', ' ORDER BY kept.attnum) INTO columns
    FROM pg_attribute AS kept
    JOIN pg_attribute AS new USING (attname)
    WHERE kept.attrelid = 'lead_webhook.deliveries_kept'::regclass AND kept.attnum > 0 AND NOT kept.attisdropped
      AND new.attrelid = 'lead_webhook.deliveries'::regclass AND NOT new.attisdropped AND new.attgenerated = '';
    EXECUTE format('INSERT INTO lead_webhook.deliveries (%1$s) SELECT %1$s FROM lead_webhook.deliveries_kept', columns);
    DROP TABLE lead_webhook.deliveries_kept;
END $$;";

/// What the migrations consist of, a statement each, without the comments before it. (Bodies of functions fall apart.)
pub(super) fn statements() -> Vec<String> {
    let code =
        |sql: &str| sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    let migrations = migrations();
    let each = migrations.iter().map(|migration| code(migration.sql().unwrap_or_default()));
    each.flat_map(|sql| sql.split(";\n").map(|one| one.trim().to_owned()).collect::<Vec<_>>()).collect()
}

/// All of them, in their order.
fn migrations() -> Vec<Migration> {
    let mut migrations = runner().get_migrations().clone();
    migrations.sort();
    migrations
}

fn runner() -> Runner {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name(HISTORY);
    runner
}

/// Runs what is pending, as the owner role.
pub(super) async fn run(client: &mut Client, owner: &str) -> Result<(), InstallError> {
    client.batch_execute(&format!("SET ROLE {}", identifier(owner))).await?;
    let done = runner().run_async(client.driver()).await;
    client.batch_execute("RESET ROLE").await?;
    done?;
    Ok(())
}

/// Notes in the installation's row from which captured time on leads are new.
pub(super) async fn note_leads(
    client: &mut Client,
    owner: &str,
    newest: Option<Timestamp>,
) -> Result<(), InstallError> {
    write(client, owner, capture_clock::NOTE, &[&newest]).await
}

/// Writes the installation's row.
pub(super) async fn install(client: &mut Client, owner: &str, new: NewInstallation) -> Result<(), InstallError> {
    let Identity { system_identifier, database_name, .. } = identity(client).await?;
    let NewInstallation { installation_id, key_check_sealed, uniqueness_key_sealed } = new;
    let row: [Param<'_>; 5] =
        [&installation_id, &system_identifier, &database_name, &key_check_sealed, &uniqueness_key_sealed];
    write(client, owner, INSTALL, &row).await
}

/// Runs one statement as the owner role.
async fn write(client: &mut Client, owner: &str, sql: &str, params: &[Param<'_>]) -> Result<(), InstallError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(&format!("SET LOCAL ROLE {}", identifier(owner))).await?;
    transaction.execute(sql, params).await?;
    transaction.commit().await?;
    Ok(())
}
