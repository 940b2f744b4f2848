//! LISTEN, with reconnect: turns every notification into a wake-up. It listens first and then rings, at every
//! connect, so that what was committed while it was away is looked for.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_postgres::AsyncMessage;

use crate::{config::Database, store::connect};

use super::{backoff::Backoff, wake_up::WakeUp};

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
                    tracing::warn!(error = %ended, "no longer listening, trying again; the daemon polls meanwhile");
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
    let (messages, mut notifications) = mpsc::unbounded_channel();
    let client = match connect::connect(&database.listen_url, database, Some(messages)).await {
        Ok(client) => client,
        Err(error) => return error.to_string(),
    };
    if let Err(error) = client.batch_execute(&format!("LISTEN {CHANNEL}")).await {
        return connect::describe(&error);
    }
    tracing::debug!("listening");
    backoff.reset();
    wake_up.ring();
    while let Some(message) = notifications.recv().await {
        if let AsyncMessage::Notification(_) = message {
            wake_up.ring();
        }
    }
    "the connection ended".to_owned()
}
