//! LISTEN, with reconnect: turns every notification into a wake-up. It listens first and then rings, at every
//! connect, so that what was committed while it was away is looked for.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use crate::{
    config::Database,
    store::{connect, said},
};

use super::{
    answer::{self, PROMPT},
    backoff::Backoff,
    wake_up::WakeUp,
};

/// The channel that the triggers notify.
pub const CHANNEL: &str = "lead_webhook";

/// Listens until `stop` says so.
pub async fn listen(database: Arc<Database>, wake_up: WakeUp, mut stop: watch::Receiver<bool>) {
    let mut backoff = Backoff::default();
    while !*stop.borrow() {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            ended = listen_once(&database, &wake_up, &mut backoff) => {
                if backoff.is_first() {
                    tracing::warn!(error = %ended, "not listening, trying again; the daemon polls meanwhile");
                }
            }
        }
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(backoff.next_wait()) => {}
        }
    }
}

/// One session's life; returns why it ended.
async fn listen_once(database: &Database, wake_up: &WakeUp, backoff: &mut Backoff) -> String {
    // One is enough: many notifications at once are one wake-up.
    let (sender, mut notifications) = mpsc::channel(1);
    let session = match connect::connect_listening(&database.listen_url, database, sender).await {
        Ok(session) => session,
        Err(error) => return error.to_string(),
    };
    let listen = format!("LISTEN {CHANNEL}");
    let listening = session.client.batch_execute(&listen);
    if let Err(error) = answer::explained(PROMPT, &database.daemon_role, listening).await {
        return error;
    }
    tracing::debug!("listening");
    backoff.reset();
    wake_up.ring();
    while notifications.recv().await.is_some() {
        wake_up.ring();
    }
    match session.connection.await {
        Ok(Err(error)) => said(&error),
        Ok(Ok(())) | Err(_) => "the connection ended".to_owned(),
    }
}
