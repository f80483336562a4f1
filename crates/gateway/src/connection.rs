//! One socket: an actor that owns the stream and the session's state machine, and lives in one task.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use heliograph_bus::{BusError, Claim, Destination, Estate, Heir, Place, Sent, TakeOver, Visit};
use heliograph_core::authority::Standing;
use heliograph_core::close::CloseCode;
use heliograph_core::limits;
use heliograph_core::manners::Manner;
use heliograph_core::message::{
    Capabilities, ClientMessage, Enter, Envelope, Kind, Receipt, Resumed, ServerMessage, Signal,
    Undeliverable,
};
use heliograph_core::session::{Effect, Mail, Offers, Opening, Outcome, Session, Step};
use heliograph_core::stage::Stage;
use heliograph_wire::Dialect;
use rand::RngExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, FrameHeader};
use tokio_tungstenite::tungstenite::{Message, protocol::WebSocketConfig};

use crate::directory::{Handle, Space};
use crate::entry::{Door, Entry, Refusal};
use crate::gateway::{Gateway, unix_millis};
use crate::metrics::{Join, MessageKind, Side};
use crate::outbox::Batch;
use crate::relay::Relayed;
use crate::resume;
use crate::trace::{self, Leg};

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

/// Codes with which a client says that it does not come back: a page that closes, or one that says nothing at all
/// (RFC 6455 §7.4.1).
const GONE_FOR_GOOD: [u16; 3] = [1000, 1001, 1005];

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

/// What one turn writes.
#[derive(Default)]
struct Turn {
    frames: Vec<u8>,
    /// How many messages of the protocol are among the frames.
    written: usize,
    /// The messages of other peers among them.
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

    /// Takes (or looks up) the session's place and sends the list. Between the two nothing else is written: events
    /// about those who come next follow the list, never precede it.
    async fn place(&mut self) -> Result<Join, End> {
        let peer = Arc::clone(self.session.peer());
        let greeting = self.session.greeting();
        self.handle.note(&self.session);
        // Who comes back to a room takes the place that it has or inherited, and nobody hears that it was away.
        let same = self.session.is_placed() || self.room.is_some();
        let which = if same { Place::Same } else { Place::New };
        let placed =
            self.gateway.link.presence.place(&peer.space, &peer.id, self.session.epoch(), which).await;
        let placement = match placed {
            Ok(placement) => placement,
            Err(BusError::Superseded) => return Err(End::Close(CloseCode::Superseded)),
            Err(error) => {
                tracing::warn!(%error, "a place cannot be had now");
                return self.place_later().await.map(|()| Join::Unavailable);
            }
        };
        self.handle.set_place(Some(placement.place));
        let offers = self.offers();
        let list = self.session.on_placed(placement.place, placement.members, offers);
        self.handle.outbox.release();
        self.schedule();
        // The right may have gone while the place was taken: then the list is not sent, and `StandingChanged`
        // (queued behind this) takes the place away.
        if !peer.right.is_approved() {
            return Ok(Join::NotApproved);
        }
        match greeting {
            Some(greeting) => self.send(&[greeting, list]).await?,
            None => self.send(&[list]).await?,
        }
        Ok(Join::Listed)
    }

    /// Without presence nobody can be listed. A session that has its place keeps it, and its socket.
    async fn place_later(&mut self) -> Result<(), End> {
        if !self.session.is_placed() {
            return Err(End::Close(CloseCode::Unavailable));
        }
        if !self.session.has(Capabilities::FEEDBACK) {
            return Ok(());
        }
        let message = "other nodes cannot be reached now: register again later for a list".to_owned();
        self.send(&[ServerMessage::Error { code: "bus_unavailable", message }]).await
    }

    fn offers(&self) -> Offers {
        let Gateway { id, config, .. } = &*self.gateway;
        let ice = self.session.has(Capabilities::ICE);
        let resume = self.session.has(Capabilities::RESUME) && !config.resume_window.is_zero();
        Offers {
            ice_servers: ice.then(|| self.gateway.ice_servers(&self.handle, Instant::now())),
            resume: resume.then(|| self.handle.resume_offer(id, config.resume_window)),
        }
    }

    async fn unplace(&mut self) -> Result<(), End> {
        let peer = Arc::clone(self.session.peer());
        self.handle.set_place(None);
        let presence = &self.gateway.link.presence;
        if let Err(error) = presence.unplace(&peer.space, &peer.id, self.session.epoch()).await {
            tracing::warn!(%error, "a revoked peer could not be unlisted yet");
        }
        match self.session.farewell() {
            Some(farewell) if peer.right.standing() == Standing::Revoked => self.send(&[farewell]).await,
            _ => Ok(()),
        }
    }

