use proptest::prelude::*;

use super::*;
use crate::authority::Right;
use crate::id::{MeshName, Version};

mod bounds;
mod resuming;
mod rules;

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

#[test]
fn every_message_at_every_stage() {
    let refused = "undeliverable unavailable: unauthorized";
    let forgotten = "undeliverable malformed: malformed";
    check_message(
        || ClientMessage::Register(None),
        [
            "place: accepted",
            "list of 0: accepted",
            "list of 0 and welcome: accepted",
            "place: accepted",
            "place: accepted",
        ],
    );
    check_message(
        || ClientMessage::Register(NEW),
        [
            "place: accepted",
            "list of 0 and welcome: accepted",
            "list of 0 and welcome: accepted",
            "place: accepted",
            "place: accepted",
        ],
    );
    for kind in [Kind::Offer, Kind::Answer, Kind::Candidate] {
        check_message(
            || directed(kind.clone()),
            [
                "nothing: not_registered",
                "nothing: unauthorized",
                refused,
                "relay to other: relayed",
                "relay to other: relayed",
            ],
        );
        check_message(
            || to(None, kind.clone(), b"{}"),
            ["nothing: not_registered", "nothing: malformed", forgotten, "nothing: malformed", forgotten],
        );
    }
    check_message(
        || directed(application()),
        [
            "nothing: not_registered",
            "nothing: ignored",
            refused,
            "nothing: ignored",
            "relay to other: relayed",
        ],
    );
    let unknown_type = "error unknown_type: ignored";
    check_message(
        unknown,
        ["nothing: ignored", "nothing: ignored", unknown_type, "nothing: ignored", unknown_type],
    );
    check_message(ping, ["pong 1: accepted"; 5]);
    check_message(|| ClientMessage::MeshHealth, ["health: accepted"; 5]);
    check_message(|| ClientMessage::Heartbeat, ["nothing: accepted"; 5]);
}

#[test]
fn nobody_speaks_for_another() {
    for message in
        [ClientMessage::Register(NEW), directed(Kind::Offer), ping(), unknown(), ClientMessage::Heartbeat]
    {
        let told = "error wrong_sender: spoofed";
        check(
            "spoofed",
            |world| world.says_as("other", message.clone()),
            ["nothing: spoofed", "nothing: spoofed", told, "nothing: spoofed", told],
        );
    }
    let mut world = World::at(Stage::Placed(NEW));
    for almost in ["", "Me", "me ", "mee", "registry"] {
        assert_eq!(world.says_as(almost, directed(Kind::Offer)), "error wrong_sender: spoofed", "{almost:?}");
    }
}

/// The message names no sender, which was taken for a spoofed one.
#[test]
fn proving_an_identity_again_is_no_spoof() {
    let message = || ClientMessage::Authenticate { token: Cow::Borrowed("a.b.c") };
    check(
        "authenticate",
        |world| world.says_in(Envelope { sender: None, message: message() }),
        ["nothing: accepted"; 5],
    );
}

#[test]
fn unreadable_frames_are_explained_to_those_who_asked() {
    let told = "error malformed: malformed";
    check(
        "malformed",
        |world| shown(&world.session.on_malformed("not JSON".to_owned(), &world.limits, world.now)),
        ["nothing: malformed", "nothing: malformed", told, "nothing: malformed", told],
    );
}

