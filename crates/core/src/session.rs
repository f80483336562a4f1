//! One authenticated socket as a state machine: a message or an event and the time go in, one [`Step`] comes out.
//!
//! ```text
//! connected ──register──▶ registered, placed (approved)   ──▶ sends, receives, is listed
//!                └──────▶ registered, waiting (not yet)   ──approved──▶ placed
//! ```

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::authority::{Authority, Denial, Standing};
use crate::close::CloseCode;
use crate::id::{Epoch, PeerId};
use crate::limits::{self, Limits};
use crate::message::{
    Capabilities, ClientMessage, Directed, Enter, Envelope, IceServer, Kind, Member, Peer, Receipt,
    ResumeOffer, Role, ServerMessage, Signal, Undeliverable, Welcome,
};
use crate::rate::{Rate, TokenBucket};
use crate::replay::{Replay, Written};
use crate::unanswered::Unanswered;

/// Messages over the rate that are refused one by one before the socket is closed. A pause in which the bucket
/// fills up forgives them, so that a long life does not add up to a flood.
const RATE_STRIKES: u32 = 500;

/// What the driver has to do.
#[derive(Debug)]
pub enum Effect<'a> {
    /// Nothing.
    None,
    /// Write this to the client.
    Send(ServerMessage),
    /// Take (or look up) this session's place in the order of its space, then call [`Session::on_placed`].
    Place,
    /// Give up the place: the peer may no longer be listed.
    Unplace,
    /// This message may not be written to this client: tell its sender.
    Return(Signal),
    /// Bring this to `target`; what fails at once goes to [`Session::on_receipt`].
    Relay {
        /// For whom, as the client wrote it.
        target: Cow<'a, str>,
        /// The message.
        signal: Signal,
    },
    /// Bring this to all others in the space.
    Broadcast(Signal),
    /// The client enters, again or elsewhere.
    Enter(Enter<'a>),
    /// The client leaves the space. Its socket may stay.
    Leave,
    /// Fetch what a former session left, then call [`Session::on_resumed`], or tell the client that it is new.
    Resume {
        /// What the client shows.
        token: Cow<'a, str>,
        /// What it says it has.
        received: Option<u64>,
    },
    /// Answer with the facts that the node has of the mesh.
    Health,
    /// Send the payload of a `ping` back, with the time, which the core does not know.
    Pong {
        /// JSON text.
        payload: Bytes,
    },
    /// Send a WebSocket ping, with what its pong will acknowledge.
    Ping {
        /// The last number that was written before it.
        covers: u64,
    },
    /// Close the socket.
    Close(CloseCode),
}

/// What became of one input, for metrics and the log: exactly one per message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Done or answered.
    Accepted,
    /// Handed to the target's queue or to the bus.
    Relayed,
    /// Nothing to do, as the original protocol has it.
    Ignored,
    /// The claimed sender is not the authenticated one.
    Spoofed,
    /// Not registered yet.
    NotRegistered,
    /// Refused because of a right or the lease.
    Denied(Denial),
    /// Told or not told to the sender, by its capabilities.
    Refused(Undeliverable),
}

impl Outcome {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Relayed => "relayed",
            Self::Ignored => "ignored",
            Self::Spoofed => "spoofed",
            Self::NotRegistered => "not_registered",
            Self::Denied(Denial::NoLease) => "authorization_unavailable",
            Self::Denied(_) => "unauthorized",
            Self::Refused(reason) => reason.as_str(),
        }
    }
}

/// The answer of the state machine to one input.
#[derive(Debug)]
pub struct Step<'a> {
    /// What to do.
    pub effect: Effect<'a>,
    /// What to count.
    pub outcome: Outcome,
}

impl Step<'_> {
    fn quiet(outcome: Outcome) -> Self {
        Self { effect: Effect::None, outcome }
    }
}

