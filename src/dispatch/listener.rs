//! LISTEN, with reconnect: turns every notification into a wake-up. It listens first and then rings, at every
//! connect, so that what was committed while it was away is looked for.
//!
//! Behind a pooler it notifies itself first. Where that does not come through, it says so once, and the daemon polls;
//! commits are not asked to notify then. It tries again at every connect, and from time to time.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    config::{Database, Notify},
    store::{
        connect::{self, Connected},
        notifications::{self, Heard},
        said,
    },
};

use super::{
    answer::{self, PROMPT},
    backoff::Backoff,
    wake_up::WakeUp,
};

/// The channel that the triggers notify.
pub const CHANNEL: &str = "lead_webhook";

/// A notification that takes longer does not come.
const SELF_NOTIFIED_WITHIN: Duration = Duration::from_secs(3);

/// Where none came through, it is tried again after so long: each try costs the pooler a connection.
const TRY_AGAIN: Duration = Duration::from_secs(10 * 60);

/// How a session that listened came to its end.
enum End {
    /// It was lost, or never was.
    Lost(String),
    /// It is given up, to try again whether notifications come through.
    Deaf,
}

/// Listens until `stop` says so.
pub async fn listen(database: Arc<Database>, wake_up: WakeUp, mut stop: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    while !*stop.borrow() {
        let ended = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            ended = listen_once(&database, &wake_up, &mut backoff) => ended,
        };
        wake_up.listens(false);
        match ended {
            End::Lost(error) if backoff.is_first() => {
                tracing::warn!(error, "not listening, trying again; the daemon polls meanwhile");
            }
            End::Lost(_) => {}
            End::Deaf => continue,
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

/// One session's life; returns why it ended.
async fn listen_once(database: &Database, wake_up: &WakeUp, backoff: &mut Backoff) -> End {
    // One is enough: many notifications at once are one wake-up.
    let (sender, mut notifications) = mpsc::channel(1);
    let session = match connect::connect_listening(&database.listen_url, database, sender).await {
        Ok(session) => session,
        Err(error) => return End::Lost(error.to_string()),
    };
    if session.client.is_pooled() {
        match come_through(&session, &mut notifications, database).await {
            Ok(true) => {}
            Ok(false) => return go_deaf(session, database, wake_up, backoff).await,
            Err(error) => return End::Lost(error),
        }
    }
    let listen = format!("LISTEN {CHANNEL}");
    let listening = session.client.batch_execute(&listen);
    if let Err(error) = answer::explained(PROMPT, &database.daemon_role, listening).await {
        return End::Lost(error);
    }
    tracing::debug!("listening");
    backoff.reset();
    if wake_up.is_deaf() {
        tracing::info!("notifications come through now");
    }
    wake_up.deafen(false);
    wake_up.listens(true);
    wake_up.ring();
    while notifications.recv().await.is_some() {
        wake_up.ring();
    }
    End::Lost(end_of(session).await)
}

/// Why its connection ended, once it has.
async fn end_of(session: Connected) -> String {
    match session.connection.await {
        Ok(Err(error)) => said(&error),
        Ok(Ok(())) | Err(_) => "the connection ended".to_owned(),
    }
}

/// Whether a notification comes through to `session`, which leads through a pooler.
async fn come_through(session: &Connected, notifications: &mut Heard, database: &Database) -> Result<bool, String> {
    if database.notify == Notify::Off {
        return Ok(false);
    }
    let notifying = connect::connect(&database.listen_url, database).await.map_err(|error| error.to_string())?;
    let trip = async {
        notifications::listen(&session.client).await?;
        notifications::round_trip(&session.client, notifications, &notifying.client, SELF_NOTIFIED_WITHIN).await
    };
    answer::explained(PROMPT, &database.daemon_role, trip).await.map(|trip| trip.is_some())
}

/// Says so, once, and keeps the session only to notice when the pooler was started anew.
async fn go_deaf(session: Connected, database: &Database, wake_up: &WakeUp, backoff: &mut Backoff) -> End {
    if !wake_up.is_deaf() && database.notify != Notify::Off {
        let every = humantime::format_duration(database.poll_interval);
        tracing::warn!(
            "the connection does not carry notifications (a transaction pooler?): polling every {every}; \
             set database.listen_url to the server itself"
        );
    }
    tracing::debug!("no notification came through");
    wake_up.deafen(true);
    backoff.reset();
    wake_up.ring();
    timeout(TRY_AGAIN, end_of(session)).await.map_or(End::Deaf, End::Lost)
}