    /// Takes up a former session of this client, if what it left can be had.
    async fn resume(&mut self, token: Box<str>, received: Option<u64>) -> Result<(), End> {
        let peer = Arc::clone(self.session.peer());
        let request = TakeOver {
            space: peer.space.clone(),
            peer: peer.id.clone(),
            by: self.session.epoch(),
            to: self.gateway.id.clone(),
            token,
            received,
        };
        let heir = Heir { space: peer.space.clone(), peer: peer.id.clone(), by: self.session.epoch() };
        match self.gateway.fetch_estate(request).await {
            Some(estate) if self.goes_on(&estate) => return self.inherit(estate).await,
            Some(estate) => self.gateway.refuse_estate(&heir, &estate),
            None => {}
        }
        self.gateway.metrics.comings.resumed("fresh");
        self.send(&[ServerMessage::Resumed(Resumed::Fresh)]).await
    }

    /// Whether nothing came between the session that left this and ours. A client that began anew and lost its connection
    /// before it heard so shows the token from before: by then the others were told that it went and came, and it has to
    /// hear who is here as one that is new (DESIGN G9).
    fn goes_on(&self, estate: &Estate) -> bool {
        self.inherited.is_none() || estate.place.is_none() || self.inherited == estate.place
    }

    /// Goes on where the former session was: what it had not written follows, each message checked again, in one turn
    /// with the word that it does.
    async fn inherit(&mut self, mut estate: Estate) -> Result<(), End> {
        self.gateway.metrics.comings.resumed("recovered");
        let mut mail = resume::into_mail(&self.gateway, &self.space, &mut estate);
        self.session.on_resumed(resume::inheritance(&estate, &mail));
        self.handle.goes_on_for(estate.first_epoch);
        self.handle.set_place(estate.place);
        self.handle.note(&self.session);
        let resume = self.handle.resume_offer(&self.gateway.id, self.gateway.config.resume_window);
        for open in estate.unanswered {
            let _never_evicts = self.sent_away(open.id, &open.target);
        }
        let now = Instant::now();
        self.handle.begin_turn(self.gateway.nanos(now));
        let whole = mail.len();
        let mut turn = Turn::default();
        while !mail.is_empty() {
            self.collect(&mut mail, now, &mut turn, usize::MAX);
        }
        let (recovered, lost) = (turn.written as u64, estate.lost + (whole - turn.written) as u64);
        let mut frames = vec![];
        let resumed = Resumed::Recovered { recovered, lost, resume };
        self.encode(&ServerMessage::Resumed(resumed), &mut frames);
        frames.append(&mut turn.frames);
        announce(&turn.signals);
        let result = self.write_checked(frames).await;
        self.handle.end_turn();
        self.account(&turn.signals, now, result.is_ok());
        self.handle.outbox.release();
        self.schedule();
        result
    }

    /// Works off what waited: in turns, each written at once.
    async fn on_batch(&mut self, batch: Batch) -> Result<(), End> {
        let Batch { mut mail, tick, close } = batch;
        // What a newer session of the client may fetch is not written to this one any more.
        let leaves = close == Some(CloseCode::Superseded) && self.session.is_resumable();
        while !mail.is_empty() && !leaves {
            let result = self.turn(&mut mail).await;
            if result.is_err() {
                self.unwritten = mail;
                return result;
            }
        }
        self.unwritten = mail;
        if tick {
            self.on_tick().await?;
        }
        close.map_or(Ok(()), |code| Err(End::Close(code)))
    }

