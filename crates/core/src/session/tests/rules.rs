//! What must hold after any sequence of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::*;

/// One thing that happens to a session.
#[derive(Debug, Clone, Copy)]
enum Event {
    Register(Client),
    /// The client shows a token; what it left may be found, and then numbers go on here.
    Resume(Option<u64>),
    Directed {
        kind: usize,
        target: Option<&'static str>,
        bytes: usize,
    },
    Other(usize),
    Spoofed,
    Malformed,
    Mail(usize),
    /// A former session's writing, so many numbers before its last.
    Again(u64),
    SentAway(Duration),
    Written,
    Pong,
    Standing {
        mine: bool,
        standing: Standing,
        told: bool,
    },
    Lease(Duration),
    Pass(Duration),
    Activity,
}

fn event() -> impl Strategy<Value = Event> {
    use Standing::{Approved, Pending, Rejected, Revoked, Unknown};
    let standing = prop_oneof![4 => Just(Approved), 1 => prop::sample::select(vec![Unknown, Pending, Rejected, Revoked])];
    let client = (0u8..128).prop_map(|bits| {
        let all = [
            Capabilities::EVENTS,
            Capabilities::FEEDBACK,
            Capabilities::ROLES,
            Capabilities::ICE,
            Capabilities::GOAWAY,
            Capabilities::RESUME,
        ];
        let granted = all.into_iter().enumerate().filter(|(i, _)| bits & (1 << i) != 0);
        (bits < 64).then(|| granted.fold(Capabilities::NONE, |sum, (_, one)| sum.with(one)))
    });
    let target = prop::sample::select(vec![Some("other"), Some(ME), Some(""), None]);
    let directed = (0usize..4, target, prop::sample::select(vec![2usize, 4096, 4097, 70_000]))
        .prop_map(|(kind, target, bytes)| Event::Directed { kind, target, bytes });
    prop_oneof![
        2 => client.prop_map(Event::Register),
        1 => prop::option::of(1u64..1_000).prop_map(Event::Resume),
        1 => (0u64..10).prop_map(Event::Again),
        2 => (0u64..20_000).prop_map(|ms| Event::SentAway(Duration::from_millis(ms))),
        1 => prop::sample::select(vec![Event::Written, Event::Pong]),
        6 => directed,
        2 => (0usize..5).prop_map(Event::Other),
        1 => Just(Event::Spoofed),
        1 => Just(Event::Malformed),
        6 => (0usize..8).prop_map(Event::Mail),
        3 => (any::<bool>(), standing, any::<bool>())
            .prop_map(|(mine, standing, told)| Event::Standing { mine, standing, told }),
        2 => (0u64..60).prop_map(|seconds| Event::Lease(Duration::from_secs(seconds))),
        3 => (0u64..20_000).prop_map(|ms| Event::Pass(Duration::from_millis(ms))),
        2 => Just(Event::Activity),
    ]
}

fn some_limits() -> impl Strategy<Value = Limits> {
    let rate = prop::sample::select(vec![0u32, 1, 200, u32::MAX]);
    let time =
        prop::sample::select(vec![Duration::ZERO, Duration::from_secs(10), Duration::from_hours(366 * 24)]);
    (rate.clone(), rate, time.clone(), time.clone(), time).prop_map(|(rate, burst, register, ping, pong)| {
        Limits {
            max_messages_per_second: rate,
            message_burst: burst,
            register_deadline: register,
            ping_interval: ping,
            pong_deadline: pong,
            ..Limits::default()
        }
    })
}

/// What must hold whatever happened before.
struct Rules {
    world: World,
    leased_until: Instant,
    registered: bool,
    client: Client,
    /// The last number that was given.
    last: u64,
    seen: BTreeSet<String>,
}

impl Rules {
    fn new(limits: Limits) -> Self {
        let mut world = World::new(limits);
        world.authority = Authority::new(world.now);
        Self {
            leased_until: world.now,
            registered: false,
            client: OLD,
            last: 0,
            seen: BTreeSet::new(),
            world,
        }
    }