#[test]
fn every_mail_at_every_stage() {
    let nothing = "nothing: accepted";
    let only_placed_new = |what| [nothing, nothing, nothing, nothing, what];
    let other = || PeerId::parse("other").unwrap();
    check(
        "signal",
        |world| world.hears(Mail::Signal(world.signal())),
        [
            "return to other: unavailable",
            "return to other: unavailable",
            "return to other: unavailable",
            "signal from other: relayed",
            "signal from other: relayed",
        ],
    );
    check(
        "joined later",
        |world| world.hears(Mail::Joined(member("other", MY_PLACE + 1))),
        only_placed_new("joined other, impolite: accepted"),
    );
    check("joined earlier", |world| world.hears(Mail::Joined(member("other", MY_PLACE - 1))), [nothing; 5]);
    let left = |at| Mail::Left { peer: PeerId::parse("other").unwrap(), at };
    check("left", |world| world.hears(left(MY_PLACE + 1)), only_placed_new("left other: accepted"));
    check("left before the list", |world| world.hears(left(MY_PLACE - 1)), [nothing; 5]);
    check("revoked", |world| world.hears(Mail::Revoked(other())), only_placed_new("revoked other: accepted"));
    check("no change", |world| world.hears(Mail::StandingChanged), [nothing; 5]);
    let receipt = |failure| Mail::Receipt(Receipt { id: None, target: "other".into(), failure });
    check(
        "delivered",
        |world| world.hears(receipt(None)),
        [nothing, nothing, "delivered: accepted", nothing, "delivered: accepted"],
    );
    let offline = "undeliverable unavailable: accepted";
    check(
        "undeliverable",
        |world| world.hears(receipt(Some(Undeliverable::Unavailable))),
        [nothing, nothing, offline, nothing, offline],
    );
    check(
        "ICE servers",
        |world| world.hears(Mail::IceServers(Arc::new(vec![]))),
        only_placed_new("ice_servers: accepted"),
    );
    check(
        "goaway",
        |world| world.hears(Mail::GoAway { reconnect_after_ms: 1, deadline_ms: 2 }),
        [nothing, nothing, "goaway: accepted", nothing, "goaway: accepted"],
    );
}

/// Each capability brings what it stands for and nothing else.
#[test]
fn a_client_gets_what_it_asked_for_and_no_more() {
    let inputs = |world: &mut World| {
        vec![
            world.hears(Mail::Joined(member("other", MY_PLACE + 1))),
            world.hears(Mail::Left { peer: PeerId::parse("other").unwrap(), at: MY_PLACE + 1 }),
            world.says(to(None, Kind::Offer, b"{}")),
            world.says(unknown()),
            world.hears(Mail::IceServers(Arc::new(vec![]))),
            world.hears(Mail::GoAway { reconnect_after_ms: 1, deadline_ms: 2 }),
        ]
        .into_iter()
        .filter(|shown| !shown.starts_with("nothing"))
        .collect::<Vec<_>>()
    };
    let check = |asked: Capabilities, expect: &[&str]| {
        assert_eq!(inputs(&mut World::at(Stage::Placed(Some(asked)))), expect, "{asked:?}");
    };
    check(Capabilities::NONE, &[]);
    check(Capabilities::EVENTS, &["joined other: accepted", "left other: accepted"]);
    check(Capabilities::FEEDBACK, &["undeliverable malformed: malformed", "error unknown_type: ignored"]);
    check(Capabilities::ROLES, &[]);
    check(
        Capabilities::ROLES.with(Capabilities::EVENTS),
        &["joined other, impolite: accepted", "left other: accepted"],
    );
    check(Capabilities::ICE, &["ice_servers: accepted"]);
    check(Capabilities::GOAWAY, &["goaway: accepted"]);
}

#[test]
fn ice_servers_come_with_the_list_where_asked() {
    let servers = |client| match World::at(Stage::Placed(client)).place(vec![]) {
        ServerMessage::PeerList { welcome, .. } => {
            welcome.is_some_and(|welcome| welcome.ice_servers.is_some())
        }
        other => panic!("{other:?}"),
    };
    assert!(servers(Some(Capabilities::ICE)));
    assert!(!servers(Some(Capabilities::ROLES)));
    assert!(!servers(OLD));
}

#[test]
fn extending_clients_need_no_capability_to_relay_their_own_types() {
    let mut world = World::at(Stage::Placed(Some(Capabilities::NONE)));
    assert_eq!(world.says(directed(application())), "relay to other: relayed");
}

#[test]
fn a_second_register_keeps_or_replaces_what_the_client_is() {
    let check = |first, second, expect| {
        let mut world = World::at(Stage::Placed(first));
        assert_eq!(world.says(ClientMessage::Register(second)), "place: accepted");
        assert_eq!(
            message_shown(&world.place(vec![member("other", 1)])),
            expect,
            "{first:?}, then {second:?}"
        );
        assert!(world.session.is_placed());
    };
    check(OLD, OLD, "list of 1");
    check(OLD, NEW, "list of 1 and welcome");
    check(NEW, OLD, "list of 1 and welcome");
    check(NEW, Some(Capabilities::NONE), "list of 1 and welcome");
}

