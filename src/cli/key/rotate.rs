//! `lead-webhook key rotate`: another key seals, while daemons run.
//!
//! The order is what makes it safe. A daemon that lacks the key by which a secret is sealed cannot send, so the new key
//! opens everywhere before it seals anything, and heartbeats tell whether it does. The old key is dropped when nothing is
//! sealed by it any more; commands that come with a copy of the file in which it is still the first, and daemons that have
//! read such a one, seal by the new one all the same ([`keys::vouch`](crate::control::keys::vouch)).

use std::collections::HashMap;

use serde_json::json;

use super::reseal::{Resealed, reseal};
use crate::{
    cli::{Failure, context::Context, database::failed_as_owner, output},
    dispatch::guard::{KEYS, open_key},
    keyring::{ChangeKeyFileError, KeyFile, KeyId},
    store::{installation, sealed, session::Session},
};

/// One of the three steps.
pub(in crate::cli) async fn rotate(
    context: &Context,
    reseal: Option<&str>,
    drop_old: bool,
    json: bool,
) -> Result<(), Failure> {
    let key = reseal
        .map(|text| {
            KeyId::parse(text).ok_or_else(|| {
                Failure::Arguments(format!(
                    "--reseal {text:?}: a key's id is 8 lower-case hex digits, as in the key file"
                ))
            })
        })
        .transpose()?;
    let file = KeyFile::open(&context.config.keys_file).map_err(unchanged)?;
    let session = context.owner_session().await?;
    let mut rotation = Rotation { context, file, session, json };
    rotation.vouch().await?;
    match key {
        Some(key) => rotation.reseal(key).await,
        None if drop_old => rotation.drop_old().await,
        None => rotation.add().await,
    }
}

/// A key file that cannot be read is bad configuration; one that cannot be changed is a failed operation.
fn unchanged(error: ChangeKeyFileError) -> Failure {
    match error {
        ChangeKeyFileError::Unusable(error) => Failure::Configuration(error.to_string()),
        error => Failure::operation(error),
    }
}

struct Rotation<'a> {
    context: &'a Context,
    file: KeyFile,
    session: Session,
    json: bool,
}

