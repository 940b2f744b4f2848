//! Sealing everything anew, row by row, while daemons send and others change endpoints. It only ever goes on from what is
//! there, so that it can be ended at any moment and run again.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    cli::{Failure, context::Context, database::failed_as_owner, progress::Progress},
    dispatch::guard::KEYS,
    keyring::{Column, KeyFile, KeyId, KeyRing, OpenError, Place, ResealError},
    store::{
        installation,
        instances::{self, Running},
        sealed::{self, SealedValues},
        session::Session,
    },
};

/// Endpoints read at a time: a few hundred KiB at most.
const PAGE: i64 = 100;

/// How long a daemon's heartbeat may take to name a key that it has just read, beside `database.poll_interval`, within
/// which one that is full begins its next claim: the heartbeat after that comes within 5 s more.
const HEARTBEATS: Duration = Duration::from_secs(10);

/// Between two looks at the heartbeats.
const LOOK: Duration = Duration::from_millis(500);

/// So often everything is looked through before giving up on endpoints that others change all the time.
const PASSES: usize = 20;

/// What became of it.
pub(super) struct Resealed {
    /// How many values were sealed anew.
    pub(super) values: u64,
    /// What no key opens, as it stands at the end.
    pub(super) unopened: Vec<Unopened>,
}

/// A value that no key opens.
pub(super) struct Unopened {
    pub(super) tenant_id: String,
    /// Which of the tenant's.
    pub(super) value: &'static str,
    pub(super) problem: OpenError,
}

/// Puts `key` first in the file and seals everything by it. The installation's own values come first: from then on no
/// command seals by another key, so the endpoints come to an end; and a daemon that is started without the key claims
/// nothing. One that was started just before is found by looking at the heartbeats once more.
pub(super) async fn reseal(
    context: &Context,
    session: &mut Session,
    file: &mut KeyFile,
    key: KeyId,
) -> Result<Resealed, Failure> {
    let progress = Progress::new();
    // First of all: the file is not changed for somebody who may not change the database.
    sealed::may_replace_installation(session).await.map_err(failed_as_owner(context))?;
    await_daemons(context, session, key, "nothing is changed", &progress).await?;
    file.put_first(key).map_err(Failure::operation)?;
    let mut work =
        Work { context, session, ring: file.ring(), progress, values: 0, unopened: Vec::new(), is_clean: false };
    if work.installation().await? {
        let said = "the installation is sealed by the new key, endpoints are not yet";
        await_daemons(context, work.session, key, said, &work.progress).await?;
    }
    for _ in 0..PASSES {
        work.pass().await?;
        if work.is_clean {
            break;
        }
    }
    let Work { progress, values, unopened, is_clean, .. } = work;
    progress.end();
    if !is_clean {
        let text = "endpoints are being changed all the time, and not all of them are sealed anew: run it again";
        return Err(Failure::Operation(text.to_owned()));
    }
    Ok(Resealed { values, unopened })
}

/// Waits until every daemon that runs opens by `key`; refuses where one does not, with what is `said` of the state.
async fn await_daemons(
    context: &Context,
    session: &mut Session,
    key: KeyId,
    said: &str,
    progress: &Progress,
) -> Result<(), Failure> {
    let (asked_at, id) = (Instant::now(), key.to_string());
    let patience = HEARTBEATS + context.config.database.poll_interval;
    loop {
        let running = instances::running(session, &id).await.map_err(failed_as_owner(context))?;
        let without: Vec<&Running> = running.iter().filter(|daemon| !daemon.has_key).collect();
        if without.is_empty() {
            return Ok(());
        }
        if asked_at.elapsed() > patience {
            let named: Vec<_> = without.iter().map(|d| format!("process {} on {}", d.process_id, d.host)).collect();
            return Err(Failure::Operation(format!(
                "{said}: {} could not open what key {id} seals. Copy the key file to its host and restart it \
                 (`systemctl restart lead-webhook`; a reload where it reads keys.file itself), then run this again. One that \
                 has died counts for 30 s",
                named.join(", "),
            )));
        }
        progress.show(&format!("waiting for {} of {} daemons to know key {id}", without.len(), running.len()));
        sleep(LOOK).await;
    }
}

