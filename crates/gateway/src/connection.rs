//! One socket: an actor that owns the stream and the session's state machine, and lives in one task.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use heliograph_bus::{BusError, Visit};
use heliograph_core::authority::Standing;
use heliograph_core::close::CloseCode;
use heliograph_core::limits;
use heliograph_core::manners::Manner;
use heliograph_core::message::{
    ClientMessage, Enter, Envelope, Kind, Receipt, ServerMessage, Signal, Undeliverable,
};
use heliograph_core::session::{Effect, Mail, Opening, Outcome, Session, Step};
use heliograph_wire::Dialect;
use rand::RngExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error as WsError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, OpCode};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use crate::directory::{Handle, Space};
use crate::entry::{Door, Entry, Refusal};
use crate::gateway::{Gateway, unix_millis};
use crate::metrics::{Join, MessageKind, Side};
use crate::relay::Relayed;
use crate::trace;

mod ending;
mod frames;
mod opening;
mod places;
mod turns;

use ending::{End, GONE_FOR_GOOD};
use frames::append_frame;
pub(crate) use frames::{close, close_code_of};
use opening::{admit, subscribe};

/// Eagerly allocated per socket. A usual signaling message and its header fit; longer ones get room as announced.
const READ_BUFFER: usize = 2 * 1024;
/// What the library may hold back of its own frames (pongs, close); ours are written past it.
const LIBRARY_WRITE_BUFFER: usize = 1024;

/// The library's settings for a server socket.
pub(crate) fn websocket_config(max_message_bytes: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(LIBRARY_WRITE_BUFFER)
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes))
}

/// What has to wait for others.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Cold {
    Place,
    Unplace,
    Health,
    Resume { token: Box<str>, received: Option<u64> },
}

/// What a client's frame leads to on its own socket.
#[derive(Default)]
struct Answer {
    frames: Vec<u8>,
    cold: Option<Cold>,
}

/// The actor.
pub(crate) struct Connection<S> {
    socket: WebSocketStream<S>,
    session: Session,
    handle: Arc<Handle>,
    space: Arc<Space>,
    gateway: Arc<Gateway>,
    /// The place that it has from the peer's session before it, whichever that was.
    inherited: Option<u64>,
    /// What was taken from the outbox and not written when the session ended.
    unwritten: VecDeque<Mail>,
    /// Where the session is in a room.
    room: Option<Box<InRoom>>,
}

/// What a session in a room has beside.
struct InRoom {
    manner: &'static Manner,
    /// Where its client may go.
    door: Arc<Door>,
    /// Where it goes next on this socket.
    next: Option<Entry>,
}