impl Rotation<'_> {
    /// Refuses a key file that is not the installation's.
    async fn vouch(&mut self) -> Result<(), Failure> {
        let read = installation::read(&mut self.session).await.map_err(failed_as_owner(self.context))?;
        let installation = read.ok_or_else(|| {
            Failure::Operation("the schema is not installed here: run `lead-webhook migrate`".to_owned())
        })?;
        open_key(&installation, self.file.ring()).map(drop).map_err(|error| {
            let file = self.path();
            Failure::Configuration(format!(
                "key file {file}: not the one that this installation was made with ({error}); nothing is changed: {KEYS}"
            ))
        })
    }

    /// Step 1: a key that opens and seals nothing yet.
    async fn add(&mut self) -> Result<(), Failure> {
        let first = self.file.ring().sealing_id();
        if self.file.ring().key_ids().count() > 1 {
            let values = self.values().await?;
            let keys: Vec<_> =
                self.file.ring().key_ids().map(|id| format!("{id} seals {} values", of(&values, id))).collect();
            let others: Vec<_> = self.others().map(|id| format!("`lead-webhook key rotate --reseal {id}`")).collect();
            return Err(Failure::Operation(format!(
                "key file {} holds several keys already, and none is added: {}.\n\
                 Where a new one waits behind the first: restart the daemons of all hosts, then {}.\n\
                 Where {first} is the newest: `lead-webhook key rotate --reseal {first}`, then \
                 `lead-webhook key rotate --drop-old`, then again",
                self.path(),
                keys.join(", "),
                others.join(" or "),
            )));
        }
        let key = self.file.add().map_err(unchanged)?;
        output::message(&format!(
            "key {key} is added to {}: it opens, and seals nothing yet. Next:\n\
             1. Copy this file to every other host that runs a daemon or these commands. `key rotate` there would make \
             another key.\n\
             2. Let the daemons of all hosts read it, one after the other: `systemctl restart lead-webhook` where systemd \
             hands out the key file (LoadCredential, as in the unit; a reload reads the old copy again), SIGHUP where they \
             read {} themselves.\n\
             3. `lead-webhook key rotate --reseal {key}`. It is refused while a daemon lacks the key.",
            self.path(),
            self.path(),
        ));
        self.tell(&json!({ "done": "added", "key_id": key.to_string() })).await
    }

    /// Step 2: everything sealed by `key`.
    async fn reseal(&mut self, key: KeyId) -> Result<(), Failure> {
        let path = self.path();
        if !self.file.ring().key_ids().any(|id| id == key) {
            return Err(Failure::Operation(format!(
                "key file {path} does not hold key {key}; nothing is changed: copy the file from the host where \
                 `lead-webhook key rotate` was run"
            )));
        }
        let Resealed { values, unopened } = reseal(self.context, &mut self.session, &mut self.file, key).await?;
        output::message(&format!("key {key} seals from here on: {values} values were sealed anew."));
        let listed: Vec<_> = unopened
            .iter()
            .map(|one| json!({ "tenant_id": one.tenant_id, "value": one.value, "problem": one.problem.to_string() }))
            .collect();
        let done = json!({ "done": "resealed", "key_id": key.to_string(), "values": values, "unopened": listed });
        if !unopened.is_empty() {
            for one in &unopened {
                output::message(&format!("tenant {}: {}: {}", one.tenant_id, one.value, one.problem));
            }
            self.tell(&done).await?;
            return Err(Failure::Operation(format!(
                "{} values do not open by any key, and are left as they are: put their keys back and run this again, or set \
                 them anew (`endpoint set`, `secret generate`)",
                unopened.len()
            )));
        }
        if self.others().next().is_some() {
            output::message(&format!(
                "Next:\n\
                 1. Copy {path} to every other host, or run the same command there: `check` warns there until then.\n\
                 2. `lead-webhook key rotate --drop-old`. Keep the old key as long as you keep backups of the database from \
                 before.",
            ));
        }
        self.tell(&done).await
    }

    /// Step 3: only the key that seals stays.
    async fn drop_old(&mut self) -> Result<(), Failure> {
        let (first, values) = (self.file.ring().sealing_id(), self.values().await?);
        let old: Vec<KeyId> = self.others().collect();
        let used: Vec<_> = old.iter().map(|id| (id, of(&values, *id))).filter(|(_, n)| *n > 0).collect();
        if !used.is_empty() {
            let used: Vec<_> = used.iter().map(|(id, n)| format!("{n} values are sealed by key {id}")).collect();
            return Err(Failure::Operation(format!(
                "nothing is dropped: {}. `lead-webhook key rotate --reseal KEY` first, with the key that is to stay; \
                 {first} is the first of the file",
                used.join(", "),
            )));
        }
        if let Some(new) = self.file.waiting().map_err(|error| Failure::Configuration(error.to_string()))?.first() {
            return Err(Failure::Operation(format!(
                "nothing is dropped: key {new} was added to {} and seals nothing yet; it would be dropped, and {first} stay. \
                 `lead-webhook key rotate --reseal {new}` first; to give it up, delete its line and the comment above it",
                self.path(),
            )));
        }
        if old.is_empty() {
            output::message(&format!("nothing to drop: {} holds key {first} alone", self.path()));
        } else {
            self.file.keep_first().map_err(unchanged)?;
            let dropped: Vec<_> = old.iter().map(ToString::to_string).collect();
            output::message(&format!(
                "dropped from {}: {}; nothing is sealed by it. Run the same on every other host, or copy the file there, and \
                 restart the daemons when it suits: until then they keep it in memory.",
                self.path(),
                dropped.join(", "),
            ));
        }
        let dropped: Vec<_> = old.iter().map(ToString::to_string).collect();
        self.tell(&json!({ "done": "dropped", "key_ids": dropped })).await
    }

    /// How many values each key seals.
    async fn values(&mut self) -> Result<HashMap<KeyId, i64>, Failure> {
        let heads = sealed::heads(&mut self.session, KeyId::HEAD).await.map_err(failed_as_owner(self.context))?;
        Ok(heads.into_iter().filter_map(|(head, n)| Some((KeyId::of(&head)?, n))).collect())
    }

    /// The result as JSON, with the file as it is now, where that is wanted.
    async fn tell(&mut self, done: &serde_json::Value) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let values = self.values().await?;
        let keys = self.file.ring().key_ids();
        let keys: Vec<_> = keys.map(|id| json!({ "key_id": id.to_string(), "seals": of(&values, id) })).collect();
        let mut told = done.clone();
        if let Some(told) = told.as_object_mut() {
            told.insert("file".to_owned(), json!(self.path()));
            told.insert("keys".to_owned(), json!(keys));
        }
        output::json(&told)
    }

    /// Every key but the one that seals.
    fn others(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.file.ring().key_ids().skip(1)
    }

    fn path(&self) -> String {
        self.context.config.keys_file.display().to_string()
    }
}

fn of(values: &HashMap<KeyId, i64>, id: KeyId) -> i64 {
    values.get(&id).copied().unwrap_or_default()
}