struct Work<'a> {
    context: &'a Context,
    session: &'a mut Session,
    ring: &'a KeyRing,
    progress: Progress,
    values: u64,
    unopened: Vec<Unopened>,
    /// The last pass found nothing to do.
    is_clean: bool,
}

impl Work<'_> {
    /// The uniqueness key and the key check, in one statement. `false`: there was nothing to do.
    async fn installation(&mut self) -> Result<bool, Failure> {
        let failed = failed_as_owner(self.context);
        let Some(before) = installation::read(self.session).await.map_err(&failed)? else { return Ok(false) };
        let tenant = before.installation_id.to_string();
        let sealed = |column, sealed: &Vec<u8>| {
            let anew = self.ring.reseal(&Place { tenant: &tenant, column }, sealed);
            anew.map_err(|error| Failure::Operation(format!("the installation's own keys: {error}: {KEYS}")))
        };
        let check = sealed(Column::KeyCheck, &before.key_check_sealed)?;
        let uniqueness = sealed(Column::UniquenessKey, &before.uniqueness_key_sealed)?;
        let n = u64::from(check.is_some()) + u64::from(uniqueness.is_some());
        if n == 0 {
            return Ok(false);
        }
        let check = check.as_ref().unwrap_or(&before.key_check_sealed);
        let uniqueness = uniqueness.as_ref().unwrap_or(&before.uniqueness_key_sealed);
        if !sealed::replace_installation(self.session, &before, check, uniqueness).await.map_err(&failed)? {
            let text = "somebody else seals the installation anew just now: run it again when that has ended";
            return Err(Failure::Operation(text.to_owned()));
        }
        self.values += n;
        Ok(true)
    }

    /// All endpoints once.
    async fn pass(&mut self) -> Result<(), Failure> {
        let failed = failed_as_owner(self.context);
        (self.is_clean, self.unopened) = (true, Vec::new());
        let (mut last, mut seen) = (String::new(), 0);
        loop {
            let page = sealed::page(self.session, &last, PAGE).await.map_err(&failed)?;
            let Some(end) = page.last() else { return Ok(()) };
            last.clone_from(&end.tenant_id);
            for before in &page {
                let Some((after, n)) = self.anew(before)? else { continue };
                // Also where it was replaced: somebody may have sealed by the old key what was looked at already.
                self.is_clean = false;
                if sealed::replace(self.session, before, &after).await.map_err(&failed)? {
                    self.values += n;
                }
            }
            seen += page.len();
            self.progress.show(&format!("{seen} endpoints looked at, {} values sealed anew", self.values));
        }
    }

    /// The endpoint's values sealed anew, and how many of them were not; `None`: there is nothing to do. What does not open
    /// is noted and stays.
    fn anew(&mut self, before: &SealedValues) -> Result<Option<(SealedValues, u64)>, Failure> {
        let (mut after, mut n) = (before.clone(), 0);
        let values = [
            (Column::EndpointUrl, "URL", &mut after.url_sealed),
            (Column::EndpointSecret, "secret", &mut after.secret_sealed),
            (Column::EndpointHeaders, "headers", &mut after.headers_sealed),
        ];
        for (column, value, sealed) in values {
            let Some(old) = sealed.as_deref() else { continue };
            match self.ring.reseal(&Place { tenant: &before.tenant_id, column }, old) {
                Ok(None) => {}
                Ok(Some(anew)) => {
                    *sealed = Some(anew);
                    n += 1;
                }
                Err(ResealError::Open(problem)) => {
                    self.unopened.push(Unopened { tenant_id: before.tenant_id.clone(), value, problem });
                }
                Err(ResealError::Seal(error)) => return Err(Failure::operation(error)),
            }
        }
        Ok((n > 0).then_some((after, n)))
    }
}
