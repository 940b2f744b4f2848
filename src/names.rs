//! Names and their addresses, as this machine knows them: the system's own resolver, hosts file, search list and name
//! servers included. Each look-up has a thread of its own: the runtime's pool panics where the system has none left.

use std::{
    collections::HashMap,
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use tokio::sync::{Semaphore, oneshot, watch};

use crate::shortage::Shortage;

/// So many look-ups are under way at most. Of a name whose servers are silent each lasts for longer than its attempt.
const LOOK_UPS: usize = 512;

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// Nobody was asked.
    #[error(transparent)]
    Short(Shortage),
    /// No such name, or no working name server; in the system's words.
    #[error("{0}")]
    Failed(String),
}

/// All addresses of a name, in the order in which to try them.
pub type Addresses = Result<Vec<IpAddr>, LookupError>;

/// Look-ups of many names. Those of one name that are under way at once are one.
#[derive(Debug)]
pub struct Names {
    threads: Arc<Semaphore>,
    under_way: Arc<Mutex<HashMap<String, watch::Receiver<Option<Addresses>>>>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { threads: Arc::new(Semaphore::new(LOOK_UPS)), under_way: Arc::default() }
    }
}

impl Names {
    /// The addresses of `host`.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn look_up(&self, host: &str) -> Addresses {
        let mut answer = self.begin(host)?;
        let answer = answer.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        answer.unwrap_or_else(|| Err(LookupError::Failed("the look-up has ended without an answer".to_owned())))
    }

    /// The answer to come: of the look-up that is under way, or of a new one.
    fn begin(&self, host: &str) -> Result<watch::Receiver<Option<Addresses>>, LookupError> {
        let mut under_way = locked(&self.under_way);
        // One whose thread is gone will never be answered.
        if let Some(answer) = under_way.get(host).filter(|answer| answer.has_changed().is_ok()) {
            return Ok(answer.clone());
        }
        let thread = Arc::clone(&self.threads).try_acquire_owned();
        let thread = thread.map_err(|_| LookupError::Short(Shortage::LookUps))?;
        let (sender, answer) = watch::channel(None);
        let (all, name) = (Arc::clone(&self.under_way), host.to_owned());
        start(move || {
            let addresses = ask(&name);
            locked(&all).remove(&name);
            drop(thread);
            // Nobody may be waiting for it any more.
            let _ = sender.send(Some(addresses));
        })?;
        under_way.insert(host.to_owned(), answer.clone());
        Ok(answer)
    }
}

/// The addresses of one name, asked for by nobody else.
///
/// # Errors
/// [`LookupError`].
pub async fn look_up(host: &str) -> Addresses {
    let (sender, answer) = oneshot::channel();
    let name = host.to_owned();
    // Nobody may be waiting for it any more.
    start(move || drop(sender.send(ask(&name))))?;
    answer.await.unwrap_or_else(|error| Err(LookupError::Failed(error.to_string())))
}

fn start(look_up: impl FnOnce() + Send + 'static) -> Result<(), LookupError> {
    thread::Builder::new().spawn(look_up).map(drop).map_err(|_| LookupError::Short(Shortage::Threads))
}

/// What the system's resolver says; it blocks. Where it may have lacked descriptors, that: it says no more than that there
/// is no answer just now.
fn ask(host: &str) -> Addresses {
    match (host, 0).to_socket_addrs() {
        Ok(answers) => Ok(answers.map(|answer| answer.ip()).collect()),
        Err(error) => Err(match Shortage::present() {
            Some(shortage) => LookupError::Short(shortage),
            None => LookupError::Failed(error.to_string()),
        }),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_look_up_that_is_under_way_serves_all_who_ask_for_its_name() {
        let names = Names::default();
        let (sender, answer) = watch::channel(None);
        locked(&names.under_way).insert("example.com".to_owned(), answer);
        // Nobody has a thread left, and nobody needs one.
        names.threads.forget_permits(LOOK_UPS);
        let (first, second) = (names.look_up("example.com"), names.look_up("example.com"));
        let addresses: Addresses = Ok(vec![[93, 184, 216, 34].into()]);
        sender.send_replace(Some(addresses.clone()));
        assert_eq!((first.await, second.await), (addresses.clone(), addresses));
        assert_eq!(names.look_up("example.org").await, Err(LookupError::Short(Shortage::LookUps)));
    }

    #[tokio::test]
    async fn a_look_up_that_has_ended_leaves_nothing() {
        let names = Names::default();
        assert!(names.look_up("localhost").await.is_ok());
        assert!(locked(&names.under_way).is_empty());
        assert_eq!(names.threads.available_permits(), LOOK_UPS);
    }
}
