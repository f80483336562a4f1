//! A socket whose client is in no room (yet, or any more), in dialects in which clients say themselves where they go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use heliograph_auth::room_key;
use heliograph_bus::BusError;
use heliograph_core::close::CloseCode;
use heliograph_core::id::PeerId;
use heliograph_core::manners::Manner;
use heliograph_core::message::{ClientMessage, ServerMessage, Undeliverable};
use heliograph_core::rate::{Rate, TokenBucket};
use heliograph_core::session::Outcome;
use heliograph_wire::Dialect;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use crate::connection::{self, Connection};
use crate::entry::{Door, Entry, Opened, Refusal};
use crate::gateway::Gateway;
use crate::metrics::{Join, MessageKind};

/// What a client may say and enter in no room: far more than one that behaves says.
const RATE: Rate = Rate::per_second(20, 100);
/// How long a write may take.
const WRITE: Duration = Duration::from_secs(5);

/// What the sockets of one client in no room need.
pub(crate) struct Lobby {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) dialect: Dialect,
    pub(crate) manner: &'static Manner,
    pub(crate) door: Arc<Door>,
    bucket: TokenBucket,
    /// A challenge that was not answered yet.
    challenge: Option<(Opened, String)>,
}

/// How waiting in the lobby ended.
enum Waited {
    Enters(Entry),
    Close(CloseCode),
    Gone,
}

impl Lobby {
    pub(crate) fn new(gateway: Arc<Gateway>, dialect: Dialect, manner: &'static Manner, door: Door) -> Self {
        Self { gateway, dialect, manner, door: Arc::new(door), bucket: TokenBucket::new(), challenge: None }
    }

    /// Serves a socket to its end, from room to room. `let_in` is asked before each entry; what it answers is held until
    /// the session stands.
    pub(crate) async fn run<S, T>(
        mut self,
        mut socket: WebSocketStream<S>,
        mut let_in: impl FnMut() -> Option<T>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut next = None;
        loop {
            let waited = match next.take() {
                Some(entry) => Waited::Enters(entry),
                None => Box::pin(self.wait(&mut socket)).await,
            };
            let entry = match waited {
                Waited::Enters(entry) if self.bucket.take(RATE, Instant::now()) => entry,
                Waited::Enters(_) => return self.close(socket, CloseCode::RateLimited).await,
                Waited::Close(code) => return self.close(socket, code).await,
                Waited::Gone => return self.gateway.metrics.closed(1006),
            };
            let Some(opening) = let_in() else { return self.close(socket, CloseCode::Unavailable).await };
            let since = Instant::now();
            let opened =
                Box::pin(Connection::open(Arc::clone(&self.gateway), socket, entry, self.dialect)).await;
            drop(opening);
            match opened {
                Ok(session) => match session.run_in_room(self.manner, Arc::clone(&self.door)).await {
                    Some((stays, moves_to)) => (socket, next) = (stays, moves_to),
                    None => return,
                },
                Err((stays, BusError::Full)) => {
                    self.gateway.metrics.limited("room_members");
                    socket = stays;
                    let refusal = Refusal::new("room_full", "the room is full, or there are too many rooms");
                    if !self.refuse(&mut socket, refusal).await {
                        return;
                    }
                }
                Err((stays, error)) => {
                    tracing::warn!(%error, "a room could not be entered");
                    self.gateway.metrics.joins.ended(Join::Unavailable, since);
                    return self.close(stays, CloseCode::Unavailable).await;
                }
            }
        }
    }