    async fn on_tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let effect = self.session.on_tick(&self.gateway.config.limits, now);
        let mut frames = self.sort(effect)?.frames;
        while let Some(effect) = self.session.overdue(now) {
            frames.append(&mut self.sort(effect)?.frames);
        }
        self.schedule();
        if frames.is_empty() { Ok(()) } else { self.write(frames).await }
    }

    /// One turn of writing: every message is checked last before it is encoded, everything is written at the turn's
    /// end, and the authority feed waits for turns in progress. So no frame that was checked before a revoke was
    /// acknowledged begins to be written after it.
    async fn turn(&mut self, mail: &mut VecDeque<Mail>) -> Result<(), End> {
        let now = Instant::now();
        self.handle.begin_turn(self.gateway.nanos(now));
        let mut turn = Turn::default();
        self.collect(mail, now, &mut turn, TURN_BYTES);
        let asks = self.session.ask_for_sign(now);
        turn.frames.append(&mut self.sort(asks)?.frames);
        announce(&turn.signals);
        let result = match (turn.frames.is_empty(), turn.signals.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => self.write(turn.frames).await,
            (false, false) => self.write_checked(turn.frames).await,
        };
        self.handle.end_turn();
        self.account(&turn.signals, now, result.is_ok());
        result?;
        match turn.cold {
            Some(cold) => Box::pin(self.carry_out(cold)).await,
            None => Ok(()),
        }
    }

    /// Checks and encodes until the turn is full, or something has to be waited for.
    fn collect(&mut self, mail: &mut VecDeque<Mail>, now: Instant, turn: &mut Turn, full: usize) {
        while turn.frames.len() < full
            && let Some(next) = mail.pop_front()
        {
            let next = match next {
                Mail::FormerReceipt(epoch, _) if !self.handle.accepts(epoch) => continue,
                Mail::FormerReceipt(_, receipt) => Mail::Receipt(receipt),
                next => next,
            };
            let Step { effect, outcome } = self.session.on_mail(next, &self.gateway.authority, now);
            match effect {
                Effect::Send(message) => {
                    self.encode(&message, &mut turn.frames);
                    turn.written += 1;
                    if let ServerMessage::Signal { signal, .. } = message {
                        turn.signals.push(signal);
                    }
                }
                Effect::Return(signal) => self.refused_here(&signal, outcome),
                Effect::Place => turn.cold = Some(Cold::Place),
                Effect::Unplace => turn.cold = Some(Cold::Unplace),
                // The others answer clients and ticks, never mail.
                Effect::None
                | Effect::Relay { .. }
                | Effect::Broadcast(_)
                | Effect::Enter(_)
                | Effect::Leave
                | Effect::Resume { .. }
                | Effect::Pong { .. }
                | Effect::Health
                | Effect::Ping { .. }
                | Effect::Close(_) => {}
            }
            if turn.cold.is_some() {
                break;
            }
        }
    }

    fn refused_here(&self, signal: &Signal, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Denied(denial) => {
                self.gateway.metrics.denied(Side::Target, denial);
                heliograph_core::session::reason_of(denial)
            }
            _ => Undeliverable::Unavailable,
        };
        if let Some(span) = trace::go_on(Leg::Write, signal.trace, Instant::now()) {
            self.end_span(span, MessageKind::of(&signal.kind), Some(outcome.as_str()));
        }
        tracing::debug!(target = %self.handle.peer.id, outcome = outcome.as_str(), "message refused before the write");
        self.gateway.tell_sender(signal, &self.handle.peer.id, Some(reason));
    }

    /// Times and receipts of what was written, or not, in a turn that began at `since`.
    fn account(&mut self, signals: &[Signal], since: Instant, arrived: bool) {
        for signal in signals {
            if let Some(span) = trace::go_on(Leg::Write, signal.trace, since) {
                self.end_span(span, MessageKind::of(&signal.kind), (!arrived).then_some("not_written"));
            }
        }
        if arrived {
            self.session.on_written();
        } else if self.handle.resumable.get().is_some() && self.session.is_resumable() {
            return; // the client says what it got when it comes back, and senders hear then
        }
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
        if length == 0 {
            frames.truncate(start); // the dialect has no words for it
            return;
        }
        let mut header = vec![];
        append_frame(&mut header, OpCode::Data(Data::Text), length);
        let gap = start + MAX_HEADER - header.len();
        frames[gap..gap + header.len()].copy_from_slice(&header);
        frames.drain(start..gap);
    }

    /// Writes whole frames past the library, after whatever it still had to write itself (a pong). Nothing is kept
    /// for the next turn, so an idle socket holds no write buffer, however long the lists were that it once got.
    async fn write(&mut self, frames: Vec<u8>) -> Result<(), End> {
        self.write_while(frames, |_| true).await
    }

    /// As [`Self::write`], for messages of others: the lease is looked at again before each part is written. A process may
    /// stand still between check and write, and a socket in the middle of a turn; what was checked under a lease that has
    /// run out meanwhile is not written any more (DESIGN G8).
    async fn write_checked(&mut self, frames: Vec<u8>) -> Result<(), End> {
        self.write_while(frames, |gateway| gateway.authority.is_current(Instant::now())).await
    }

    async fn write_while(&mut self, frames: Vec<u8>, may: impl Fn(&Gateway) -> bool) -> Result<(), End> {
        let Self { socket, handle, gateway, .. } = self;
        let write = async {
            socket.flush().await.map_err(|_| End::Lost)?;
            let mut rest = &frames[..];
            while !rest.is_empty() {
                let part = std::future::poll_fn(|context| {
                    if !may(gateway) {
                        return Poll::Ready(Err(End::Stalled));
                    }
                    let written = Pin::new(socket.get_mut()).poll_write(context, rest);
                    written.map_err(|_| End::Lost)
                });
                match part.await? {
                    0 => return Err(End::Lost),
                    written => rest = &rest[written..],
                }
            }
            Ok(())
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

    async fn finish(mut self: Box<Self>, end: End) -> Option<Onward<S>> {
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
    fn outlives(&self, end: End) -> bool {
        let moves = self.room.as_ref().is_some_and(|room| room.manner.moves);
        moves && matches!(end, End::Left | End::Close(CloseCode::Superseded))
    }

    /// The client is away and may be back in a moment: others hear of it only if it is not. Nothing waits for it.
    async fn vanish(&mut self, grace: Duration) {
        self.give_back();
        self.gateway.depart_later(Arc::clone(&self.handle), grace).await;
    }

    /// Keeps the session for its client to come back.
    async fn park(self: Box<Self>) -> WebSocketStream<S> {
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
    async fn leave(&mut self) {
        self.give_back();
        self.gateway.depart(&self.handle).await;
    }

    fn give_back(&mut self) {
        self.handle.stage.change(|stage| if stage == Stage::Passed { stage } else { Stage::Over });
        let queued = std::mem::take(&mut self.unwritten).into_iter().chain(self.handle.outbox.finish());
        for signal in queued.filter_map(into_signal) {
            self.gateway.tell_sender(&signal, &self.handle.peer.id, Some(Undeliverable::Unavailable));
        }
    }
}

impl Gateway {
    /// The socket of a session is as good as closed.
    fn session_ended(&self, dialect: Dialect) {
        // Whoever sees that it ended sees also that it was parked.
        self.live.fetch_sub(1, Ordering::Release);
        self.metrics.sessions.with_label_values(&[dialect.as_str()]).dec();
    }
}

/// Makes the handle of a new session the newest of its peer here, and ends an older one.
fn admit(
    gateway: &Gateway,
    space: &Space,
    Entry { peer, profile }: Entry,
    claim: &Claim,
    dialect: Dialect,
) -> Arc<Handle> {
    // Presence may not know of an older session: its node stood still so long that it was given up. Only one that is
    // here needs no fence.
    let elsewhere = claim.previous.as_ref().is_none_or(|previous| previous.gateway != gateway.id);
    let stage = if elsewhere { Stage::Awaiting } else { Stage::Live };
    let handle = Arc::new(Handle::new(peer, claim.epoch, dialect, profile, stage));
    if claim.previous.as_ref().is_some_and(|previous| previous.place.is_some()) {
        // What is sent to the peer now waits until the client says whether it resumes.
        handle.outbox.hold();
    }
    let Some(older) = space.insert(Arc::clone(&handle)) else { return handle };
    if Arc::ptr_eq(&older, &handle) {
        older.outbox.close(CloseCode::Superseded); // a newer one is there already
        return handle;
    }
    if elsewhere {
        older.outbox.close(CloseCode::Superseded); // its fence comes, or came, by the bus
    } else {
        gateway.pass(&older);
    }
    if let Some(forgotten) = space.set_former(older) {
        gateway.give_up(forgotten, Undeliverable::Unavailable);
    }
    handle
}

/// What is sent to this peer and to its space has to reach this node before anybody is told of it, and before the fence.
async fn subscribe(gateway: &Gateway, space: &Space, handle: &Handle) -> Result<(), BusError> {
    let bus = &gateway.link.bus;
    let name = &space.name;
    let mine = Destination::Peer(name.clone(), handle.peer.id.clone());
    let all = async {
        // Nobody gives the channel of a room up meanwhile.
        let _in_order = if name.is_room() { Some(space.channel.lock().await) } else { None };
        bus.subscribe(Destination::Space(name.clone())).await
    };
    let (news, mail) = tokio::join!(all, bus.subscribe(mine));
    news.and(mail)?;
    if handle.stage.get() != Stage::Awaiting {
        return Ok(());
    }
    match gateway.fence(handle) {
        Sent::Queued | Sent::Offline => Ok(()),
        Sent::Full | Sent::Down => Err(BusError::Unavailable("the bus takes nothing now".to_owned())),
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

/// For tests of revocation, which compare moments of several processes: on one machine they share the monotonic clock.
/// A comparison each while nobody listens.
fn announce(signals: &[Signal]) {
    for Signal { id, .. } in signals {
        tracing::trace!(target: "heliograph::write", id = id.as_deref(), now = ?Instant::now(), "write begins");
    }
}

fn into_signal(mail: Mail) -> Option<Signal> {
    if let Mail::Signal(signal) = mail { Some(signal) } else { None }
}

/// With which code a socket is closed on which the library found `error`; `None` where the connection broke and nobody
/// reads what we would answer.
pub(crate) fn close_code_of(error: &WsError) -> Option<CloseCode> {
    match error {
        WsError::Capacity(CapacityError::MessageTooLong { .. }) => Some(CloseCode::TooLarge),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) | WsError::Utf8(_) | WsError::Capacity(_) => Some(CloseCode::ProtocolError),
        _ => None,
    }
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
pub(crate) mod tests;
