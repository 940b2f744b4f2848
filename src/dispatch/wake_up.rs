//! "Look now": what NOTIFY, a reconnect and a reload say to the dispatcher; many at once are one. And whether NOTIFY can say
//! anything at all.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::Notify;

/// A bell that many may ring and one hears.
#[derive(Debug, Clone, Default)]
pub struct WakeUp {
    bell: Arc<Notify>,
    is_deaf: Arc<AtomicBool>,
    is_listening: Arc<AtomicBool>,
}

impl WakeUp {
    /// Rings; remembered until it is heard.
    pub fn ring(&self) {
        self.bell.notify_one();
    }

    /// Waits until somebody rings, or returns at once where somebody has since the last time.
    pub async fn heard(&self) {
        self.bell.notified().await;
    }

    /// Notes whether somebody listens for notifications just now.
    pub fn listens(&self, is_listening: bool) {
        self.is_listening.store(is_listening, Ordering::Relaxed);
    }

    /// Whether notifications are heard; else the daemon polls.
    pub fn is_listening(&self) -> bool {
        self.is_listening.load(Ordering::Relaxed)
    }

    /// Notes whether notifications come through.
    pub fn deafen(&self, is_deaf: bool) {
        self.is_deaf.store(is_deaf, Ordering::Relaxed);
    }

    /// Whether it is known that none comes through: commits need not notify for our sake.
    pub fn is_deaf(&self) -> bool {
        self.is_deaf.load(Ordering::Relaxed)
    }
}
