//! Whether notifications come through to a session: behind a pooler in transaction mode LISTEN succeeds, and nothing is
//! ever heard. One in session mode carries them.

use std::time::{Duration, Instant};

use tokio::{sync::mpsc, time::timeout};
use tokio_postgres::{Error, Notification};
use uuid::Uuid;

use super::{client::Client, connect::Connected};

/// The triggers notify another one.
const CHANNEL: &str = "lead_webhook_check";

/// A notification of one who tries it is not taken for another's.
const NOTIFY: &str = "\
-- notifications::notify
SELECT pg_notify($1, $2)";

/// Where a session's notifications arrive.
pub type Heard = mpsc::Receiver<Notification>;

/// Listens, for a while, to a channel for trying it out.
///
/// # Errors
/// What the database says to LISTEN, or that the connection is lost.
pub async fn listen(listening: &Client) -> Result<(), Error> {
    listening.batch_execute(&format!("-- notifications::listen\nLISTEN {CHANNEL}")).await
}

/// A notification of a session's to itself, over and over: how long one takes.
#[derive(Debug, Default)]
pub struct Probe {
    out: Option<(String, Instant)>,
}

impl Probe {
    /// Notifies `listening`, which listens by [`listen`]. One that is out still counts no more.
    ///
    /// # Errors
    /// What the database says, or that the connection is lost.
    pub async fn send(&mut self, listening: &Client) -> Result<(), Error> {
        let word = Uuid::new_v4().to_string();
        self.out = Some((word.clone(), Instant::now()));
        listening.execute(NOTIFY, &[&CHANNEL, &word]).await.map(drop)
    }

    /// Whether one has not come back yet.
    pub fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// How long it took, where this is the one that is out.
    pub fn came_back(&mut self, heard: &Notification) -> Option<Duration> {
        let (_, sent_at) = self.out.take_if(|(word, _)| word == heard.payload())?;
        Some(sent_at.elapsed())
    }
}

/// Notifies from another session, waits at most `patience` until it is `heard`, and listens no more. `None`: it is not.
///
/// # Errors
/// What the database says to the notification, or that the notifying connection is lost.
pub async fn round_trip(
    listening: &Client,
    heard: &mut Heard,
    notifying: &Client,
    patience: Duration,
) -> Result<Option<Duration>, Error> {
    let word = Uuid::new_v4().to_string();
    let notified_at = Instant::now();
    notifying.execute(NOTIFY, &[&CHANNEL, &word]).await?;
    let own = async {
        while let Some(notification) = heard.recv().await {
            if notification.payload() == word {
                return true;
            }
        }
        false
    };
    let is_heard = timeout(patience, own).await.unwrap_or(false);
    let after = is_heard.then(|| notified_at.elapsed());
    // Behind a pooler the server's session outlives ours, and would go on listening.
    let _ = listening.batch_execute(&format!("-- notifications::unlisten\nUNLISTEN {CHANNEL}")).await;
    Ok(after)
}

/// Longer than any notification takes.
const PATIENCE: Duration = Duration::from_secs(5);

/// `session`, which leads through a pooler and whose notifications are `heard`, for work that needs one session of the
/// server's from its beginning to its end. A pooler that gives it one carries its notifications; `None`: it does not.
///
/// # Errors
/// What the database says, or that a connection is lost.
pub async fn lasting(session: Connected, heard: &mut Heard, notifying: &Client) -> Result<Option<Connected>, Error> {
    listen(&session.client).await?;
    match round_trip(&session.client, heard, notifying, PATIENCE).await? {
        Some(_) => session.lasting().await.map(Some),
        None => Ok(None),
    }
}