#[test]
fn who_is_not_approved_is_shown_nobody() {
    for standing in [Standing::Unknown, Standing::Pending, Standing::Rejected, Standing::Revoked] {
        for (client, expect) in [(OLD, "list of 0: accepted"), (NEW, "list of 0 and welcome: accepted")] {
            let mut world = World::new(Limits::default());
            world.stands(standing);
            assert_eq!(world.says(ClientMessage::Register(client)), expect, "{standing:?}");
            assert!(!world.session.is_placed());
        }
    }
}

#[test]
fn a_relayed_message_carries_the_authenticated_sender() {
    let mut world = World::at(Stage::Placed(NEW));
    let envelope = Envelope { sender: Some(Cow::Borrowed(ME)), message: directed(Kind::Offer) };
    let step = world.session.on_client(envelope, &world.authority, &world.limits, world.now);
    let Effect::Relay { target, signal } = step.effect else { panic!("{step:?}") };
    assert_eq!((&*target, &*signal.payload, signal.id.as_deref()), ("other", &b"{}"[..], Some("7")));
    assert!(Arc::ptr_eq(&signal.from, &world.peer));
    assert_eq!((signal.from_epoch, signal.accepted_at, signal.via_bus), (Epoch(7), world.now, false));
}

#[test]
fn a_receipt_is_asked_for_by_feedback_and_an_id() {
    let check = |client, id: Option<&'static str>, expect| {
        let mut world = World::at(Stage::Placed(client));
        let Directed { kind, target, payload, .. } = match directed(Kind::Offer) {
            ClientMessage::Directed(directed) => directed,
            other => panic!("{other:?}"),
        };
        let message = ClientMessage::Directed(Directed { kind, target, id: id.map(Cow::Borrowed), payload });
        let envelope = Envelope { sender: Some(Cow::Borrowed(ME)), message };
        match world.session.on_client(envelope, &world.authority, &world.limits, world.now).effect {
            Effect::Relay { signal, .. } => assert_eq!(signal.receipt, expect, "{client:?}, {id:?}"),
            other => panic!("{other:?}"),
        }
    };
    check(NEW, Some("7"), true);
    check(NEW, None, false);
    check(Some(Capabilities::EVENTS), Some("7"), false);
    check(OLD, Some("7"), false);
}

#[test]
fn without_a_lease_nothing_is_relayed_and_the_sender_may_try_again() {
    let mut world = World::at(Stage::Placed(NEW));
    world.lose_lease();
    let refused = "undeliverable authorization_unavailable: authorization_unavailable";
    assert_eq!(world.says(directed(Kind::Offer)), refused);
    assert_eq!(world.hears(Mail::Signal(world.signal())), "return to other: authorization_unavailable");
    assert_eq!(world.says(ClientMessage::MeshHealth), "health: accepted");
    world.authority.renewed(world.now, TERM);
    assert_eq!(world.says(directed(Kind::Offer)), "relay to other: relayed");
    assert_eq!(world.hears(Mail::Signal(world.signal())), "signal from other: relayed");
}

#[test]
fn a_sender_learns_nothing_of_standings() {
    for standing in [Standing::Unknown, Standing::Pending, Standing::Rejected, Standing::Revoked] {
        assert_eq!(reason_of(Denial::Sender(standing)), Undeliverable::Unavailable);
        assert_eq!(reason_of(Denial::Target(standing)), Undeliverable::Unavailable);
    }
    assert_eq!(reason_of(Denial::NoLease), Undeliverable::AuthorizationUnavailable);
}

#[test]
fn a_revoked_peer_is_mute_before_it_hears_of_it() {
    let mut world = World::at(Stage::Placed(NEW));
    world.stands(Standing::Revoked);
    assert_eq!(world.says(directed(Kind::Offer)), "undeliverable unavailable: unauthorized");
    assert_eq!(world.hears(Mail::Signal(world.signal())), "return to other: unauthorized");
}

