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
use heliograph_core::message::{
    Capabilities, ClientMessage, Envelope, Member, Receipt, ServerMessage, Signal, Undeliverable,
};
use heliograph_core::session::{Effect, Mail, Opening, Outcome, Session, Step};
use heliograph_wire::Dialect;
use rand::RngExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use crate::directory::{Handle, Space};
use crate::gateway::{Gateway, unix_millis};
use crate::metrics::{MessageKind, Side};
use crate::outbox::Batch;

/// Eagerly allocated per socket. A usual signaling message and its header fit; longer ones get room as announced.
const READ_BUFFER: usize = 2 * 1024;
/// What the library may hold back of its own frames (pongs, close); ours are written past it.
const LIBRARY_WRITE_BUFFER: usize = 1024;
/// A turn is written when it has collected so much, even if more waits.
const TURN_BYTES: usize = 64 * 1024;
/// How long the closing handshake may take, and how much of what the client still sends is swallowed meanwhile, so
/// that it reads our close frame and not a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// The library's settings for a server socket.
pub(crate) fn websocket_config(max_message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(LIBRARY_WRITE_BUFFER)
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
    /// The client did not read, and was cut off in the middle of a frame.
    Stalled,
}

/// What has to wait for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cold {
    Place,
    Unplace,
    Health,
}

/// What a client's frame leads to on its own socket.
#[derive(Default)]
struct Answer {
    frames: Vec<u8>,
    cold: Option<Cold>,
}