/// A socket that outlived its session, and where its client goes next, if it said so.
pub(crate) type Onward<S> = (WebSocketStream<S>, Option<Entry>);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Makes the authenticated peer's session the live one. `Err` when the bus cannot be asked.
    pub(crate) async fn open(
        gateway: Arc<Gateway>,
        socket: WebSocketStream<S>,
        entry: Entry,
        dialect: Dialect,
    ) -> Result<Box<Self>, (WebSocketStream<S>, BusError)> {
        let Entry { peer, profile } = entry;
        let limits = &gateway.config.limits;
        let in_room = peer.space.is_room();
        let most_rooms = if in_room { limits.max_rooms_per_mesh } else { 0 };
        // Held from here on, so that an empty room is not let go of meanwhile.
        let Some(space) = gateway.directory.room(&peer.space, most_rooms) else {
            gateway.metrics.limited("rooms");
            return Err((socket, BusError::Full));
        };
        let in_order = gateway.turnstile(&peer.id).await;
        let dialect_name = dialect.as_str().into();
        let visit = Visit { since_unix_ms: unix_millis(), dialect: dialect_name, profile: profile.clone() };
        let most = if in_room { limits.max_room_members } else { 0 };
        let claim = match gateway.link.presence.claim_within(&peer.space, &peer.id, visit, most).await {
            Ok(claim) => claim,
            Err(error) => return Err((socket, error)),
        };
        let opening = Opening {
            peer: Arc::clone(&peer),
            epoch: claim.epoch,
            now: Instant::now(),
            ping_phase: rand::rng().random(),
        };
        let session = Session::new(opening, &gateway.config.limits);
        let handle = admit(&gateway, &space, Entry { peer, profile }, &claim, dialect);
        if handle.peer.right.standing() == Standing::Revoked {
            gateway.mute(&handle); // while its place was claimed: the feed may not have seen this session
        }
        gateway.live.fetch_add(1, Ordering::Relaxed);
        gateway.metrics.sessions.with_label_values(&[dialect.as_str()]).inc();
        gateway.metrics.sessions_total.with_label_values(&[dialect.as_str()]).inc();
        let opened = subscribe(&gateway, &space, &handle).await;
        drop(in_order);
        let unwritten = VecDeque::new();
        let inherited = claim.previous.and_then(|previous| previous.place);
        let mut connection =
            Self { socket, session, handle, space, gateway, inherited, unwritten, room: None };
        connection.schedule();
        if let Err(error) = opened {
            connection.gateway.session_ended(dialect);
            connection.leave().await;
            return Err((connection.socket, error));
        }
        connection.gateway.presence_changed();
        Ok(Box::new(connection))
    }

    /// Serves the socket to the end of its session. The actor is boxed: a future that takes it by value would hold it
    /// twice. Answers the socket if it outlives the session.
    pub(crate) async fn run(mut self: Box<Self>) -> Option<Onward<S>> {
        let end = self.serve().await;
        // Cold, and larger than all the rest: boxed, so that an idle socket does not carry it.
        Box::pin(self.finish(end)).await
    }

    /// As [`Self::run`], in a room: the client has said already who it is, and is listed at once.
    pub(crate) async fn run_in_room(
        mut self: Box<Self>,
        manner: &'static Manner,
        door: Arc<Door>,
    ) -> Option<Onward<S>> {
        self.session.on_entered(self.handle.dialect.manners().capabilities);
        self.room = Some(Box::new(InRoom { manner, door, next: None }));
        match Box::pin(self.carry_out(Cold::Place)).await {
            Ok(()) => self.run().await,
            Err(end) => Box::pin(self.finish(end)).await,
        }
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
            Some(Ok(Message::Pong(payload))) => {
                if let Ok(covers) = <[u8; 8]>::try_from(&payload[..]) {
                    self.session.on_pong(u64::from_be_bytes(covers));
                }
                Ok(Answer::default())
            }
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Ok(Answer::default()),
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                Err(End::ByClient { may_return: !GONE_FOR_GOOD.contains(&code) })
            }
            Some(Err(error)) => Err(close_code_of(&error).map_or(End::Lost, End::Close)),
            None => Err(End::Lost),
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
            Effect::Broadcast(signal) => {
                self.broadcast(kind, signal);
                Ok(Answer::default())
            }
            Effect::Enter(enter) => {
                self.count(kind, outcome);
                self.on_enter(&enter, now)
            }
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
    fn relay(&mut self, kind: MessageKind, target: &str, mut signal: Signal) -> Result<Answer, End> {
        let span = trace::begin();
        signal.trace = span.as_ref().map(|span| span.context());
        let id = signal.id.clone();
        let answered = signal.receipt;
        let sent = self.gateway.relay(&self.space, target, signal);
        if let Some(span) = span {
            self.end_span(span, kind, sent.as_ref().err().map(|reason| reason.as_str()));
        }
        let effect = match sent {
            Ok(way) => {
                self.count(kind, Outcome::Relayed);
                match (way, id) {
                    (Relayed::Away, Some(id)) if answered => self.sent_away(id, target),
                    _ => return Ok(Answer::default()),
                }
            }
            Err(reason) => {
                self.count(kind, Outcome::Refused(reason));
                self.session.on_receipt(Receipt { id, target: Box::from(target), failure: Some(reason) })
            }
        };
        self.sort(effect)
    }

    /// Brings a message to the room; what each member's node makes of it is not told.
    fn broadcast(&self, kind: MessageKind, signal: Signal) {
        let outcome =
            self.gateway.broadcast(&self.space, signal).map_or_else(Outcome::Refused, |()| Outcome::Relayed);
        self.count(kind, outcome);
    }

    /// The client says again who and where it is: what it said already is answered again, anything else ends the session
    /// where the dialect lets its clients move.
    fn on_enter(&mut self, enter: &Enter<'_>, now: Instant) -> Result<Answer, End> {
        let Some(room) = &self.room else { return Ok(Answer::default()) };
        let manner = room.manner;
        let (entry, is_free) = match room.door.open(&self.gateway, enter) {
            Ok(opened) => (opened.entry, opened.to_prove.is_none()),
            Err(refusal) => return self.refuse(refusal),
        };
        if Arc::ptr_eq(&entry.peer, &self.handle.peer) {
            if manner.repeats
                && let Some(payload) = entry.profile
            {
                self.repeat(payload, now);
            }
            return Ok(Answer { cold: Some(Cold::Place), ..Answer::default() });
        }
        if !(manner.moves && is_free) {
            return self
                .refuse(Refusal::new("already_registered", "this socket is registered under another key"));
        }
        if let Some(room) = &mut self.room {
            room.next = Some(entry);
        }
        Err(End::Left)
    }

    /// Shows the others again what the client shows of itself.
    fn repeat(&mut self, payload: Bytes, now: Instant) {
        let message = ClientMessage::Broadcast { kind: Kind::Application("enter".into()), payload };
        let Gateway { authority, config, .. } = &*self.gateway;
        let envelope = Envelope { sender: None, message };
        if let Effect::Broadcast(signal) =
            self.session.on_client(envelope, authority, &config.limits, now).effect
        {
            self.broadcast(MessageKind::Enter, signal);
        }
    }

    fn refuse(&self, refusal: Refusal) -> Result<Answer, End> {
        let Refusal { code, message } = refusal;
        self.sort(Effect::Send(ServerMessage::Error { code, message }))
    }

    fn end_span(&self, mut span: Box<dyn trace::Span>, kind: MessageKind, failure: Option<&'static str>) {
        span.note("heliograph.gateway", self.gateway.id.to_string());
        span.note("heliograph.dialect", self.handle.dialect.as_str().to_owned());
        span.note("heliograph.kind", kind.as_str().to_owned());
        span.end(failure);
    }

    /// The other node answers for it; if it dies with the message, we do.
    fn sent_away<'a>(&mut self, id: Box<str>, target: &str) -> Effect<'a> {
        let give_up = Instant::now() + self.gateway.config.resume_window + limits::ANSWER_GRACE;
        let effect = self.session.on_sent_away(id, Box::from(target), give_up);
        self.schedule();
        effect
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
            Effect::None
            | Effect::Relay { .. }
            | Effect::Broadcast(_)
            | Effect::Enter(_)
            | Effect::Return(_) => {}
            Effect::Leave => return Err(End::Left),
            Effect::Send(message) => self.encode(&message, &mut answer.frames),
            Effect::Pong { payload } => {
                self.encode(&ServerMessage::Pong { payload, unix_ms: unix_millis() }, &mut answer.frames);
            }
            Effect::Ping { covers } => {
                append_frame(&mut answer.frames, OpCode::Control(Control::Ping), 8);
                answer.frames.extend_from_slice(&covers.to_be_bytes());
            }
            Effect::Resume { token, received } => {
                answer.cold = Some(Cold::Resume { token: Box::from(&*token), received });
            }
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
            Cold::Place => {
                let since = Instant::now();
                let placed = self.place().await;
                let join = match placed {
                    Ok(join) => join,
                    Err(End::Close(CloseCode::Superseded)) => Join::Superseded,
                    Err(End::Close(CloseCode::Unavailable)) => Join::Unavailable,
                    Err(_) => Join::Left,
                };
                self.gateway.metrics.joins.ended(join, since);
                placed.map(|_| ())
            }
            Cold::Unplace => self.unplace().await,
            Cold::Resume { token, received } => self.resume(token, received).await,
        }
    }

    /// Tells the sweep when to look at this session again.
    fn schedule(&mut self) {
        let due = self.session.next_deadline(&self.gateway.config.limits);
        self.handle.next_due.store(self.gateway.nanos(due), Ordering::Relaxed);
    }
}

pub(crate) fn kind_of(envelope: &Envelope<'_>) -> MessageKind {
    match &envelope.message {
        ClientMessage::Register(_) => MessageKind::Register,
        ClientMessage::Directed(directed) => MessageKind::of(&directed.kind),
        ClientMessage::Ping { .. } => MessageKind::Ping,
        ClientMessage::MeshHealth => MessageKind::MeshHealth,
        ClientMessage::Heartbeat => MessageKind::Heartbeat,
        ClientMessage::Resume { .. } => MessageKind::Resume,
        ClientMessage::Enter(_) | ClientMessage::Prove(_) => MessageKind::Enter,
        ClientMessage::Leave => MessageKind::Leave,
        ClientMessage::Broadcast { .. } => MessageKind::Broadcast,
        ClientMessage::Unknown { .. } | ClientMessage::Authenticate { .. } => MessageKind::Unknown,
    }
}

#[cfg(test)]
pub(crate) mod tests;
