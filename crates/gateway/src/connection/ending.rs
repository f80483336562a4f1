//! How a session ends, and what becomes of what is left of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::SinkExt;
use heliograph_core::close::CloseCode;
use heliograph_core::message::{Signal, Undeliverable};
use heliograph_core::session::Mail;
use heliograph_core::stage::Stage;
use heliograph_wire::Dialect;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;

use super::frames::{LINGER, close};
use super::{Connection, Onward};
use crate::gateway::Gateway;

/// Codes with which a client says that it does not come back: a page that closes, or one that says nothing at all
/// (RFC 6455 §7.4.1).
pub(super) const GONE_FOR_GOOD: [u16; 3] = [1000, 1001, 1005];

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// We close, with this code.
    Close(CloseCode),
    /// The client closed properly; with a code that says that it may come back, or without one.
    ByClient {
        /// Whether it may.
        may_return: bool,
    },
    /// The client left its room, or moves to another one.
    Left,
    /// The connection broke.
    Lost,
    /// The client did not read, and was cut off in the middle of a frame.
    Stalled,
}

impl End {
    /// Whether the client may come back for what was not written to it yet.
    fn may_be_resumed(self) -> bool {
        match self {
            Self::Lost | Self::Stalled => true,
            Self::ByClient { may_return } => may_return,
            Self::Left => false,
            Self::Close(code) => matches!(
                code,
                CloseCode::Superseded
                    | CloseCode::ServiceRestart
                    | CloseCode::Deadline
                    | CloseCode::SlowConsumer
                    | CloseCode::Unavailable
            ),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) async fn finish(mut self: Box<Self>, end: End) -> Option<Onward<S>> {
        if self.outlives(end) {
            tracing::debug!(peer = %self.handle.peer.id, ?end, "session ended, its socket stays");
            self.gateway.session_ended(self.handle.dialect);
            self.leave().await;
            let next = self.room.and_then(|room| room.next);
            return Some((self.socket, next));
        }
        let (code, on_wire) = match end {
            End::Close(code) => (Some(code), code.code()),
            End::ByClient { .. } | End::Left => (None, 1000),
            End::Lost => (None, 1006),
            End::Stalled => (None, CloseCode::SlowConsumer.code()),
        };
        self.gateway.metrics.closed(on_wire);
        tracing::debug!(peer = %self.handle.peer.id, ?end, "session ended");
        let passed = self.handle.stage.get() == Stage::Passed;
        let resumable = self.handle.resumable.get().is_some() && self.session.is_resumable();
        let mut socket = if resumable && (passed || end.may_be_resumed()) && self.gateway.may_park() {
            self.park().await
        } else {
            self.gateway.session_ended(self.handle.dialect);
            let vanished = passed || end.may_be_resumed();
            match self
                .room
                .as_ref()
                .map(|room| room.manner.grace)
                .filter(|grace| vanished && !grace.is_zero())
            {
                Some(grace) => self.vanish(grace).await,
                None => self.leave().await,
            }
            self.socket
        };
        match (end, code) {
            (_, Some(code)) => close(socket, code).await,
            // Its close frame is answered by the flush; nothing of it comes after.
            (End::ByClient { .. }, None) => drop(tokio::time::timeout(LINGER, socket.flush()).await),
            (End::Left, None) => close(socket, CloseCode::Normal).await,
            (End::Lost | End::Stalled | End::Close(_), None) => {}
        }
        None
    }

    /// Whether the socket stays open after the session.
    pub(super) fn outlives(&self, end: End) -> bool {
        let moves = self.room.as_ref().is_some_and(|room| room.manner.moves);
        moves && matches!(end, End::Left | End::Close(CloseCode::Superseded))
    }

    /// The client is away and may be back in a moment: others hear of it only if it is not. Nothing waits for it.
    pub(super) async fn vanish(&mut self, grace: Duration) {
        self.give_back();
        self.gateway.depart_later(Arc::clone(&self.handle), grace).await;
    }

    /// Keeps the session for its client to come back.
    pub(super) async fn park(self: Box<Self>) -> WebSocketStream<S> {
        let Self { socket, session, handle, gateway, unwritten, .. } = *self;
        gateway.park(&handle, session.into_remains(), unwritten);
        // Not before: a node that drains would believe for a moment that nobody is left, and give up what is.
        gateway.session_ended(handle.dialect);
        let peer = &handle.peer;
        if let Err(error) = gateway.link.presence.hide(&peer.space, &peer.id, handle.epoch).await {
            tracing::debug!(%error, "a session whose client is away is still listed");
        }
        gateway.presence_changed();
        socket
    }

    /// Ends the session for good, and tells senders of what was still queued.
    pub(super) async fn leave(&mut self) {
        self.give_back();
        self.gateway.depart(&self.handle).await;
    }

    pub(super) fn give_back(&mut self) {
        self.handle.stage.change(|stage| if stage == Stage::Passed { stage } else { Stage::Over });
        let queued = std::mem::take(&mut self.unwritten).into_iter().chain(self.handle.outbox.finish());
        for signal in queued.filter_map(into_signal) {
            self.gateway.tell_sender(&signal, &self.handle.peer.id, Some(Undeliverable::Unavailable));
        }
    }
}

impl Gateway {
    /// The socket of a session is as good as closed.
    pub(super) fn session_ended(&self, dialect: Dialect) {
        // Whoever sees that it ended sees also that it was parked.
        self.live.fetch_sub(1, Ordering::Release);
        self.metrics.sessions.with_label_values(&[dialect.as_str()]).dec();
    }
}

fn into_signal(mail: Mail) -> Option<Signal> {
    if let Mail::Signal(signal) = mail { Some(signal) } else { None }
}