    /// Lets `event` happen, and carries the effect out as a driver would.
    fn happens(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Register(client) => return self.registers(client),
            Event::Resume(next_seq) => return self.resumes(next_seq),
            Event::Directed { kind, target, bytes } => {
                let kind = [Kind::Offer, Kind::Answer, Kind::Candidate, application()][kind].clone();
                let payload = Bytes::from(vec![b' '; bytes]);
                let target = target.map(Cow::Borrowed);
                return self
                    .client_says(ME, ClientMessage::Directed(Directed { kind, target, id: None, payload }));
            }
            Event::Other(which) => {
                let token = Cow::Borrowed("");
                let others = [
                    ping(),
                    unknown(),
                    ClientMessage::MeshHealth,
                    ClientMessage::Heartbeat,
                    ClientMessage::Authenticate { token },
                ];
                return self.client_says(ME, others[which].clone());
            }
            Event::Spoofed => return self.client_says("other", directed(Kind::Offer)),
            Event::Malformed => {
                let World { session, limits, now, .. } = &mut self.world;
                let step = session.on_malformed("broken".to_owned(), limits, *now);
                return self.obeys(&step.effect);
            }
            Event::Mail(which) => return self.hears(self.mail(which)),
            Event::Again(back) => return self.hears_again(back),
            Event::SentAway(patience) => return self.sends_away(patience),
            Event::Written => self.world.session.on_written(),
            Event::Pong => self.world.session.on_pong(self.last),
            Event::Standing { mine, standing, told } => {
                let peer = Arc::clone(if mine { &self.world.peer } else { &self.world.other });
                self.world.set(&peer.right, standing);
                return if mine && told { self.hears(Mail::StandingChanged) } else { Ok(()) };
            }
            Event::Lease(term) => {
                self.world.authority.renewed(self.world.now, term);
                self.leased_until = self.leased_until.max(self.world.now + term);
            }
            Event::Pass(time) => return self.time_passes(time),
            Event::Activity => self.world.session.on_activity(self.world.now),
        }
        Ok(())
    }

    fn registers(&mut self, client: Client) -> Result<(), TestCaseError> {
        let envelope = Envelope { sender: Some(Cow::Borrowed(ME)), message: ClientMessage::Register(client) };
        let World { session, authority, limits, now, .. } = &mut self.world;
        let step = session.on_client(envelope, authority, limits, *now);
        if step.outcome == Outcome::Accepted {
            self.registered = true;
            self.client = client.or(self.client);
        }
        self.obeys(&step.effect)
    }

    /// As a driver does it: what is left is found or not, and is nobody's who lost the right.
    fn resumes(&mut self, next_seq: Option<u64>) -> Result<(), TestCaseError> {
        let envelope = Envelope {
            sender: Some(Cow::Borrowed(ME)),
            message: ClientMessage::Resume { token: Cow::Borrowed("t"), received: None },
        };
        let World { session, authority, limits, now, .. } = &mut self.world;
        let step = session.on_client(envelope, authority, limits, *now);
        let asked = matches!(step.effect, Effect::Resume { .. });
        prop_assert!(!(asked && self.registered), "resumed after the register");
        self.obeys(&step.effect)?;
        let (true, true, Some(next_seq)) = (asked, self.world.peer.right.is_approved(), next_seq) else {
            return Ok(());
        };
        let capabilities = Capabilities::OFFERED;
        self.world.session.on_resumed(Inheritance {
            capabilities,
            place: MY_PLACE,
            next_seq,
            confirmed: next_seq - 1,
        });
        (self.registered, self.client, self.last) = (true, Some(capabilities), next_seq - 1);
        Ok(())
    }

    fn hears_again(&mut self, back: u64) -> Result<(), TestCaseError> {
        if !self.world.session.is_placed() || back >= self.last {
            return Ok(()); // no driver has such mail
        }
        let seq = self.last - back;
        let mail = Mail::Again(seq, Written::Signal(self.world.signal()));
        let step = self.world.session.on_mail(mail, &self.world.authority, self.world.now);
        if let Effect::Send(message) = &step.effect {
            prop_assert_eq!(number(message), Some(seq));
            self.may_be_sent(message)?;
        }
        Ok(())
    }

    fn sends_away(&mut self, patience: Duration) -> Result<(), TestCaseError> {
        let give_up = self.world.now + patience;
        let effect = self.world.session.on_sent_away("7".into(), "other".into(), give_up);
        self.obeys(&effect)
    }

    fn client_says(&mut self, sender: &'static str, message: ClientMessage<'_>) -> Result<(), TestCaseError> {
        let envelope = Envelope { sender: Some(Cow::Borrowed(sender)), message };
        let World { session, authority, limits, now, .. } = &mut self.world;
        let step = session.on_client(envelope, authority, limits, *now);
        prop_assert!(sender == ME || !matches!(step.effect, Effect::Relay { .. }), "spoofed and relayed");
        self.obeys(&step.effect)
    }

    fn mail(&self, which: usize) -> Mail {
        let other = self.world.other.id.clone();
        match which {
            0 | 1 => Mail::Signal(self.world.signal()),
            2 => Mail::Joined(Member::new(other, MY_PLACE + 1)),
            3 => Mail::Left { peer: other, at: MY_PLACE + 1 },
            4 => Mail::Revoked(other),
            5 => Mail::IceServers(Arc::new(vec![])),
            6 => Mail::Moved { place: MY_PLACE, members: vec![] },
            _ => Mail::GoAway { reconnect_after_ms: 1, deadline_ms: 2 },
        }
    }

    fn hears(&mut self, mail: Mail) -> Result<(), TestCaseError> {
        let step = self.world.session.on_mail(mail, &self.world.authority, self.world.now);
        self.obeys(&step.effect)
    }

    fn time_passes(&mut self, time: Duration) -> Result<(), TestCaseError> {
        self.world.now += time;
        let World { session, limits, now, .. } = &mut self.world;
        let due = session.next_deadline(limits) <= *now;
        let mut effects: Vec<_> = std::iter::from_fn(|| session.overdue(*now)).collect();
        let tick = session.on_tick(limits, *now);
        let found = !effects.is_empty() || !matches!(tick, Effect::None);
        prop_assert_eq!(due, found, "a look is needed when it was announced");
        prop_assert!(
            session.next_deadline(limits) > *now || matches!(tick, Effect::Close(_) | Effect::Ping { .. }),
            "looked twice"
        );
        effects.push(tick);
        effects.iter().try_for_each(|effect| self.obeys(effect))
    }

    fn obeys(&mut self, effect: &Effect<'_>) -> Result<(), TestCaseError> {
        self.saw(&effect_shown(effect));
        match effect {
            Effect::Relay { signal, .. } => {
                prop_assert!(
                    self.registered && self.may(&self.world.peer),
                    "relayed for {:?}",
                    self.world.peer
                );
                prop_assert!(Arc::ptr_eq(&signal.from, &self.world.peer));
                prop_assert!(self.client.is_some() || !matches!(signal.kind, Kind::Application(_)));
            }
            Effect::Send(message) => {
                self.is_next(message)?;
                self.may_be_sent(message)?;
            }
            Effect::Place => {
                prop_assert!(self.world.peer.right.is_approved(), "placed without a right");
                if let Some(greeting) = self.world.session.greeting() {
                    self.may_be_sent(&greeting)?;
                }
                let list = self.world.place(vec![member("other", 1)]);
                self.may_be_sent(&list)?;
            }
            Effect::Unplace => {
                prop_assert!(!self.world.session.is_placed() && !self.world.peer.right.is_approved());
                if let Some(farewell) = self.world.session.farewell() {
                    self.may_be_sent(&farewell)?;
                }
            }
            Effect::Broadcast(_) | Effect::Enter(_) | Effect::Leave => prop_assert!(false, "not in a mesh"),
            Effect::None
            | Effect::Return(_)
            | Effect::Health
            | Effect::Pong { .. }
            | Effect::Ping { .. }
            | Effect::Resume { .. }
            | Effect::Close(_) => {}
        }
        Ok(())
    }

    /// Numbers have no gap, and only who may resume gets them.
    fn is_next(&mut self, message: &ServerMessage) -> Result<(), TestCaseError> {
        let Some(seq) = number(message) else { return Ok(()) };
        self.last += 1;
        prop_assert_eq!(seq, self.last);
        prop_assert!(self.world.session.is_placed() && self.world.session.has(Capabilities::RESUME));
        Ok(())
    }

    fn saw(&mut self, shown: &str) {
        self.seen.extend(shown.split(' ').next().map(str::to_owned));
    }

    fn may_be_sent(&mut self, message: &ServerMessage) -> Result<(), TestCaseError> {
        self.saw(&message_shown(message));
        let known_to_the_original = match message {
            ServerMessage::Signal { signal, .. } => {
                prop_assert!(self.may(&signal.from) && self.may(&self.world.peer) && self.registered);
                true
            }
            ServerMessage::PeerList { peers, welcome } => {
                prop_assert!(peers.is_empty() || self.world.peer.right.is_approved(), "shown to a stranger");
                welcome.is_none()
            }
            _ => false,
        };
        prop_assert!(known_to_the_original || self.client.is_some(), "an old client got {message:?}");
        Ok(())
    }

    fn may(&self, peer: &Peer) -> bool {
        peer.right.is_approved() && self.world.now < self.leased_until
    }
}

