//! "Look now": what NOTIFY, a reconnect and a reload say to the dispatcher. It carries nothing else; many at once are
//! one.

use std::sync::Arc;

use tokio::sync::Notify;

/// A bell that many may ring and one hears.
#[derive(Debug, Clone, Default)]
pub struct WakeUp(Arc<Notify>);

impl WakeUp {
    /// Rings; remembered until it is heard.
    pub fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits until somebody rings, or returns at once where somebody has since the last time.
    pub async fn heard(&self) {
        self.0.notified().await;
    }
}
