//! This host's clock, as each heartbeat finds it beside the server's. It is the one that signatures go by: where it is minutes
//! off, receivers refuse every request, and nothing is sent again.

use crate::{metrics::Metrics, store::clocks::Ahead};

/// What was said of it last.
#[derive(Debug, Default)]
pub(super) struct Clock {
    is_apart: bool,
}

impl Clock {
    /// Says so, once, where the clocks are apart, and where they agree again.
    pub(super) fn compared(&mut self, ahead: Ahead, metrics: &Metrics) {
        let Some(is_apart) = ahead.is_apart() else { return };
        metrics.clock_ahead(ahead.by);
        if std::mem::replace(&mut self.is_apart, is_apart) == is_apart {
            return;
        }
        let ahead_s = ahead.by.as_secs();
        if is_apart {
            tracing::warn!(
                ahead_s,
                "this host's clock and the database server's are apart: receivers refuse signatures of another time; \
                 synchronise both (NTP)",
            );
        } else {
            tracing::info!(ahead_s, "this host's clock and the database server's agree again");
        }
    }
}
