//! Live updates for the console, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use futures_util::{Stream, stream};
use heliograph_core::id::MeshName;
use heliograph_http::Problem;
use heliograph_store::LogEntry;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Instant, sleep_until};

use crate::app::Shared;
use crate::caller::Administrator;

/// Proxies cut connections that are silent for a minute or less; also how soon a stream notices a drain.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Sessions come by the thousand; whoever watches hears of them once in this time.
const PRESENCE_REST: Duration = Duration::from_millis(500);
const STREAMS_RETRY_SECONDS: u64 = 10;

/// `GET /api/events`
pub(crate) async fn stream(
    State(app): State<Shared>,
    admin: Administrator,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let Ok(permit) = app.streams.clone().try_acquire_owned() else {
        return Err(Problem::too_many("event_streams", STREAMS_RETRY_SECONDS));
    };
    let watcher = Watcher::new(app, &admin, permit)?;
    Ok(Sse::new(stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok(event), watcher))
    })))
}

/// One open stream.
struct Watcher {
    /// The key that opened it.
    key: String,
    /// `None`: all meshes.
    scope: Option<MeshName>,
    changes: broadcast::Receiver<Arc<LogEntry>>,
    presence: watch::Receiver<u64>,
    presence_from: Instant,
    keep_alive_at: Instant,
    app: Shared,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    fn new(app: Shared, admin: &Administrator, permit: OwnedSemaphorePermit) -> Result<Self, Problem> {
        let mut presence = app.node.presence_changes();
        presence.mark_changed(); // the first event says how things are
        let now = Instant::now();
        Ok(Self {
            key: admin.actor().to_owned(),
            scope: admin.scope(None)?,
            changes: app.feed.subscribe(),
            presence,
            presence_from: now,
            keep_alive_at: now + KEEP_ALIVE,
            app,
            _permit: permit,
        })
    }

    /// The next event; `None` ends the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = tokio::select! {
                biased;
                change = self.changes.recv() => match change {
                    Ok(change) if may_end_keys(&change) && !self.key_lives().await => return None,
                    Ok(change) => self.change(&change),
                    // What was missed is unknown; whoever watches has to look again anyway.
                    Err(RecvError::Lagged(_)) => Some(Event::default().event("change").data("{}")),
                    Err(RecvError::Closed) => return None,
                },
                () = presence(&mut self.presence, self.presence_from) => {
                    self.presence_from = Instant::now() + PRESENCE_REST;
                    Some(self.sessions())
                }
                () = sleep_until(self.keep_alive_at) => {
                    // A client of a draining node should find another one, and a revoked key hears nothing more.
                    if self.app.node.is_draining() || !self.key_lives().await {
                        return None;
                    }
                    Some(Event::default().comment(""))
                }
            };
            if event.is_some() {
                self.keep_alive_at = Instant::now() + KEEP_ALIVE;
                return event;
            }
        }
    }

    fn change(&self, change: &LogEntry) -> Option<Event> {
        if self.scope.as_ref().is_some_and(|mesh| mesh.as_str() != change.mesh) {
            return None;
        }
        let data = json!({
            "version": change.version.0,
            "action": change.action,
            "subject": change.subject,
            "mesh": change.mesh,
        });
        Some(Event::default().event("change").id(change.version.to_string()).data(data.to_string()))
    }

    /// The sessions of all meshes together, so not for the administrator of one.
    fn sessions(&self) -> Event {
        let sessions = self.scope.is_none().then(|| self.app.node.sessions());
        Event::default().event("presence").data(json!({ "sessions": sessions }).to_string())
    }

    /// A storage that does not answer ends no stream: it has nothing to tell either.
    async fn key_lives(&self) -> bool {
        !matches!(self.app.store.key(&self.key).await, Ok(key) if key.revoked_at.is_some())
    }
}

/// Waits until sessions have changed, and not before `from`.
async fn presence(changes: &mut watch::Receiver<u64>, from: Instant) {
    sleep_until(from).await;
    if changes.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn may_end_keys(change: &LogEntry) -> bool {
    matches!(change.action.as_str(), "key.revoke" | "revoke")
}
