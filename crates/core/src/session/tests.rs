use std::borrow::Cow;

use bytes::Bytes;

use super::*;
use crate::authority::{Authority, Denial, Right, Standing};
use crate::id::{MeshName, PeerId, Version};
use crate::limits;
use crate::message::{
    ClientMessage, Directed, Envelope, Kind, Member, Receipt, ResumeOffer, Role, Signal, Undeliverable,
};
use crate::replay::Written;

mod bounds;
mod capabilities;
mod resuming;
mod rules;
mod stages;
mod standing;

const TERM: Duration = Duration::from_hours(1);
const ME: &str = "me";
const MY_PLACE: u64 = 10;

/// A session in a world of its own.
struct World {
    session: Session,
    peer: Arc<Peer>,
    other: Arc<Peer>,
    authority: Authority,
    limits: Limits,
    now: Instant,
    changes: u64,
}

/// How far a session has come, and what client it belongs to.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Approved, and has not registered yet: nobody knows what client it is.
    Connected,
    /// Registered, not approved.
    Waiting(Client),
    /// Registered and approved.
    Placed(Client),
}

/// `None`: of the original protocol.
type Client = Option<Capabilities>;

const OLD: Client = None;
const NEW: Client = Some(Capabilities::OFFERED);

/// The columns of the tables below.
const STAGES: [Stage; 5] =
    [Stage::Connected, Stage::Waiting(OLD), Stage::Waiting(NEW), Stage::Placed(OLD), Stage::Placed(NEW)];

fn peer(name: &str) -> Arc<Peer> {
    Arc::new(Peer::new(MeshName::default_mesh(), PeerId::parse(name).unwrap()))
}

impl World {
    fn new(limits: Limits) -> Self {
        let now = Instant::now();
        let authority = Authority::new(now);
        authority.renewed(now, TERM);
        let (peer, other) = (peer(ME), peer("other"));
        let opening = Opening { peer: Arc::clone(&peer), epoch: Epoch(7), now, ping_phase: 0.5 };
        let session = Session::new(opening, &limits);
        let mut world = Self { session, peer, other, authority, limits, now, changes: 0 };
        let other = Arc::clone(&world.other);
        world.set(&other.right, Standing::Approved);
        world
    }

    fn at(stage: Stage) -> Self {
        Self::with(stage, Limits::default())
    }

    fn with(stage: Stage, limits: Limits) -> Self {
        let mut world = Self::new(limits);
        match stage {
            Stage::Connected => world.stands(Standing::Approved),
            Stage::Waiting(client) => {
                world.stands(Standing::Pending);
                world.says(ClientMessage::Register(client));
            }
            Stage::Placed(client) => {
                world.stands(Standing::Approved);
                world.says(ClientMessage::Register(client));
                world.place(vec![]);
            }
        }
        world
    }

    fn set(&mut self, right: &Right, standing: Standing) {
        self.changes += 1;
        right.apply(Version(self.changes), standing);
    }

    fn stands(&mut self, standing: Standing) {
        let peer = Arc::clone(&self.peer);
        self.set(&peer.right, standing);
    }

    /// The session's own standing changes, and it hears of it.
    fn becomes(&mut self, standing: Standing) -> String {
        self.stands(standing);
        self.hears(Mail::StandingChanged)
    }

    fn place(&mut self, members: Vec<Member>) -> ServerMessage {
        self.session.on_placed(MY_PLACE, members, offers())
    }

    fn says(&mut self, message: ClientMessage<'_>) -> String {
        self.says_as(ME, message)
    }

    fn says_as(&mut self, sender: &str, message: ClientMessage<'_>) -> String {
        self.says_in(Envelope { sender: Some(Cow::Borrowed(sender)), message })
    }

    fn says_in(&mut self, envelope: Envelope<'_>) -> String {
        shown(&self.session.on_client(envelope, &self.authority, &self.limits, self.now))
    }

    fn hears(&mut self, mail: Mail) -> String {
        shown(&self.session.on_mail(mail, &self.authority, self.now))
    }

    fn ticks(&mut self) -> String {
        effect_shown(&self.session.on_tick(&self.limits, self.now))
    }

    fn lose_lease(&mut self) {
        self.now += TERM;
    }

    fn signal(&self) -> Signal {
        Signal {
            from: Arc::clone(&self.other),
            from_epoch: Epoch(3),
            kind: Kind::Offer,
            id: None,
            payload: Bytes::from_static(b"{}"),
            receipt: false,
            to_all: false,
            accepted_at: self.now,
            via_bus: false,
            trace: None,
        }
    }
}

