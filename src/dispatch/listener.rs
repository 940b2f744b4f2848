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
    metrics::Metrics,
    store::{
        connect::{self, Connected},
        notifications::{self, Heard, Probe},
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

/// How often it is measured how long a notification takes, where somebody asks: each is a commit.
const PROBE_EVERY: Duration = Duration::from_secs(60);

/// How a session that listened came to its end.
enum End {
    /// It was lost, or never was.
    Lost(String),
    /// It is given up, to try again whether notifications come through.
    Deaf,
}

/// Listens until `stop` says so. How long a notification takes is told to `probed`.
pub async fn listen(
    database: Arc<Database>,
    wake_up: WakeUp,
    probed: Option<Arc<Metrics>>,
    mut stop: watch::Receiver<bool>,
) {
    let mut backoff = Backoff::default();
    while !*stop.borrow() {
        let ended = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            ended = listen_once(&database, &wake_up, probed.as_deref(), &mut backoff) => ended,
        };
        wake_up.listens(false);
        if let Some(metrics) = &probed {
            metrics.notified(None);
        }
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
async fn listen_once(database: &Database, wake_up: &WakeUp, probed: Option<&Metrics>, backoff: &mut Backoff) -> End {
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
    if !backoff.is_first() {
        tracing::info!("listening again");
    }
    backoff.reset();
    if wake_up.is_deaf() {
        tracing::info!("notifications come through now");
    }
    wake_up.deafen(false);
    wake_up.listens(true);
    wake_up.ring();
    let Some(metrics) = probed else {
        while notifications.recv().await.is_some() {
            wake_up.ring();
        }
        return End::Lost(end_of(session).await);
    };
    match hear_and_probe(&session, &mut notifications, database, wake_up, metrics).await {
        Ok(()) => End::Lost(end_of(session).await),
        Err(error) => End::Lost(error),
    }
}

/// Until its connection ends: rings, and from time to time tells how long a notification takes.
async fn hear_and_probe(
    session: &Connected,
    notifications: &mut Heard,
    database: &Database,
    wake_up: &WakeUp,
    metrics: &Metrics,
) -> Result<(), String> {
    let asked = answer::explained(PROMPT, &database.daemon_role, notifications::listen(&session.client));
    asked.await?;
    let mut probe = Probe::default();
    // A probe that finds another notification under way is dropped, and that one came through.
    let mut has_heard = false;
    let mut due = tokio::time::interval(PROBE_EVERY);
    loop {
        tokio::select! {
            heard = notifications.recv() => match heard {
                None => return Ok(()),
                Some(heard) => {
                    if let Some(after) = probe.came_back(&heard) {
                        metrics.notified(Some(after));
                    }
                    has_heard = true;
                    // Whatever it was: one of a lead's may have found no room behind it.
                    wake_up.ring();
                }
            },
            _ = due.tick() => {
                if probe.is_out() && !std::mem::take(&mut has_heard) {
                    metrics.notified(None);
                }
                answer::explained(PROMPT, &database.daemon_role, probe.send(&session.client)).await?;
            }
        }
    }
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
