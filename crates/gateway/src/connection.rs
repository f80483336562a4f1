//! One socket: an actor that owns the stream and the session's state machine, and lives in one task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use heliograph_bus::{BusError, Destination, Parcel, Visit};
use heliograph_core::authority::Standing;
use heliograph_core::close::CloseCode;
use heliograph_core::id::PeerId;
use heliograph_core::message::{Capabilities, ClientMessage, Envelope, Member, Receipt, ServerMessage, Signal, Undeliverable};
use heliograph_core::session::{Effect, Mail, Opening, Outcome, Session, Step};
use heliograph_wire::Dialect;
use rand::RngExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use crate::directory::{Handle, Space};
use crate::gateway::{Gateway, unix_millis};
use crate::metrics::{MessageKind, Side};
use crate::outbox::Batch;

/// Eagerly allocated per socket. A usual signaling message and its header fit; longer ones get room as announced.
const READ_BUFFER: usize = 2 * 1024;
/// Frames are collected up to this size before they are written.
const WRITE_BUFFER: usize = 8 * 1024;
/// Frames above this size are written from their own memory: the WebSocket library would keep its buffer at that
/// size for the life of the socket, and a list of a mesh of thousands is large.
const LARGE_FRAME: usize = 4 * 1024;
/// How long the closing handshake may take, and how much of what the client still sends is swallowed meanwhile, so
/// that it reads our close frame and not a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// The library's settings for a server socket.
pub(crate) fn websocket_config(max_message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER + LARGE_FRAME + 1024)
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// We close, with this code.
    Close(CloseCode),
    /// The client closed properly.
    ByClient,
    /// The connection broke.
    Lost,
}

/// The actor.
pub(crate) struct Connection<S> {
    socket: WebSocketStream<S>,
    session: Session,
    handle: Arc<Handle>,
    space: Arc<Space>,
    gateway: Arc<Gateway>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Makes the authenticated peer's session the live one. `Err` when the bus cannot be asked.
    pub(crate) async fn open(
        gateway: Arc<Gateway>,
        socket: WebSocketStream<S>,
        peer: Arc<heliograph_core::message::Peer>,
        dialect: Dialect,
    ) -> Result<Self, (WebSocketStream<S>, BusError)> {
        let visit = Visit { since_unix_ms: unix_millis(), dialect: dialect.as_str().into() };
        let claim = match gateway.link.presence.claim(&peer.mesh, &peer.id, visit).await {
            Ok(claim) => claim,
            Err(error) => return Err((socket, error)),
        };
        let space = gateway.directory.space(&peer.mesh);
        let opening =
            Opening { peer: Arc::clone(&peer), epoch: claim.epoch, now: Instant::now(), ping_phase: rand::rng().random() };
        let session = Session::new(opening, &gateway.config.limits);
        let handle = Arc::new(Handle::new(peer, claim.epoch, dialect));
        if let Some(older) = space.insert(Arc::clone(&handle)) {
            older.outbox.close(CloseCode::Superseded); // it may be `handle` itself: then a newer one is there
        }
        gateway.live.fetch_add(1, Ordering::Relaxed);
        gateway.metrics.sessions.with_label_values(&[dialect.as_str()]).inc();
        gateway.metrics.sessions_total.with_label_values(&[dialect.as_str()]).inc();
        let mut connection = Self { socket, session, handle, space, gateway };
        if claim.displaced {
            connection.announce_left(); // by the one that comes: so that it precedes the news of its own place
        }
        connection.schedule();
        if let Err(error) = connection.subscribe().await {
            connection.leave(CloseCode::Unavailable).await;
            return Err((connection.socket, error));
        }
        Ok(connection)
    }

    /// What is sent to this peer and to its mesh has to reach this node before anybody is told of it.
    async fn subscribe(&self) -> Result<(), BusError> {
        let peer = self.session.peer();
        self.gateway.link.bus.subscribe(Destination::Mesh(peer.mesh.clone())).await?;
        self.gateway.link.bus.subscribe(Destination::Peer(peer.mesh.clone(), peer.id.clone())).await
    }