/// Everything that a driver may offer with a list.
fn offers() -> Offers {
    let resume = ResumeOffer { token: "resume-token".into(), window_ms: 60_000 };
    Offers { ice_servers: Some(Arc::new(vec![])), resume: Some(resume) }
}

/// `effect: outcome`, both in a word or two.
fn shown(step: &Step<'_>) -> String {
    format!("{}: {}", effect_shown(&step.effect), step.outcome.as_str())
}

fn effect_shown(effect: &Effect<'_>) -> String {
    match effect {
        Effect::None => "nothing".to_owned(),
        Effect::Send(message) => message_shown(message),
        Effect::Place => "place".to_owned(),
        Effect::Unplace => "unplace".to_owned(),
        Effect::Return(signal) => format!("return to {}", signal.from.id),
        Effect::Relay { target, .. } => format!("relay to {target}"),
        Effect::Broadcast(_) => "broadcast".to_owned(),
        Effect::Enter(_) => "enter".to_owned(),
        Effect::Leave => "leave".to_owned(),
        Effect::Health => "health".to_owned(),
        Effect::Pong { payload } => format!("pong {}", String::from_utf8_lossy(payload)),
        Effect::Ping { .. } => "ping".to_owned(),
        Effect::Resume { .. } => "resume".to_owned(),
        Effect::Close(code) => format!("close {}", code.code()),
    }
}

fn message_shown(message: &ServerMessage) -> String {
    match message {
        ServerMessage::PeerList { peers, welcome: None } => format!("list of {}", peers.len()),
        ServerMessage::PeerList { peers, welcome: Some(_) } => format!("list of {} and welcome", peers.len()),
        ServerMessage::Signal { signal, .. } => format!("signal from {}", signal.from.id),
        ServerMessage::Resumed(_) => "resumed".to_owned(),
        ServerMessage::PeerJoined { peer, role: None, .. } => format!("joined {peer}"),
        ServerMessage::PeerJoined { peer, role: Some(role), .. } => {
            format!("joined {peer}, {}", role.as_str())
        }
        ServerMessage::Challenge { .. } => "challenge".to_owned(),
        ServerMessage::PeerLeft { peer } => format!("left {peer}"),
        ServerMessage::PeerRevoked { peer } => format!("revoked {peer}"),
        ServerMessage::Approved => "approved".to_owned(),
        ServerMessage::Receipt { receipt, .. } => match receipt.failure {
            None => "delivered".to_owned(),
            Some(reason) => format!("undeliverable {}", reason.as_str()),
        },
        ServerMessage::IceServers(_) => "ice_servers".to_owned(),
        ServerMessage::Pong { .. } => "pong".to_owned(),
        ServerMessage::MeshHealth(_) => "mesh_health".to_owned(),
        ServerMessage::GoAway { .. } => "goaway".to_owned(),
        ServerMessage::Error { code, .. } => format!("error {code}"),
    }
}

fn directed(kind: Kind) -> ClientMessage<'static> {
    to(Some("other"), kind, b"{}")
}

fn to(target: Option<&'static str>, kind: Kind, payload: &'static [u8]) -> ClientMessage<'static> {
    let target = target.map(Cow::Borrowed);
    let payload = Bytes::from_static(payload);
    ClientMessage::Directed(Directed { kind, target, id: Some(Cow::Borrowed("7")), payload })
}

fn application() -> Kind {
    Kind::Application("chat".into())
}

fn unknown() -> ClientMessage<'static> {
    ClientMessage::Unknown { kind: Cow::Borrowed("foobar") }
}

fn ping() -> ClientMessage<'static> {
    ClientMessage::Ping { payload: Bytes::from_static(b"1") }
}

fn member(name: &str, place: u64) -> Member {
    Member::new(PeerId::parse(name).unwrap(), place)
}

/// What comes of `input` at each of [`STAGES`].
fn check(name: &str, input: impl Fn(&mut World) -> String, expect: [&str; 5]) {
    let results = STAGES.map(|stage| input(&mut World::at(stage)));
    assert_eq!(results, expect, "{name}, at {STAGES:?}");
}

fn check_message(message: impl Fn() -> ClientMessage<'static>, expect: [&str; 5]) {
    check(&format!("{:?}", message()), |world| world.says(message()), expect);
}