/// What reaches a session from elsewhere: other peers, the directory, the authority feed.
#[derive(Debug)]
pub enum Mail {
    /// A message for this peer.
    Signal(Signal),
    /// What a former session had written and the client did not get, with its number.
    Again(u64, Written),
    /// This session had been given up for lost by other nodes and has a new place.
    Moved {
        /// The place.
        place: u64,
        /// Everyone else.
        members: Vec<Member>,
    },
    /// Another peer took its place.
    Joined(Member),
    /// Another peer gave up its place.
    Left {
        /// Who.
        peer: PeerId,
        /// When, in the order of places.
        at: u64,
    },
    /// Another peer lost its right.
    Revoked(PeerId),
    /// This peer's own standing changed.
    StandingChanged,
    /// What became of a message that this session sent.
    Receipt(Receipt),
    /// What became of a message that an older session sent. The driver turns it into a [`Self::Receipt`] if this one
    /// goes on for that, which may not be known yet, and drops it otherwise.
    FormerReceipt(Epoch, Receipt),
    /// New ICE servers.
    IceServers(Arc<Vec<IceServer>>),
    /// The node drains.
    GoAway {
        /// When the client should come back, in milliseconds.
        reconnect_after_ms: u64,
        /// When the socket closes at the latest, in milliseconds.
        deadline_ms: u64,
    },
}

/// What the driver hands a new session.
#[derive(Debug)]
pub struct Opening {
    /// The authenticated peer.
    pub peer: Arc<Peer>,
    /// Of two sessions of a peer the higher epoch is the live one.
    pub epoch: Epoch,
    /// When the socket opened.
    pub now: Instant,
    /// In `0.0..1.0`: this socket's share of the ping jitter.
    pub ping_phase: f32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connected,
    /// Registered, but not approved (or not any more).
    Waiting,
    /// Registered, approved and in its place.
    Placed(u64),
}

/// One session. Small: thousands of them idle in memory.
#[derive(Debug)]
pub struct Session {
    peer: Arc<Peer>,
    epoch: Epoch,
    phase: Phase,
    /// The latest place of anybody whom the client was shown in a list.
    shown: u64,
    /// `None`: a client of the original protocol.
    capabilities: Option<Capabilities>,
    bucket: TokenBucket,
    strikes: u32,
    opened: Instant,
    last_seen: Instant,
    /// When a ping went out that nothing answered yet.
    pinged: Option<Instant>,
    ping_after: Duration,
    replay: Replay,
    unanswered: Unanswered,
}

/// What a session takes over from the one that it resumes.
#[derive(Debug, Clone, Copy)]
pub struct Inheritance {
    /// What the client can do.
    pub capabilities: Capabilities,
    /// The place that it has.
    pub place: u64,
    /// The next number.
    pub next_seq: u64,
    /// Up to here senders have heard that it was written.
    pub confirmed: u64,
}

/// What the driver offers with a list.
#[derive(Debug, Default)]
pub struct Offers {
    /// ICE servers, for clients that asked for them.
    pub ice_servers: Option<Arc<Vec<IceServer>>>,
    /// How to resume, for clients that asked for it.
    pub resume: Option<ResumeOffer>,
}

/// What is left of a session that ended.
#[derive(Debug)]
pub struct Remains {
    /// What the client could do.
    pub capabilities: Capabilities,
    /// The place that it had, if it was listed.
    pub place: Option<u64>,
    /// What was written and not acknowledged.
    pub replay: Replay,
    /// What it sent and has no answer for.
    pub unanswered: Unanswered,
}

impl Session {
    /// A session that has just authenticated.
    pub fn new(opening: Opening, limits: &Limits) -> Self {
        let Opening { peer, epoch, now, ping_phase } = opening;
        Self {
            peer,
            epoch,
            phase: Phase::Connected,
            shown: 0,
            capabilities: None,
            bucket: TokenBucket::new(),
            strikes: 0,
            opened: now,
            last_seen: now,
            pinged: None,
            replay: Replay::default(),
            unanswered: Unanswered::default(),
            ping_after: limits.ping_interval.mul_f32(0.75 + ping_phase / 2.0),
        }
    }