    /// Serves the socket to its end.
    pub(crate) async fn run(mut self) {
        let end = self.serve().await;
        // Cold, and larger than all the rest: boxed, so that an idle socket does not carry it.
        Box::pin(self.finish(end)).await;
    }

    async fn serve(&mut self) -> End {
        loop {
            // No `biased`: a chatty client must not starve its mail, nor the mail its reading.
            let result = tokio::select! {
                batch = self.handle.outbox.take() => self.on_batch(batch).await,
                frame = self.socket.next() => self.on_frame(frame).await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn on_frame(&mut self, frame: Option<Result<Message, WsError>>) -> Result<(), End> {
        let now = Instant::now();
        self.session.on_activity(now);
        match frame {
            Some(Ok(Message::Text(text))) => self.on_text(&Bytes::from(text), now).await,
            Some(Ok(Message::Binary(_))) => {
                let problem = "binary frames are not part of this protocol, send text".to_owned();
                self.on_malformed(problem, now).await
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => Err(End::ByClient),
            Some(Err(WsError::Capacity(CapacityError::MessageTooLong { .. }))) => Err(End::Close(CloseCode::TooLarge)),
            Some(Err(WsError::Protocol(_) | WsError::Utf8(_) | WsError::Capacity(_))) => {
                Err(End::Close(CloseCode::ProtocolError))
            }
            Some(Err(_)) | None => Err(End::Lost),
        }
    }

    async fn on_text(&mut self, frame: &Bytes, now: Instant) -> Result<(), End> {
        let envelope = match self.handle.dialect.decode(frame) {
            Ok(envelope) => envelope,
            Err(malformed) => return self.on_malformed(malformed.0, now).await,
        };
        let kind = kind_of(&envelope);
        let gateway = Arc::clone(&self.gateway);
        let Step { effect, outcome } =
            self.session.on_client(envelope, &gateway.authority, &gateway.config.limits, now);
        let outcome = match effect {
            Effect::Relay { target, signal } => self.relay(&target, signal).await?,
            effect => {
                self.carry_out(effect).await?;
                outcome
            }
        };
        self.count(kind, outcome);
        Ok(())
    }

    async fn on_malformed(&mut self, problem: String, now: Instant) -> Result<(), End> {
        let Step { effect, outcome } = self.session.on_malformed(problem, &self.gateway.config.limits, now);
        self.count(MessageKind::Malformed, outcome);
        self.carry_out(effect).await
    }

    fn count(&self, kind: MessageKind, outcome: Outcome) {
        self.gateway.metrics.message(self.handle.dialect, kind, outcome, 1);
        match outcome {
            Outcome::Accepted | Outcome::Relayed => return,
            Outcome::Denied(denial) => self.gateway.metrics.denied(Side::Sender, denial),
            Outcome::Refused(Undeliverable::RateLimited) => self.gateway.metrics.limited("messages"),
            _ => {}
        }
        tracing::debug!(peer = %self.handle.peer.id, ?kind, outcome = outcome.as_str(), "message refused");
    }

    /// Sends a message on its way; what fails at once is told to the sender, if it asked for feedback.
    async fn relay(&mut self, target: &str, signal: Signal) -> Result<Outcome, End> {
        let id = signal.id.clone();
        match self.gateway.relay(&self.space, target, signal) {
            Ok(()) => Ok(Outcome::Relayed),
            Err(reason) => {
                let effect = self.session.on_receipt(Receipt { id, target: Box::from(target), failure: Some(reason) });
                self.carry_out(effect).await?;
                Ok(Outcome::Refused(reason))
            }
        }
    }

    async fn carry_out(&mut self, effect: Effect<'_>) -> Result<(), End> {
        match effect {
            Effect::None | Effect::Relay { .. } => Ok(()),
            Effect::Send(message) => self.send_now(&message).await,
            Effect::Close(code) => Err(End::Close(code)),
            Effect::Ping => {
                self.feed(Message::Ping(Bytes::new())).await?;
                self.flush().await
            }
            Effect::Pong { payload } => {
                self.send_now(&ServerMessage::Pong { payload, unix_ms: unix_millis() }).await
            }
            Effect::Health => {
                let health = Box::pin(self.gateway.mesh_health(&self.session)).await;
                self.send_now(&ServerMessage::MeshHealth(health)).await
            }
            Effect::Place => Box::pin(self.place()).await,
            Effect::Unplace => Box::pin(self.unplace()).await,
        }
    }

    /// Takes (or looks up) the session's place and sends the list. Between the two nothing else is written: events
    /// about those who come next follow the list, never precede it.
    async fn place(&mut self) -> Result<(), End> {
        let peer = Arc::clone(self.session.peer());
        let first = !self.session.is_placed();
        let greeting = self.session.greeting();
        self.handle.wants_events.store(self.session.has(Capabilities::EVENTS), Ordering::Relaxed);
        self.handle.wants_ice.store(self.session.has(Capabilities::ICE), Ordering::Relaxed);
        let placement = match self.gateway.link.presence.place(&peer.mesh, &peer.id, self.session.epoch()).await {
            Ok(placement) => placement,
            Err(BusError::Superseded) => return Err(End::Close(CloseCode::Superseded)),
            Err(BusError::Unavailable(reason)) => {
                tracing::warn!(reason, "presence unavailable, session sent away");
                return Err(End::Close(CloseCode::Unavailable));
            }
        };
        let ice = self.session.has(Capabilities::ICE).then(|| self.gateway.ice_servers(&peer.id));
        let list = self.session.on_placed(placement.place, placement.members, ice);
        self.schedule();
        if first {
            let member = Member { peer: peer.id.clone(), place: placement.place };
            self.gateway.announce(&self.space, &peer.id, Parcel::Joined(member));
        }
        // The right may have gone while the place was taken: then the list is not sent, and `StandingChanged`
        // (queued behind this) takes the place away.
        if !peer.right.is_approved() {
            return Ok(());
        }
        if let Some(greeting) = greeting {
            self.send(&greeting).await?;
        }
        self.send_now(&list).await
    }

    async fn unplace(&mut self) -> Result<(), End> {
        let peer = Arc::clone(self.session.peer());
        match self.gateway.link.presence.unplace(&peer.mesh, &peer.id, self.session.epoch()).await {
            Ok(true) => self.announce_left(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a revoked peer could not be unlisted yet"),
        }
        match self.session.farewell() {
            Some(farewell) if peer.right.standing() == Standing::Revoked => self.send_now(&farewell).await,
            _ => Ok(()),
        }
    }

    /// One turn of writing: every message is checked last before it is put into the write buffer, the buffer is
    /// empty before the turn and written at its end, and the authority feed waits for turns in progress. So no
    /// frame that was checked before a revoke was acknowledged begins to be written after it.
    async fn on_batch(&mut self, batch: Batch) -> Result<(), End> {
        let Batch { mut mail, tick, close } = batch;
        let now = Instant::now();
        self.handle.begin_turn(self.gateway.nanos(now));
        let mut written = vec![];
        let result = self.write_mail(&mut mail, &mut written, now).await;
        self.handle.end_turn();
        self.account(&written, result.is_ok());
        for signal in mail.into_iter().filter_map(into_signal) {
            self.gateway.tell_sender(&signal, &self.handle.peer.id, Some(Undeliverable::Unavailable));
        }
        result?;
        if tick {
            let effect = self.session.on_tick(&self.gateway.config.limits, now);
            self.schedule();
            self.carry_out(effect).await?;
        }
        close.map_or(Ok(()), |code| Err(End::Close(code)))
    }

    async fn write_mail(
        &mut self,
        mail: &mut VecDeque<Mail>,
        written: &mut Vec<Signal>,
        now: Instant,
    ) -> Result<(), End> {
        while let Some(next) = mail.pop_front() {
            let witness = witness_of(&next);
            let gateway = Arc::clone(&self.gateway);
            let Step { effect, outcome } = self.session.on_mail(next, &gateway.authority, now);
            match (effect, witness) {
                (Effect::Send(message), witness) => {
                    written.extend(witness);
                    self.send(&message).await?;
                }
                (_, Some(signal)) => self.refused_here(&signal, outcome),
                (effect, None) => self.carry_out(effect).await?,
            }
        }
        self.flush().await
    }

    fn refused_here(&self, signal: &Signal, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Denied(denial) => {
                self.gateway.metrics.denied(Side::Target, denial);
                heliograph_core::session::reason_of(denial)
            }
            _ => Undeliverable::Unavailable,
        };
        tracing::debug!(target = %self.handle.peer.id, outcome = outcome.as_str(), "message refused before the write");
        self.gateway.tell_sender(signal, &self.handle.peer.id, Some(reason));
    }

    /// Times and receipts of what was written, or not.
    fn account(&self, written: &[Signal], arrived: bool) {
        if written.is_empty() {
            return;
        }
        let now = Instant::now();
        for signal in written {
            let failure = (!arrived).then_some(Undeliverable::Unavailable);
            if arrived {
                let taken = now.saturating_duration_since(signal.accepted_at);
                let path = if signal.via_bus { &self.gateway.metrics.relay_bus } else { &self.gateway.metrics.relay_local };
                path.observe(taken.as_secs_f64());
            }
            self.gateway.tell_sender(signal, &self.handle.peer.id, failure);
        }
    }

    async fn send_now(&mut self, message: &ServerMessage) -> Result<(), End> {
        self.send(message).await?;
        self.flush().await
    }

    /// Puts a message into the write buffer; a large one is written at once from its own memory.
    async fn send(&mut self, message: &ServerMessage) -> Result<(), End> {
        let mut text = vec![];
        self.handle.dialect.encode(message, &self.handle.peer.id, &mut text);
        if text.len() > LARGE_FRAME {
            self.flush().await?;
            return Box::pin(self.write_large(text)).await;
        }
        // The frame is valid UTF-8: names and JSON text. Sent as a raw frame, it is not checked once more.
        self.feed(Message::Frame(Frame::message(text, OpCode::Data(Data::Text), true))).await
    }

    async fn feed(&mut self, message: Message) -> Result<(), End> {
        let Self { socket, handle, .. } = self;
        tokio::select! {
            biased;
            fed = socket.feed(message) => fed.map_err(|_| End::Lost),
            () = handle.outbox.aborted() => Err(End::Close(CloseCode::SlowConsumer)),
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        let Self { socket, handle, .. } = self;
        tokio::select! {
            biased;
            flushed = socket.flush() => flushed.map_err(|_| End::Lost),
            () = handle.outbox.aborted() => Err(End::Close(CloseCode::SlowConsumer)),
        }
    }

    /// Writes one frame past the library, whose buffer is empty at this point.
    async fn write_large(&mut self, text: Vec<u8>) -> Result<(), End> {
        let mut header = vec![];
        let frame = FrameHeader { is_final: true, opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
        frame.format(text.len() as u64, &mut header).map_err(|_| End::Lost)?;
        let Self { socket, handle, .. } = self;
        let stream = socket.get_mut();
        let write = async {
            stream.write_all(&header).await?;
            stream.write_all(&text).await
        };
        tokio::select! {
            biased;
            written = write => written.map_err(|_| End::Lost),
            // Cut off in the middle of a frame, nothing more can be said on this socket.
            () = handle.outbox.aborted() => Err(End::Lost),
        }
    }

    /// Tells the sweep when to look at this session again.
    fn schedule(&mut self) {
        let due = self.session.next_deadline(&self.gateway.config.limits);
        self.handle.next_due.store(self.gateway.nanos(due), Ordering::Relaxed);
    }

    async fn finish(mut self, end: End) {
        let code = match end {
            End::Close(code) => code,
            End::ByClient | End::Lost => CloseCode::Normal,
        };
        self.leave(code).await;
        self.gateway.metrics.closed(match end {
            End::Close(code) => code.code(),
            End::ByClient => 1000,
            End::Lost => 1006,
        });
        tracing::debug!(peer = %self.handle.peer.id, ?end, "session ended");
        match end {
            End::Close(code) => close(self.socket, code).await,
            End::ByClient => finish_handshake(self.socket).await,
            End::Lost => {}
        }
    }

    /// Takes the session out of directory and presence, and tells senders of what was still queued.
    async fn leave(&mut self, code: CloseCode) {
        for signal in self.handle.outbox.finish(code).into_iter().filter_map(into_signal) {
            self.gateway.tell_sender(&signal, &self.handle.peer.id, Some(Undeliverable::Unavailable));
        }
        let peer = Arc::clone(self.session.peer());
        let nobody_here = self.space.remove(&self.handle);
        self.gateway.live.fetch_sub(1, Ordering::Relaxed);
        self.gateway.metrics.sessions.with_label_values(&[self.handle.dialect.as_str()]).dec();
        match self.gateway.link.presence.release(&peer.mesh, &peer.id, self.session.epoch()).await {
            Ok(true) => self.announce_left(),
            Ok(false) => {} // never placed, or a newer session took over and told it
            Err(error) => tracing::warn!(%error, "a session's presence could not be released; it will expire"),
        }
        if nobody_here {
            self.unsubscribe(&peer.mesh, &peer.id).await;
        }
    }

    fn announce_left(&self) {
        let peer = &self.handle.peer.id;
        self.gateway.announce(&self.space, peer, Parcel::Left(peer.clone()));
    }

    async fn unsubscribe(&self, mesh: &heliograph_core::id::MeshName, peer: &PeerId) {
        let destination = Destination::Peer(mesh.clone(), peer.clone());
        self.gateway.link.bus.unsubscribe(&destination).await;
        // A newer session may have come in between, and its subscription gone with ours.
        if self.space.session(peer.as_str()).is_some()
            && let Err(error) = self.gateway.link.bus.subscribe(destination).await
        {
            tracing::warn!(%error, "a subscription could not be renewed");
        }
    }
}

fn kind_of(envelope: &Envelope<'_>) -> MessageKind {
    match &envelope.message {
        ClientMessage::Register(_) => MessageKind::Register,
        ClientMessage::Directed(directed) => MessageKind::of(&directed.kind),
        ClientMessage::Ping { .. } => MessageKind::Ping,
        ClientMessage::MeshHealth => MessageKind::MeshHealth,
        ClientMessage::Heartbeat => MessageKind::Heartbeat,
        ClientMessage::Unknown { .. } | ClientMessage::Authenticate { .. } => MessageKind::Unknown,
    }
}

fn into_signal(mail: Mail) -> Option<Signal> {
    if let Mail::Signal(signal) = mail { Some(signal) } else { None }
}

/// What is remembered of a message while it is written: all but its payload.
fn witness_of(mail: &Mail) -> Option<Signal> {
    let Mail::Signal(signal) = mail else { return None };
    Some(Signal {
        from: Arc::clone(&signal.from),
        kind: signal.kind.clone(),
        id: signal.id.clone(),
        payload: Bytes::new(),
        ..*signal
    })
}

/// Sends a close frame and gives the client a moment to take it.
pub(crate) async fn close<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>, code: CloseCode) {
    let frame = CloseFrame { code: code.code().into(), reason: code.reason().into() };
    let sent = tokio::time::timeout(LINGER, socket.send(Message::Close(Some(frame)))).await;
    if !matches!(sent, Ok(Ok(()))) {
        return;
    }
    finish_handshake(socket).await;
}

async fn finish_handshake<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    let handshake = async {
        // Flushes our close frame, which answers the client's where it came first.
        let _already_closed = socket.flush().await;
        let mut stream = socket.into_inner();
        let _already_shut = stream.shutdown().await;
        swallow(&mut stream).await;
    };
    let _stood_still = tokio::time::timeout(LINGER, handshake).await;
}

/// Reads until the client closes, so that the kernel does not answer its last bytes with a reset, which would
/// take our close frame with it.
async fn swallow<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut buffer = vec![0; 16 * 1024];
    let mut total = 0;
    while total < LINGER_BYTES {
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => total += count,
        }
    }
}
