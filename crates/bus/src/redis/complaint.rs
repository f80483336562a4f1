//! Failures that last are logged when they begin and rarely afterwards.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

/// A failure that stays is logged again after so long.
const LOG_AGAIN: Duration = Duration::from_mins(1);

/// Logs a failure when it begins, and rarely while it lasts.
pub(crate) struct Complaint {
    what: &'static str,
    logged: Option<Instant>,
}

impl Complaint {
    /// About `what`.
    pub(crate) fn new(what: &'static str) -> Self {
        Self { what, logged: None }
    }

    pub(crate) fn about(&mut self, whom: &dyn Display, error: &dyn Display, lasting: bool) {
        if self.logged.is_some_and(|logged| logged.elapsed() < LOG_AGAIN) {
            return;
        }
        self.logged = Some(Instant::now());
        let what = self.what;
        if lasting {
            tracing::error!(what, redis = %whom, %error, "redis: cannot be used as it is configured");
        } else {
            tracing::warn!(what, redis = %whom, %error, "redis: not reachable, trying again");
        }
    }

    pub(crate) fn over(&mut self, whom: &dyn Display) {
        if self.logged.take().is_some() {
            tracing::info!(what = self.what, redis = %whom, "redis: reachable again");
        }
    }
}
