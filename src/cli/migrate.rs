//! `lead-webhook migrate` and `uninstall`: our schema and triggers in the application's database.

use uuid::Uuid;

use crate::{
    dispatch::guard,
    keyring::{Column, KeyRing, Place},
    store::install::{self, InstallError, NewInstallation, Report},
    visitor,
};

use super::{Failure, context::Context, database::failed, output};

/// What is sealed to tell later whether the key file is still the installation's.
const KEY_CHECK: &[u8] = b"lead-webhook";

/// Creates or upgrades schema and triggers, or prints the SQL.
pub(super) async fn migrate(context: &Context, dry_run: bool, is_published: bool) -> Result<(), Failure> {
    let mut session = context.lasting_owner_session("migrate").await?;
    if dry_run {
        let sql = install::migrate_plan(session.client(), &context.config).await.map_err(Failure::operation)?;
        return output::data(sql.trim_end());
    }
    let keyring = context.keyring()?;
    let mut report = Report::default();
    let new = || new_installation(&keyring);
    let ended = install::migrate(session.client(), &context.config, is_published, new, &mut report).await;
    tell(&report, ended, "everything is in place already")?;
    // It would look as if all were well, and nothing were sent.
    if let Err(guarded) = guard::look(&mut session, &keyring).await.map_err(failed(context))? {
        output::message(&format!("note: {guarded}"));
    }
    Ok(())
}

/// Removes triggers and schema, or prints the SQL.
pub(super) async fn uninstall(context: &Context, keep_log: bool, dry_run: bool) -> Result<(), Failure> {
    let mut session = context.lasting_owner_session("uninstall").await?;
    if dry_run {
        let sql =
            install::uninstall_plan(session.client(), &context.config, keep_log).await.map_err(Failure::operation)?;
        return output::data(sql.trim_end());
    }
    let mut report = Report::default();
    let ended = install::uninstall(session.client(), &context.config, keep_log, &mut report).await;
    tell(&report, ended, "there is nothing to remove")
}

/// What was done, also where it ended by an error.
fn tell(report: &Report, ended: Result<(), InstallError>, nothing: &str) -> Result<(), Failure> {
    for warning in &report.warnings {
        output::message(&format!("note: {warning}"));
    }
    for done in &report.done {
        output::message(&format!("done: {done}"));
    }
    ended.map_err(Failure::operation)?;
    if report.done.is_empty() {
        output::message(nothing);
    }
    Ok(())
}

/// Why a new installation could not be sealed.
#[derive(Debug, thiserror::Error)]
enum SealingFailed {
    #[error("the operating system gives no randomness")]
    Randomness(#[from] getrandom::Error),
    #[error(transparent)]
    Seal(#[from] crate::keyring::SealError),
}

/// A new installation's id and keys, sealed for it.
fn new_installation(keyring: &KeyRing) -> Result<NewInstallation, SealingFailed> {
    let installation_id = Uuid::new_v4();
    let tenant = installation_id.to_string();
    let mut key = zeroize::Zeroizing::new([0_u8; visitor::KEY_BYTES]);
    getrandom::fill(&mut *key)?;
    Ok(NewInstallation {
        installation_id,
        key_check_sealed: keyring.seal(&Place { tenant: &tenant, column: Column::KeyCheck }, KEY_CHECK)?,
        uniqueness_key_sealed: keyring.seal(&Place { tenant: &tenant, column: Column::UniquenessKey }, &*key)?,
    })
}