    async fn close<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: WebSocketStream<S>, code: CloseCode) {
        self.gateway.metrics.closed(code.code());
        connection::close(socket, code).await;
    }

    /// Waits until the client says where it goes.
    async fn wait<S: AsyncRead + AsyncWrite + Unpin>(&mut self, socket: &mut WebSocketStream<S>) -> Waited {
        let deadline = tokio::time::Instant::now() + self.manner.patience;
        loop {
            let text = match tokio::time::timeout_at(deadline, socket.next()).await {
                Err(_) => return Waited::Close(CloseCode::Deadline),
                Ok(Some(Ok(Message::Text(text)))) => Some(Bytes::from(text)),
                Ok(Some(Ok(Message::Binary(_)))) => None,
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => continue,
                Ok(Some(Ok(Message::Close(_)))) => {
                    let _answered = tokio::time::timeout(WRITE, socket.flush()).await;
                    return Waited::Gone;
                }
                Ok(Some(Err(error))) => {
                    return connection::close_code_of(&error).map_or(Waited::Gone, Waited::Close);
                }
                Ok(None) => return Waited::Gone,
            };
            if !self.bucket.take(RATE, Instant::now()) {
                self.gateway.metrics.limited("messages");
                return Waited::Close(CloseCode::RateLimited);
            }
            if self.gateway.drain.is_closed() {
                return Waited::Close(CloseCode::ServiceRestart);
            }
            let answer = match self.hear(text.as_ref()) {
                Ok(Heard::Enters(entry)) => return Waited::Enters(entry),
                Ok(Heard::Challenge(nonce)) => ServerMessage::Challenge { nonce },
                Ok(Heard::Nothing) => continue,
                Err(Refusal { code, message }) => ServerMessage::Error { code, message },
            };
            if !self.say(socket, &answer).await {
                return Waited::Gone;
            }
        }
    }

    fn hear(&mut self, text: Option<&Bytes>) -> Result<Heard, Refusal> {
        let malformed = |problem: String| Refusal::new("malformed", problem);
        let text = text.ok_or_else(|| malformed("binary frames are not part of this protocol".to_owned()))?;
        let envelope = self.dialect.decode(text).map_err(|problem| {
            self.count(MessageKind::Malformed, Outcome::Refused(Undeliverable::Malformed));
            malformed(problem.0)
        })?;
        let kind = connection::kind_of(&envelope);
        let heard = match envelope.message {
            ClientMessage::Enter(enter) => {
                // A later attempt takes the place of an earlier one.
                self.challenge = None;
                self.enter(self.door.open(&self.gateway, &enter))
            }
            ClientMessage::Prove(proof) => match self.challenge.take() {
                Some((opened, nonce)) => opened.prove(&proof, &nonce).map(Heard::Enters),
                None => Err(Refusal::new("unexpected", "there was nothing to prove")),
            },
            ClientMessage::Leave => Ok(Heard::Nothing),
            _ => {
                self.count(kind, Outcome::NotRegistered);
                return Err(Refusal::new("not_registered", "not registered"));
            }
        };
        self.count(
            kind,
            if heard.is_ok() { Outcome::Accepted } else { Outcome::Refused(Undeliverable::Unavailable) },
        );
        heard
    }

    fn enter(&mut self, opened: Result<Opened, Refusal>) -> Result<Heard, Refusal> {
        let opened = opened?;
        if opened.to_prove.is_none() {
            return Ok(Heard::Enters(opened.entry));
        }
        let nonce = room_key::nonce(&mut rand::rng());
        self.challenge = Some((opened, nonce.clone()));
        Ok(Heard::Challenge(nonce.into()))
    }

    fn count(&self, kind: MessageKind, outcome: Outcome) {
        self.gateway.metrics.message(self.dialect, kind, outcome, 1);
    }

    async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocketStream<S>,
        Refusal { code, message }: Refusal,
    ) -> bool {
        self.say(socket, &ServerMessage::Error { code, message }).await
    }

    /// Answers whether the client can still be told anything.
    async fn say<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        socket: &mut WebSocketStream<S>,
        message: &ServerMessage,
    ) -> bool {
        let mut frame = vec![];
        self.dialect.encode(message, &PeerId::nobody(), &mut frame);
        if frame.is_empty() {
            return true; // the dialect has no words for it
        }
        let Ok(text) = String::from_utf8(frame) else { return true };
        let sent = tokio::time::timeout(WRITE, socket.send(Message::text(text))).await;
        matches!(sent, Ok(Ok(())))
    }
}

/// What a client in no room said.
enum Heard {
    Enters(Entry),
    Challenge(Box<str>),
    Nothing,
}