#[test]
fn what_is_queued_is_checked_again_before_it_is_written() {
    for standing in [Standing::Revoked, Standing::Rejected, Standing::Pending] {
        let mut world = World::at(Stage::Placed(NEW));
        let queued = Mail::Signal(world.signal());
        let other = Arc::clone(&world.other);
        world.set(&other.right, standing);
        assert_eq!(world.hears(queued), "return to other: unauthorized", "{standing:?}");
    }
}

#[test]
fn a_waiting_peer_that_is_approved_takes_its_place_and_is_greeted() {
    for (client, greeted, list) in
        [(OLD, None, "list of 1"), (NEW, Some("approved"), "list of 1 and welcome")]
    {
        let mut world = World::at(Stage::Waiting(client));
        assert_eq!(world.becomes(Standing::Approved), "place: accepted");
        assert_eq!(world.session.greeting().as_ref().map(message_shown).as_deref(), greeted);
        assert_eq!(message_shown(&world.place(vec![member("other", 1)])), list);
        assert!(world.session.greeting().is_none(), "greeted once");
        assert_eq!(world.says(directed(Kind::Offer)), "relay to other: relayed");
    }
}

#[test]
fn an_approval_before_the_register_is_found_there() {
    let mut world = World::new(Limits::default());
    assert_eq!(world.becomes(Standing::Pending), "nothing: accepted");
    assert_eq!(world.becomes(Standing::Approved), "nothing: accepted");
    assert_eq!(world.says(ClientMessage::Register(NEW)), "place: accepted");
    assert!(world.session.greeting().is_none(), "it did not wait");
}

#[test]
fn a_revoked_peer_gives_up_its_place_and_is_told() {
    for (client, farewell) in [(OLD, None), (NEW, Some("revoked me"))] {
        let mut world = World::at(Stage::Placed(client));
        assert_eq!(world.becomes(Standing::Revoked), "unplace: accepted");
        assert!(!world.session.is_placed());
        assert_eq!(world.session.farewell().as_ref().map(message_shown).as_deref(), farewell);
        assert_eq!(world.hears(Mail::Joined(member("new", 99))), "nothing: accepted");
        assert!(world.says(ClientMessage::Register(client)).starts_with("list of 0"));
    }
}

#[test]
fn a_peer_that_waits_in_vain_is_told() {
    for standing in [Standing::Rejected, Standing::Revoked] {
        assert_eq!(World::at(Stage::Waiting(NEW)).becomes(standing), "unplace: accepted");
        // A former session's place may be its own until it registers: once it stayed listed for good.
        assert_eq!(World::at(Stage::Connected).becomes(standing), "unplace: accepted");
    }
}

#[test]
fn a_register_between_revocation_and_its_news_does_not_keep_the_place() {
    let mut world = World::at(Stage::Placed(NEW));
    world.stands(Standing::Revoked);
    assert_eq!(world.says(ClientMessage::Register(NEW)), "list of 0 and welcome: accepted");
    assert_eq!(world.hears(Mail::StandingChanged), "unplace: accepted");
}

proptest! {
    /// Whichever way two sessions learn of each other, one yields and one insists.
    #[test]
    fn both_sides_of_a_pair_agree_on_their_roles(places in any::<(u64, u64)>()) {
        prop_assume!(places.0 != places.1);
        let (earlier, later) = (places.0.min(places.1), places.0.max(places.1));
        let mut first = World::at(Stage::Placed(NEW));
        first.session.on_placed(earlier, vec![], Offers::default());
        prop_assert_eq!(first.hears(Mail::Joined(member("later", later))), "joined later, impolite: accepted");
        let mut second = World::at(Stage::Placed(NEW));
        let list = second.session.on_placed(later, vec![member("earlier", earlier)], Offers::default());
        let ServerMessage::PeerList { peers, welcome: Some(welcome) } = list else { panic!("{list:?}") };
        prop_assert_eq!(Role::of(welcome.place, peers[0].place), Role::Polite);
        prop_assert_eq!(second.hears(Mail::Joined(member("earlier", earlier))), "nothing: accepted");
    }
}