/// What one turn writes.
#[derive(Default)]
struct Turn {
    frames: Vec<u8>,
    /// The messages of other peers among the frames.
    signals: Vec<Signal>,
    cold: Option<Cold>,
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
    ) -> Result<Box<Self>, (WebSocketStream<S>, BusError)> {
        let visit = Visit { since_unix_ms: unix_millis(), dialect: dialect.as_str().into() };
        let claim = match gateway.link.presence.claim(&peer.mesh, &peer.id, visit).await {
            Ok(claim) => claim,
            Err(error) => return Err((socket, error)),
        };
        let space = gateway.directory.space(&peer.mesh);
        let opening = Opening {
            peer: Arc::clone(&peer),
            epoch: claim.epoch,
            now: Instant::now(),
            ping_phase: rand::rng().random(),
        };
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
        Ok(Box::new(connection))
    }

    /// What is sent to this peer and to its mesh has to reach this node before anybody is told of it.
    async fn subscribe(&self) -> Result<(), BusError> {
        let peer = self.session.peer();
        self.gateway.link.bus.subscribe(Destination::Mesh(peer.mesh.clone())).await?;
        self.gateway.link.bus.subscribe(Destination::Peer(peer.mesh.clone(), peer.id.clone())).await
    }

    /// Serves the socket to its end. The actor is boxed: a future that takes it by value would hold it twice.
    pub(crate) async fn run(mut self: Box<Self>) {
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
        let answer = self.answer(frame)?;
        if !answer.frames.is_empty() {
            self.write(answer.frames).await?;
        }
        match answer.cold {
            Some(cold) => Box::pin(self.carry_out(cold)).await,
            None => Ok(()),
        }
    }

    fn answer(&mut self, frame: Option<Result<Message, WsError>>) -> Result<Answer, End> {
        let now = Instant::now();
        self.session.on_activity(now);
        match frame {
            Some(Ok(Message::Text(text))) => self.on_text(&Bytes::from(text), now),
            Some(Ok(Message::Binary(_))) => {
                let problem = "binary frames are not part of this protocol, send text".to_owned();
                self.on_malformed(problem, now)
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Ok(Answer::default()),
            Some(Ok(Message::Close(_))) => Err(End::ByClient),
            Some(Err(WsError::Capacity(CapacityError::MessageTooLong { .. }))) => {
                Err(End::Close(CloseCode::TooLarge))
            }
            // The connection broke: nobody reads what we would answer.
            Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => Err(End::Lost),
            Some(Err(WsError::Protocol(_) | WsError::Utf8(_) | WsError::Capacity(_))) => {
                Err(End::Close(CloseCode::ProtocolError))
            }
            Some(Err(_)) | None => Err(End::Lost),
        }
    }

    fn on_text(&mut self, frame: &Bytes, now: Instant) -> Result<Answer, End> {
        let envelope = match self.handle.dialect.decode(frame) {
            Ok(envelope) => envelope,
            Err(malformed) => return self.on_malformed(malformed.0, now),
        };
        let kind = kind_of(&envelope);
        let Gateway { authority, config, .. } = &*self.gateway;
        let Step { effect, outcome } = self.session.on_client(envelope, authority, &config.limits, now);
        match effect {
            Effect::Relay { target, signal } => self.relay(kind, &target, signal),
            effect => {
                self.count(kind, outcome);
                self.sort(effect)
            }
        }
    }

    fn on_malformed(&mut self, problem: String, now: Instant) -> Result<Answer, End> {
        let Step { effect, outcome } = self.session.on_malformed(problem, &self.gateway.config.limits, now);
        self.count(MessageKind::Malformed, outcome);
        self.sort(effect)
    }

    /// Sends a message on its way; what fails at once is told to the sender, if it asked for feedback.
    fn relay(&mut self, kind: MessageKind, target: &str, signal: Signal) -> Result<Answer, End> {
        let _span =
            tracing::trace_span!(target: "heliograph::relay", "relay", kind = kind.as_str()).entered();
        let id = signal.id.clone();
        let Err(reason) = self.gateway.relay(&self.space, target, signal) else {
            self.count(kind, Outcome::Relayed);
            return Ok(Answer::default());
        };
        self.count(kind, Outcome::Refused(reason));
        let receipt = Receipt { id, target: Box::from(target), failure: Some(reason) };
        let effect = self.session.on_receipt(receipt);
        self.sort(effect)
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

    /// What can be encoded at once is; the rest has to wait for others.
    fn sort(&self, effect: Effect<'_>) -> Result<Answer, End> {
        let mut answer = Answer::default();
        match effect {
            Effect::None | Effect::Relay { .. } | Effect::Return(_) => {}
            Effect::Send(message) => self.encode(&message, &mut answer.frames),
            Effect::Pong { payload } => {
                self.encode(&ServerMessage::Pong { payload, unix_ms: unix_millis() }, &mut answer.frames);
            }
            Effect::Ping => append_frame(&mut answer.frames, OpCode::Control(Control::Ping), 0),
            Effect::Close(code) => return Err(End::Close(code)),
            Effect::Health => answer.cold = Some(Cold::Health),
            Effect::Place => answer.cold = Some(Cold::Place),
            Effect::Unplace => answer.cold = Some(Cold::Unplace),
        }
        Ok(answer)
    }

    async fn carry_out(&mut self, cold: Cold) -> Result<(), End> {
        match cold {
            Cold::Health => {
                let health = self.gateway.mesh_health(&self.session).await;
                self.send(&[ServerMessage::MeshHealth(health)]).await
            }
            Cold::Place => self.place().await,
            Cold::Unplace => self.unplace().await,
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
        let placement =
            match self.gateway.link.presence.place(&peer.mesh, &peer.id, self.session.epoch()).await {
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
            let _in_order = self.space.news();
            self.handle.announced.store(true, Ordering::Relaxed);
            self.gateway.announce(&self.space, &peer.id, Parcel::Joined(member));
        }
        // The right may have gone while the place was taken: then the list is not sent, and `StandingChanged`
        // (queued behind this) takes the place away.
        if !peer.right.is_approved() {
            return Ok(());
        }
        match greeting {
            Some(greeting) => self.send(&[greeting, list]).await,
            None => self.send(&[list]).await,
        }
    }

    async fn unplace(&mut self) -> Result<(), End> {
        let peer = Arc::clone(self.session.peer());
        match self.gateway.link.presence.unplace(&peer.mesh, &peer.id, self.session.epoch()).await {
            Ok(true) => self.announce_left(),
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "a revoked peer could not be unlisted yet"),
        }
        match self.session.farewell() {
            Some(farewell) if peer.right.standing() == Standing::Revoked => self.send(&[farewell]).await,
            _ => Ok(()),
        }
    }

    /// Works off what waited: in turns, each written at once.
    async fn on_batch(&mut self, batch: Batch) -> Result<(), End> {
        let Batch { mut mail, tick, close } = batch;
        while !mail.is_empty() {
            let result = self.turn(&mut mail).await;
            if result.is_err() {
                for signal in mail.into_iter().filter_map(into_signal) {
                    self.gateway.tell_sender(&signal, &self.handle.peer.id, Some(Undeliverable::Unavailable));
                }
                return result;
            }
        }
        if tick {
            let effect = self.session.on_tick(&self.gateway.config.limits, Instant::now());
            self.schedule();
            let answer = self.sort(effect)?;
            if !answer.frames.is_empty() {
                self.write(answer.frames).await?;
            }
        }
        close.map_or(Ok(()), |code| Err(End::Close(code)))
    }

    /// One turn of writing: every message is checked last before it is encoded, everything is written at the turn's
    /// end, and the authority feed waits for turns in progress. So no frame that was checked before a revoke was
    /// acknowledged begins to be written after it.
    async fn turn(&mut self, mail: &mut VecDeque<Mail>) -> Result<(), End> {
        let now = Instant::now();
        self.handle.begin_turn(self.gateway.nanos(now));
        let Turn { frames, signals, cold } = self.collect(mail, now);
        let result = if frames.is_empty() { Ok(()) } else { self.write(frames).await };
        self.handle.end_turn();
        self.account(&signals, result.is_ok());
        result?;
        match cold {
            Some(cold) => Box::pin(self.carry_out(cold)).await,
            None => Ok(()),
        }
    }

    /// Checks and encodes until the turn is full, or something has to be waited for.
    fn collect(&mut self, mail: &mut VecDeque<Mail>, now: Instant) -> Turn {
        let mut turn = Turn::default();
        while turn.frames.len() < TURN_BYTES
            && let Some(next) = mail.pop_front()
        {
            let Step { effect, outcome } = self.session.on_mail(next, &self.gateway.authority, now);
            match effect {
                Effect::Send(message) => {
                    self.encode(&message, &mut turn.frames);
                    if let ServerMessage::Signal(signal) = message {
                        turn.signals.push(signal);
                    }
                }
                Effect::Return(signal) => self.refused_here(&signal, outcome),
                Effect::Place => turn.cold = Some(Cold::Place),
                Effect::Unplace => turn.cold = Some(Cold::Unplace),
                // The others answer clients and ticks, never mail.
                Effect::None
                | Effect::Relay { .. }
                | Effect::Pong { .. }
                | Effect::Health
                | Effect::Ping
                | Effect::Close(_) => {}
            }
            if turn.cold.is_some() {
                break;
            }
        }
        turn
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
    fn account(&self, signals: &[Signal], arrived: bool) {
        if signals.is_empty() {
            return;
        }
        let now = Instant::now();
        for signal in signals {
            if arrived {
                let taken = now.saturating_duration_since(signal.accepted_at);
                let metrics = &self.gateway.metrics;
                let path = if signal.via_bus { &metrics.relay_bus } else { &metrics.relay_local };
                path.observe(taken.as_secs_f64());
            }
            let failure = (!arrived).then_some(Undeliverable::Unavailable);
            self.gateway.tell_sender(signal, &self.handle.peer.id, failure);
        }
    }

    async fn send(&mut self, messages: &[ServerMessage]) -> Result<(), End> {
        let mut frames = vec![];
        for message in messages {
            self.encode(message, &mut frames);
        }
        self.write(frames).await
    }

    /// Appends a message as a whole text frame.
    fn encode(&self, message: &ServerMessage, frames: &mut Vec<u8>) {
        // The header's length depends on the text's, so room for the longest is left and the rest closed up: for
        // the usual sizes a move of a few hundred bytes, cheaper than a second buffer.
        let start = frames.len();
        frames.extend_from_slice(&[0; MAX_HEADER]);
        self.handle.dialect.encode(message, &self.handle.peer.id, frames);
        let length = frames.len() - start - MAX_HEADER;
        let mut header = vec![];
        append_frame(&mut header, OpCode::Data(Data::Text), length);
        let gap = start + MAX_HEADER - header.len();
        frames[gap..gap + header.len()].copy_from_slice(&header);
        frames.drain(start..gap);
    }

    /// Writes whole frames past the library, after whatever it still had to write itself (a pong). Nothing is kept
    /// for the next turn, so an idle socket holds no write buffer, however long the lists were that it once got.
    async fn write(&mut self, frames: Vec<u8>) -> Result<(), End> {
        let Self { socket, handle, .. } = self;
        let write = async {
            socket.flush().await.map_err(|_| End::Lost)?;
            socket.get_mut().write_all(&frames).await.map_err(|_| End::Lost)
        };
        tokio::select! {
            biased;
            written = write => written,
            // Cut off perhaps in the middle of a frame: nothing more can be said on this socket.
            () = handle.outbox.aborted() => Err(End::Stalled),
        }
    }

    /// Tells the sweep when to look at this session again.
    fn schedule(&mut self) {
        let due = self.session.next_deadline(&self.gateway.config.limits);
        self.handle.next_due.store(self.gateway.nanos(due), Ordering::Relaxed);
    }

    async fn finish(mut self: Box<Self>, end: End) {
        let (code, on_wire) = match end {
            End::Close(code) => (code, code.code()),
            End::ByClient => (CloseCode::Normal, 1000),
            End::Lost => (CloseCode::Normal, 1006),
            End::Stalled => (CloseCode::SlowConsumer, CloseCode::SlowConsumer.code()),
        };
        self.leave(code).await;
        self.gateway.metrics.closed(on_wire);
        tracing::debug!(peer = %self.handle.peer.id, ?end, "session ended");
        match end {
            End::Close(code) => close(self.socket, code).await,
            // Its close frame is answered by the flush; nothing of it comes after.
            End::ByClient => drop(tokio::time::timeout(LINGER, self.socket.flush()).await),
            End::Lost | End::Stalled => {}
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
            Err(error) => {
                tracing::warn!(%error, "a session's presence could not be released; it will expire");
            }
        }
        if nobody_here {
            self.unsubscribe(&peer.mesh, &peer.id).await;
        }
    }

    fn announce_left(&self) {
        let peer = &self.handle.peer.id;
        let _in_order = self.space.news();
        let newer = self.space.session(peer.as_str()).filter(|session| session.epoch > self.handle.epoch);
        if newer.is_some_and(|session| session.announced.load(Ordering::Relaxed)) {
            return; // it came back before this was told: it is there
        }
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

/// The longest header of a server frame: opcode, length mark, 64-bit length (RFC 6455 §5.2).
const MAX_HEADER: usize = 10;

/// Appends the header of an unmasked, final frame.
fn append_frame(out: &mut Vec<u8>, opcode: OpCode, length: usize) {
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    let written = header.format(length as u64, out);
    debug_assert!(written.is_ok(), "writing to a vector cannot fail");
}

/// Sends a close frame and gives the client a moment to take it.
pub(crate) async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    code: CloseCode,
) {
    let frame = CloseFrame { code: code.code().into(), reason: code.reason().into() };
    let sent = tokio::time::timeout(LINGER, socket.send(Message::Close(Some(frame)))).await;
    if !matches!(sent, Ok(Ok(()))) {
        return;
    }
    let mut stream = socket.into_inner();
    let end = async {
        let _already_shut = stream.shutdown().await;
        swallow(&mut stream).await;
    };
    let _stood_still = tokio::time::timeout(LINGER, end).await;
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

#[cfg(test)]
mod tests;