    /// Whose session this is.
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// Its epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether the client asked for and got `capability`.
    pub fn has(&self, capability: Capabilities) -> bool {
        self.capabilities.is_some_and(|granted| granted.has(capability))
    }

    /// Whether the peer is listed to others.
    pub fn is_placed(&self) -> bool {
        matches!(self.phase, Phase::Placed(_))
    }

    /// The place in the order of registrations, if it is listed.
    pub fn place(&self) -> Option<u64> {
        if let Phase::Placed(place) = self.phase { Some(place) } else { None }
    }

    /// Whether the session may go on after its connection is lost.
    pub fn is_resumable(&self) -> bool {
        self.is_placed() && self.has(Capabilities::RESUME) && self.peer.right.is_approved()
    }

    /// Ends the session and answers what is left of it.
    pub fn into_remains(self) -> Remains {
        Remains {
            capabilities: self.capabilities.unwrap_or_default(),
            place: self.place(),
            replay: self.replay,
            unanswered: self.unanswered,
        }
    }

    /// A message from the client.
    pub fn on_client<'a>(
        &mut self,
        envelope: Envelope<'a>,
        authority: &Authority,
        limits: &Limits,
        now: Instant,
    ) -> Step<'a> {
        if !self.is_within_rate(limits, now) {
            return match &envelope.message {
                ClientMessage::Directed(directed) => self.over_rate(Some(directed)),
                _ => self.over_rate(None),
            };
        }
        if envelope.sender.is_some_and(|sender| *sender != *self.peer.id.as_str()) {
            return Step {
                effect: self.error("wrong_sender", "peer_id is not the identity of this connection"),
                outcome: Outcome::Spoofed,
            };
        }
        match envelope.message {
            ClientMessage::Resume { token, received } => self.resume(token, received),
            ClientMessage::Register(capabilities) => self.register(capabilities),
            ClientMessage::Directed(directed) => self.directed(directed, authority, limits, now),
            ClientMessage::Broadcast { kind, payload } => {
                self.broadcast(kind, payload, authority, limits, now)
            }
            ClientMessage::Enter(enter) => Step { effect: Effect::Enter(enter), outcome: Outcome::Accepted },
            ClientMessage::Leave => Step { effect: Effect::Leave, outcome: Outcome::Accepted },
            ClientMessage::Prove(_) => Step {
                effect: self.error("unexpected", "there was nothing to prove"),
                outcome: Outcome::Ignored,
            },
            ClientMessage::Ping { payload } => {
                Step { effect: Effect::Pong { payload }, outcome: Outcome::Accepted }
            }
            ClientMessage::MeshHealth => Step { effect: Effect::Health, outcome: Outcome::Accepted },
            ClientMessage::Heartbeat | ClientMessage::Authenticate { .. } => Step::quiet(Outcome::Accepted),
            ClientMessage::Unknown { kind } => Step {
                effect: self
                    .error("unknown_type", format!("unknown message type {kind:?} without a target_id")),
                outcome: Outcome::Ignored,
            },
        }
    }

    /// A frame that the codec could not read; `problem` names what was wrong with it.
    pub fn on_malformed(&mut self, problem: String, limits: &Limits, now: Instant) -> Step<'static> {
        if !self.is_within_rate(limits, now) {
            return self.over_rate(None);
        }
        Step { effect: self.error("malformed", problem), outcome: Outcome::Refused(Undeliverable::Malformed) }
    }

    fn is_within_rate(&mut self, limits: &Limits, now: Instant) -> bool {
        if self.bucket.is_full(now) {
            self.strikes = 0;
        }
        self.bucket.take(Rate::per_second(limits.max_messages_per_second, limits.message_burst), now)
    }

    fn over_rate(&mut self, directed: Option<&Directed<'_>>) -> Step<'static> {
        let outcome = Outcome::Refused(Undeliverable::RateLimited);
        self.strikes += 1;
        if self.strikes > RATE_STRIKES {
            return Step { effect: Effect::Close(CloseCode::RateLimited), outcome };
        }
        match directed {
            Some(directed) => self.refuse(directed, Undeliverable::RateLimited),
            None => Step::quiet(outcome),
        }
    }

    fn resume<'a>(&mut self, token: Cow<'a, str>, received: Option<u64>) -> Step<'a> {
        if self.phase != Phase::Connected {
            return Step {
                effect: self.error("resume_too_late", "resume comes first, before register"),
                outcome: Outcome::Ignored,
            };
        }
        Step { effect: Effect::Resume { token, received }, outcome: Outcome::Accepted }
    }

    /// The driver fetched what a former session left: this one goes on in its place.
    pub fn on_resumed(&mut self, inheritance: Inheritance) {
        self.capabilities = Some(inheritance.capabilities);
        self.phase = Phase::Placed(inheritance.place);
        self.replay = Replay::from(inheritance.next_seq, inheritance.confirmed);
    }

    /// A message left for another node and the sender wants to hear of it; after `give_up` nobody will answer any more.
    pub fn on_sent_away<'a>(&mut self, id: Box<str>, target: Box<str>, give_up: Instant) -> Effect<'a> {
        match self.unanswered.sent(id, target, give_up) {
            Some(evicted) => self.tell(evicted),
            None => Effect::None,
        }
    }

    /// The client entered a room, and so has said all that a `register` says. The driver takes its place next.
    pub fn on_entered(&mut self, capabilities: Capabilities) {
        self.capabilities = Some(capabilities);
        self.phase = Phase::Waiting;
    }

    fn register(&mut self, asked: Option<Capabilities>) -> Step<'static> {
        self.capabilities = asked.or(self.capabilities);
        if self.peer.right.is_approved() {
            return Step { effect: Effect::Place, outcome: Outcome::Accepted };
        }
        self.phase = Phase::Waiting;
        Step { effect: Effect::Send(self.list(vec![], 0, Offers::default())), outcome: Outcome::Accepted }
    }

    /// The driver took (or looked up) this session's place: `members` are those that it may be shown.
    ///
    /// On the first registration these hold only who came before, so that of any two peers exactly one gets the
    /// other in its first list (DESIGN G9); on a later one they hold everyone.
    pub fn on_placed(&mut self, place: u64, members: Vec<Member>, offers: Offers) -> ServerMessage {
        self.phase = Phase::Placed(place);
        self.shown = members.iter().map(|member| member.place).max().unwrap_or(0);
        self.list(members, place, offers)
    }

    fn list(&self, peers: Vec<Member>, place: u64, offers: Offers) -> ServerMessage {
        let welcome = self.capabilities.map(|granted| {
            Box::new(Welcome {
                granted,
                epoch: self.epoch,
                place,
                ice_servers: offers.ice_servers.filter(|_| granted.has(Capabilities::ICE)),
                resume: offers.resume.filter(|_| granted.has(Capabilities::RESUME)),
            })
        });
        ServerMessage::PeerList { peers, welcome }
    }

    fn directed<'a>(
        &mut self,
        directed: Directed<'a>,
        authority: &Authority,
        limits: &Limits,
        now: Instant,
    ) -> Step<'a> {
        if self.phase == Phase::Connected {
            return Step::quiet(Outcome::NotRegistered);
        }
        if self.capabilities.is_none() && matches!(directed.kind, Kind::Application(_)) {
            return Step::quiet(Outcome::Ignored); // the original logs and ignores what it does not know
        }
        if directed.target.is_none() {
            return self.refuse(&directed, Undeliverable::Malformed);
        }
        if directed.payload.len() > directed.kind.max_payload_bytes(limits.max_message_bytes) {
            return self.refuse(&directed, Undeliverable::TooLarge);
        }
        if self.peer.space.is_room() && self.is_told_that_it_is_alone(&directed) {
            return self.refuse(&directed, Undeliverable::Unavailable);
        }
        if let Err(denial) = authority.may_send(&self.peer.right, now) {
            let step = self.refuse(&directed, reason_of(denial));
            return Step { outcome: Outcome::Denied(denial), ..step };
        }
        let receipt = self.has(Capabilities::FEEDBACK) && directed.id.is_some();
        let target = directed.target.unwrap_or_default();
        let id = directed.id.map(|id| Box::from(&*id));
        let signal = Signal { id, receipt, ..self.signal(directed.kind, directed.payload, now) };
        Step { effect: Effect::Relay { target, signal }, outcome: Outcome::Relayed }
    }

    /// A message to all others in the room. What cannot be sent is told in general words, since it names no target.
    fn broadcast<'a>(
        &mut self,
        kind: Kind,
        payload: Bytes,
        authority: &Authority,
        limits: &Limits,
        now: Instant,
    ) -> Step<'a> {
        if !self.is_placed() || !self.peer.space.is_room() {
            return Step::quiet(Outcome::NotRegistered);
        }
        if payload.len() > kind.max_payload_bytes(limits.max_message_bytes) {
            return Step {
                effect: self.error("too_large", "the message is too large"),
                outcome: Outcome::Refused(Undeliverable::TooLarge),
            };
        }
        if let Err(denial) = authority.may_send(&self.peer.right, now) {
            return Step {
                effect: self.error("not_sent", "the message may not be sent now"),
                outcome: Outcome::Denied(denial),
            };
        }
        let signal = Signal { to_all: true, ..self.signal(kind, payload, now) };
        Step { effect: Effect::Broadcast(signal), outcome: Outcome::Relayed }
    }

    fn signal(&self, kind: Kind, payload: Bytes, now: Instant) -> Signal {
        Signal {
            from: Arc::clone(&self.peer),
            from_epoch: self.epoch,
            kind,
            id: None,
            payload,
            receipt: false,
            to_all: false,
            accepted_at: now,
            via_bus: false,
            trace: None,
        }
    }

    /// In rooms nobody means itself, and who asked for feedback is told.
    fn is_told_that_it_is_alone(&self, directed: &Directed<'_>) -> bool {
        self.has(Capabilities::FEEDBACK) && directed.target.as_deref() == Some(self.peer.id.as_str())
    }

    fn refuse<'a>(&mut self, directed: &Directed<'_>, reason: Undeliverable) -> Step<'a> {
        let receipt = Receipt {
            id: directed.id.as_deref().map(Box::from),
            target: Box::from(directed.target.as_deref().unwrap_or_default()),
            failure: Some(reason),
        };
        Step { effect: self.on_receipt(receipt), outcome: Outcome::Refused(reason) }
    }

    /// What became of a message of this session, told to clients that asked for feedback.
    pub fn on_receipt<'a>(&mut self, receipt: Receipt) -> Effect<'a> {
        self.unanswered.answered(&receipt);
        self.tell(receipt)
    }

    fn tell<'a>(&mut self, receipt: Receipt) -> Effect<'a> {
        if !self.has(Capabilities::FEEDBACK) {
            return Effect::None;
        }
        let seq = self.number(|| Written::Receipt(receipt.clone()));
        Effect::Send(ServerMessage::Receipt { receipt, seq })
    }

    /// Numbers what a client that may resume is about to be written.
    fn number(&mut self, written: impl FnOnce() -> Written) -> Option<u64> {
        (self.is_placed() && self.has(Capabilities::RESUME)).then(|| self.replay.push(written()))
    }

    fn error<'a>(&self, code: &'static str, message: impl Into<String>) -> Effect<'a> {
        if !self.has(Capabilities::FEEDBACK) {
            return Effect::None; // the original is silent
        }
        Effect::Send(ServerMessage::Error { code, message: message.into() })
    }

    /// Something from elsewhere, last before the socket write: the second check of every message is here.
    pub fn on_mail(&mut self, mail: Mail, authority: &Authority, now: Instant) -> Step<'static> {
        let effect = match mail {
            Mail::Signal(signal) => return self.deliver(signal, authority, now),
            Mail::Again(seq, written) => return self.again(seq, written, authority, now),
            Mail::Moved { place, members } if self.is_placed() && self.peer.right.is_approved() => {
                Effect::Send(self.on_placed(place, members, Offers::default()))
            }
            Mail::StandingChanged => {
                return Step { effect: self.standing_changed(), outcome: Outcome::Accepted };
            }
            Mail::Receipt(receipt) => self.on_receipt(receipt),
            // What happened before this session took its place is in its first list already (DESIGN G9).
            Mail::Joined(Member { place: at, .. }) | Mail::Left { at, .. } if self.is_later_than(at) => {
                Effect::None
            }
            // A session that goes on in a place that it has is shown everyone, also those who came after it.
            Mail::Joined(member) if member.place <= self.shown => Effect::None,
            Mail::Joined(member) => self.event(|session| ServerMessage::PeerJoined {
                role: session.role_towards(&member),
                peer: member.peer,
                profile: member.profile,
            }),
            Mail::Left { peer, .. } => self.event(|_| ServerMessage::PeerLeft { peer }),
            Mail::Revoked(peer) => self.event(|_| ServerMessage::PeerRevoked { peer }),
            // TURN servers do not hear of a revocation: whoever lost the right meanwhile gets no more credentials.
            Mail::IceServers(servers)
                if self.has(Capabilities::ICE)
                    && self.is_placed()
                    && authority.may_send(&self.peer.right, now).is_ok() =>
            {
                Effect::Send(ServerMessage::IceServers(servers))
            }
            Mail::GoAway { reconnect_after_ms, deadline_ms } if self.has(Capabilities::GOAWAY) => {
                Effect::Send(ServerMessage::GoAway { reconnect_after_ms, deadline_ms })
            }
            Mail::IceServers(_) | Mail::GoAway { .. } | Mail::Moved { .. } | Mail::FormerReceipt(..) => {
                Effect::None
            }
        };
        Step { effect, outcome: Outcome::Accepted }
    }

    fn deliver(&mut self, signal: Signal, authority: &Authority, now: Instant) -> Step<'static> {
        if !self.is_placed() {
            return Step {
                effect: Effect::Return(signal),
                outcome: Outcome::Refused(Undeliverable::Unavailable),
            };
        }
        match authority.may_relay(&signal.from.right, &self.peer.right, now) {
            Ok(()) => {
                let seq = self.number(|| Written::Signal(signal.clone()));
                Step {
                    effect: Effect::Send(ServerMessage::Signal { signal, seq }),
                    outcome: Outcome::Relayed,
                }
            }
            Err(denial) => Step { effect: Effect::Return(signal), outcome: Outcome::Denied(denial) },
        }
    }

    /// Writes again what a former session wrote, after a new check: its sender has heard that it arrived.
    fn again(&mut self, seq: u64, written: Written, authority: &Authority, now: Instant) -> Step<'static> {
        if let Written::Signal(signal) = &written
            && let Err(denial) = authority.may_relay(&signal.from.right, &self.peer.right, now)
        {
            return Step::quiet(Outcome::Denied(denial));
        }
        self.replay.keep(seq, written.clone());
        let message = match written {
            Written::Signal(signal) => ServerMessage::Signal { signal, seq: Some(seq) },
            Written::Receipt(receipt) => ServerMessage::Receipt { receipt, seq: Some(seq) },
        };
        Step { effect: Effect::Send(message), outcome: Outcome::Relayed }
    }

    /// Events are for those who may see others.
    fn event(&self, message: impl FnOnce(&Self) -> ServerMessage) -> Effect<'static> {
        if self.has(Capabilities::EVENTS) && self.is_placed() {
            Effect::Send(message(self))
        } else {
            Effect::None
        }
    }

    fn is_later_than(&self, place: u64) -> bool {
        matches!(self.phase, Phase::Placed(mine) if place < mine)
    }

    fn role_towards(&self, other: &Member) -> Option<Role> {
        match self.phase {
            Phase::Placed(mine) if self.has(Capabilities::ROLES) => Some(Role::of(mine, other.place)),
            _ => None,
        }
    }

    fn standing_changed(&mut self) -> Effect<'static> {
        match (self.peer.right.standing(), self.phase) {
            // The list that follows tells old clients; `approved` those that know it (the driver sends both).
            (Standing::Approved, Phase::Waiting) => Effect::Place,
            (Standing::Revoked | Standing::Rejected, Phase::Placed(_) | Phase::Waiting) => {
                self.phase = Phase::Waiting;
                Effect::Unplace
            }
            // A place that a former session took is listed until this client says whether it goes on for that one.
            (Standing::Revoked | Standing::Rejected, Phase::Connected) => Effect::Unplace,
            _ => Effect::None,
        }
    }

    /// What a client that lost its right is told, after its place was given up.
    pub fn farewell(&self) -> Option<ServerMessage> {
        self.has(Capabilities::EVENTS).then(|| ServerMessage::PeerRevoked { peer: self.peer.id.clone() })
    }

    /// What a client that waited for approval is told before its list.
    pub fn greeting(&self) -> Option<ServerMessage> {
        (self.phase == Phase::Waiting && self.has(Capabilities::EVENTS)).then_some(ServerMessage::Approved)
    }

    /// The client gave a sign of life.
    pub fn on_activity(&mut self, now: Instant) {
        self.last_seen = now;
        self.pinged = None;
    }

    /// Everything that was handed out for writing so far has been written.
    pub fn on_written(&mut self) {
        self.replay.confirm();
    }

    /// The client answered a ping that said `covers`: it has everything up to there.
    pub fn on_pong(&mut self, covers: u64) {
        self.replay.acknowledge(covers);
    }

    /// A ping, if so much was written that the client should show that it has it.
    pub fn ask_for_sign<'a>(&mut self, now: Instant) -> Effect<'a> {
        if self.replay.is_filling() && self.pinged.is_none() { self.ping(now) } else { Effect::None }
    }

    fn ping<'a>(&mut self, now: Instant) -> Effect<'a> {
        self.pinged = Some(now);
        Effect::Ping { covers: self.replay.last() }
    }

    /// The next message of which nobody answered in time.
    pub fn overdue(&mut self, now: Instant) -> Option<Effect<'static>> {
        let expired = self.unanswered.overdue(now)?;
        Some(self.tell(expired))
    }

    /// A deadline may have passed.
    pub fn on_tick(&mut self, limits: &Limits, now: Instant) -> Effect<'static> {
        if self.phase == Phase::Connected && now >= self.opened + limits.register_deadline {
            return Effect::Close(CloseCode::Deadline);
        }
        // From the ping and not from the silence: a node that stood still itself must not close everybody.
        if self.pinged.is_some_and(|pinged| now >= pinged + limits.pong_deadline) {
            return Effect::Close(CloseCode::Deadline);
        }
        if self.pinged.is_none() && now >= self.last_seen + self.ping_after {
            return self.ping(now);
        }
        Effect::None
    }

    /// When [`Self::on_tick`] has something to do, if nothing else happens before.
    pub fn next_deadline(&self, limits: &Limits) -> Instant {
        let alive = match self.pinged {
            Some(pinged) => pinged + limits.pong_deadline,
            None => self.last_seen + self.ping_after,
        };
        let alive = self.unanswered.next_deadline().map_or(alive, |deadline| alive.min(deadline));
        match self.phase {
            Phase::Connected => alive.min(self.opened + limits.register_deadline),
            Phase::Waiting | Phase::Placed(_) => alive,
        }
    }
}

/// What a sender is told about a denial: never whether the target exists.
pub fn reason_of(denial: Denial) -> Undeliverable {
    match denial {
        Denial::NoLease => Undeliverable::AuthorizationUnavailable,
        Denial::Sender(_) | Denial::Target(_) => Undeliverable::Unavailable,
    }
}

const _: () = assert!(limits::MAX_MESSAGE_ID_BYTES <= 64, "the interface promises 64");

#[cfg(test)]
mod tests;
