//! One counterpart: its connection and its channel.
//!
//! [`Peer`] is the handle. Behind it one task joins the [negotiation](crate::negotiation), which decides, and the
//! [connection](crate::rtc), which does. Whoever does not take the events slows the other side's messages down, and nothing
//! grows meanwhile; the order to close is heard all the same.

mod inbox;
mod live;
mod sending;
mod signal;
mod task;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use heliograph_client::{IceServer, Outcome, Role};
use heliograph_core::id::PeerId;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use crate::negotiation::Ended;
use crate::rtc::{Channel, Pair, State};
use inbox::Inbox;
pub(crate) use signal::Signal;
use task::Task;

/// How long a message waits for room in a channel whose other side does not read.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// How connections are made.
pub(crate) type PeerSettings = crate::rtc::Settings;

/// The way to the counterpart through the service.
#[async_trait]
pub(crate) trait Signaler: Send + Sync + 'static {
    /// Sends a signal. What is asked first goes first, also while outcomes are waited for; the wait has a bound.
    /// A candidate's outcome need not be waited for: `Delivered` then says that it was written.
    async fn signal(&self, to: &PeerId, signal: Signal) -> Outcome;
}

/// What a peer is told.
#[derive(Debug)]
pub(crate) enum ToPeer {
    /// A connection is wanted from this side; nothing happens if there is one.
    Connect,
    /// A message of the counterpart.
    Signal(Signal),
    /// Whether the service lists the counterpart.
    Present(bool),
    /// Who gives way, as the service says.
    Role(Option<Role>),
    /// The service is there again, and its list.
    SignalingBack,
    /// Messages of the counterpart may have been lost.
    SignalsMayBeLost,
    /// Other ICE servers, for the next connection and the next restart.
    Configure(Vec<IceServer>),
    /// End the connection, if there is one. Whatever waits to open one is forgotten.
    Close(Ended),
}

/// What a peer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromPeer {
    /// Messages can be sent.
    Opened,
    /// The connection is over, also one that never opened. Another one may follow.
    Closed(Ended),
    /// A message: the JSON text of an object with a `type`.
    Message(String),
}

/// Why a message was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// There is no open channel.
    #[error("there is no open channel")]
    NotOpen,
    /// The counterpart takes no message of that size.
    #[error("a message may have {limit} bytes")]
    TooLarge {
        /// What both sides take, bytes.
        limit: usize,
    },
    /// The counterpart does not read.
    #[error("the counterpart does not read")]
    Stuck,
    /// The channel closed meanwhile.
    #[error("the channel closed")]
    Closed,
}

/// How it stands with a counterpart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Of the connection; `None` without one.
    pub(crate) state: Option<State>,
    /// Whether messages can be sent.
    pub(crate) open: bool,
    /// What ICE chose, while it is connected.
    pub(crate) pair: Option<Pair>,
    /// How the last connection ended.
    pub(crate) ended: Option<Ended>,
    /// Bytes of messages that were sent.
    pub(crate) bytes_sent: u64,
    /// Bytes of messages that came.
    pub(crate) bytes_received: u64,
}

/// What the handle and the task both know.
#[derive(Default)]
struct Shared {
    inbox: Inbox,
    open: Mutex<Option<Open>>,
    snapshot: Mutex<Snapshot>,
    /// One sender at a time: then messages go in the order in which they were asked for, and the room that was waited for is
    /// still there.
    turn: tokio::sync::Mutex<()>,
    sent: AtomicU64,
    received: AtomicU64,
}

/// A channel that can be used.
#[derive(Clone)]
struct Open {
    channel: Channel,
    limit: usize,
}

impl Shared {
    fn set_open(&self, open: Option<Open>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    fn open(&self) -> Option<Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The handle of one counterpart. Dropped, the connection is closed.
pub(crate) struct Peer {
    shared: Arc<Shared>,
    _end: DropGuard,
}

impl Peer {
    /// Starts its task on the current runtime.
    pub(crate) fn spawn(
        me: &PeerId,
        id: PeerId,
        settings: &PeerSettings,
        signaler: Arc<dyn Signaler>,
        events: mpsc::Sender<(PeerId, FromPeer)>,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let end = CancellationToken::new();
        let task = Task::new(me, id, settings.clone(), signaler, events, shared.clone());
        tokio::spawn(task.run(end.clone()));
        Self { shared, _end: end.drop_guard() }
    }

    /// Tells it something. `false`: too much waits already, and the word was dropped; never for [`ToPeer::Close`].
    pub(crate) fn tell(&self, word: ToPeer) -> bool {
        self.shared.inbox.push(word)
    }

    /// Sends a message over the channel. Waits for room, for ten seconds at most; does not wait for it to arrive.
    pub(crate) async fn send(&self, text: &str) -> Result<(), SendError> {
        let Open { channel, limit } = self.shared.open().ok_or(SendError::NotOpen)?;
        if text.len() > limit {
            return Err(SendError::TooLarge { limit });
        }
        let room = async {
            let turn = self.shared.turn.lock().await;
            channel.writable().await.map(|()| turn)
        };
        let _turn = tokio::time::timeout(SEND_WITHIN, room)
            .await
            .map_err(|_| SendError::Stuck)?
            .map_err(|_| SendError::Closed)?;
        channel.send(text).await.map_err(|_| SendError::Closed)?;
        self.shared.sent.fetch_add(text.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// How it stands.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        snapshot.bytes_sent = self.shared.sent.load(Ordering::Relaxed);
        snapshot.bytes_received = self.shared.received.load(Ordering::Relaxed);
        snapshot
    }
}