fn number(message: &ServerMessage) -> Option<u64> {
    match message {
        ServerMessage::Signal { seq, .. } | ServerMessage::Receipt { seq, .. } => *seq,
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_sequence_of_events_breaks_the_rules(limits in some_limits(), events in prop::collection::vec(event(), 1..80)) {
        let mut rules = Rules::new(limits);
        for event in events {
            rules.happens(event)?;
        }
    }
}

/// Guards the property above against going blind: its events reach every effect that there is.
#[test]
fn random_events_reach_every_effect() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..500 {
        let mut rules = Rules::new(Limits::default());
        for event in prop::collection::vec(event(), 80).new_tree(&mut runner).unwrap().current() {
            rules.happens(event).unwrap();
        }
        for effect in rules.seen {
            *seen.entry(effect).or_insert(0) += 1;
        }
    }
    let expect = [
        "approved",
        "close",
        "error",
        "goaway",
        "health",
        "ice_servers",
        "joined",
        "left",
        "list",
        "nothing",
        "ping",
        "place",
        "pong",
        "relay",
        "resume",
        "return",
        "revoked",
        "signal",
        "undeliverable",
        "unplace",
    ];
    assert_eq!(seen.keys().collect::<Vec<_>>(), expect.iter().collect::<Vec<_>>());
    assert!(seen.values().all(|&worlds| worlds > 5), "{seen:?}");
}
