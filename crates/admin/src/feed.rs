//! The log, followed once per process for all who wait for changes: devices that long-poll, streams of events.
//!
//! Without it a thousand waiting devices would ask the store a thousand times at each hint.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::id::Version;
use heliograph_store::{Hint, LogEntry, Result, Store};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

/// Changes that a slow listener may lag behind before it is told that it missed some.
const BACKLOG: usize = 1024;
/// Rows read at once.
const ROWS: u32 = 500;
/// A hint can get lost (a notification, a connection); this bounds how long that shows.
const UNHINTED_LOOK: Duration = Duration::from_secs(1);
/// Between two looks, so that a burst of changes is read in a few of them.
const REST: Duration = Duration::from_millis(20);

/// Tells listeners of new rows of the log, in order.
pub(crate) struct Feed {
    changes: broadcast::Sender<Arc<LogEntry>>,
    follower: AbortHandle,
}

impl Feed {
    /// Starts to follow the log; ends when dropped.
    pub(crate) fn start(store: Arc<dyn Store>) -> Self {
        let changes = broadcast::Sender::new(BACKLOG);
        let follower = tokio::spawn(follow(store, changes.clone())).abort_handle();
        Self { changes, follower }
    }

    /// Rows from now on. What was committed shortly before may come, too.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<LogEntry>> {
        self.changes.subscribe()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

async fn follow(store: Arc<dyn Store>, changes: broadcast::Sender<Arc<LogEntry>>) {
    let mut hints = store.hints(Hint::Change);
    let mut seen = None;
    let mut failing = false;
    loop {
        let outcome = look(&*store, &changes, &mut seen).await;
        // Once per outage: whoever waits only waits a little longer.
        if let (Err(error), false) = (&outcome, failing) {
            tracing::warn!(%error, "the log cannot be followed");
        }
        failing = outcome.is_err();
        sleep(REST).await;
        let _ = timeout(UNHINTED_LOOK, hinted(&mut hints)).await;
    }
}

async fn look(
    store: &dyn Store,
    changes: &broadcast::Sender<Arc<LogEntry>>,
    seen: &mut Option<Version>,
) -> Result<()> {
    let Some(after) = seen else {
        *seen = Some(store.version().await?);
        return Ok(());
    };
    loop {
        let rows = store.log_after(*after, ROWS).await?;
        let more = rows.len() >= ROWS as usize;
        for row in rows {
            *after = row.version;
            let _ = changes.send(Arc::new(row)); // nobody listens: fine
        }
        if !more {
            return Ok(());
        }
    }
}

/// Waits for a hint; for ever, when none can come any more.
pub(crate) async fn hinted(hints: &mut watch::Receiver<u64>) {
    if hints.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
