//! Two negotiations in a world that loses and delays what they say, and in which paths break and programs start over: however
//! it went, when the world is calm again they are connected, with one channel.

use std::collections::VecDeque;

use heliograph_client::Unknown;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// One step of time.
const STEP: Duration = Duration::from_millis(50);
/// How long the world is wild.
const WILD: Duration = Duration::from_mins(1);
/// How long it is calm then, at most.
const CALM: Duration = Duration::from_secs(400);
/// How often each side gets a list while it is calm.
const LIST: Duration = Duration::from_mins(1);
/// How long ICE looks for a way, or does without one.
const FAILS_AFTER: Duration = Duration::from_secs(3);

/// Which connection, and which ICE credentials of it.
type Identity = (u32, u32);

/// A connection of the simulated library.
#[derive(Debug)]
struct Connection {
    me: Identity,
    remote: Option<Identity>,
    mine: Option<Kind>,
    channels: usize,
    state: State,
    since: Duration,
}

/// One side.
struct Side {
    machine: Negotiation,
    connection: Option<Connection>,
    timers: Vec<(Timer, Duration)>,
    /// For it, in order, each from some time on.
    inbox: VecDeque<(Duration, Input)>,
    /// What became of what it sent.
    outcomes: Vec<(Duration, Input)>,
}

impl Side {
    fn new(me: &str, other: &str) -> Self {
        let id = |text: &str| PeerId::parse(text).unwrap();
        let machine = Negotiation::new(&id(me), &id(other));
        Self { machine, connection: None, timers: vec![], inbox: VecDeque::new(), outcomes: vec![] }
    }
}

struct World {
    sides: [Side; 2],
    now: Duration,
    rng: StdRng,
    /// Descriptions and candidates that are lost, in a hundred.
    loss: u32,
    path_is_broken: bool,
    names: u32,
}

fn text((session, fragment): Identity) -> Sdp {
    Sdp(format!("o=- {session} 1 IN IP4 0.0.0.0\na=ice-ufrag:{fragment}\n"))
}

fn identity(sdp: &Sdp) -> Identity {
    let number = |prefix: &str| {
        let line = sdp.0.lines().find_map(|line| line.strip_prefix(prefix)).unwrap();
        line.split(' ').next().unwrap().parse().unwrap()
    };
    (number("o=- "), number("a=ice-ufrag:"))
}

impl World {
    fn new(seed: u64) -> Self {
        let sides = [Side::new("a", "b"), Side::new("b", "a")];
        let mut world = Self {
            sides,
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(seed),
            loss: 0,
            path_is_broken: false,
            names: 0,
        };
        world.loss = world.rng.random_range(0..60);
        // What the service says, nothing, or what it says at different times.
        let roles = [None, Some(Role::Polite), Some(Role::Impolite)];
        let at_a = roles[world.rng.random_range(0..3)];
        let agreed = match at_a {
            Some(Role::Polite) => Some(Role::Impolite),
            Some(Role::Impolite) => Some(Role::Polite),
            None => None,
        };
        let at_b = if world.rng.random_bool(0.7) { agreed } else { roles[world.rng.random_range(0..3)] };
        for (side, role) in [(0, at_a), (1, at_b)] {
            world.tell(side, Input::Role(role));
            world.tell(side, Input::Present(true));
        }
        world
    }

    fn name(&mut self) -> u32 {
        self.names += 1;
        self.names
    }

    fn delay(&mut self) -> Duration {
        self.now + Duration::from_millis(self.rng.random_range(1..1_500))
    }

    fn tell(&mut self, side: usize, input: Input) {
        for action in self.sides[side].machine.on(input) {
            self.perform(side, action);
        }
    }

    fn perform(&mut self, side: usize, action: Action) {
        match action {
            Action::Open => {
                let me = (self.name(), self.name());
                self.sides[side].connection = Some(Connection {
                    me,
                    remote: None,
                    mine: None,
                    channels: 0,
                    state: State::New,
                    since: self.now,
                });
            }
            Action::Shut(_) => self.sides[side].connection = None,
            Action::Start(timer, wait) => {
                let at = self.now + self.rng.random_range(wait.least..=wait.most);
                self.sides[side].timers.retain(|(other, _)| *other != timer);
                self.sides[side].timers.push((timer, at));
            }
            Action::Stop(timer) => self.sides[side].timers.retain(|(other, _)| *other != timer),
            Action::Send { description } => self.send(side, description),
            step => self.step(side, step),
        }
    }

    fn step(&mut self, side: usize, step: Action) {
        let (name, now) = (self.name(), self.now);
        let connection = self.sides[side].connection.as_mut().expect("there is a connection to do it on");
        let mut looks = false;
        match step {
            Action::CreateChannel => connection.channels += 1,
            Action::Offer { restart } => {
                connection.mine = Some(Kind::Offer);
                if restart {
                    connection.me.1 = name;
                    looks = true;
                }
            }
            Action::Answer => connection.mine = Some(Kind::Answer),
            Action::TakeOffer(sdp) => {
                let remote = identity(&sdp);
                // Other credentials restart this side, too.
                if connection.remote.is_some_and(|known| known.1 != remote.1) {
                    connection.me.1 = name;
                }
                looks = connection.remote != Some(remote);
                connection.remote = Some(remote);
            }
            Action::TakeAnswer(sdp) => {
                connection.remote = Some(identity(&sdp));
                looks = true;
            }
            _ => {}
        }
        if looks {
            (connection.state, connection.since) = (State::Connecting, now);
        }
    }

    fn send(&mut self, side: usize, description: u64) {
        let Some(Connection { me: from, mine: Some(kind), .. }) = &self.sides[side].connection else {
            panic!("there is nothing to send");
        };
        let signal =
            if *kind == Kind::Offer { Input::Offer(text(*from)) } else { Input::Answer(text(*from)) };
        let lost = self.rng.random_range(0..100) < self.loss;
        let at = self.delay();
        if !lost {
            // In order: nothing overtakes what was sent before.
            let after = self.sides[1 - side].inbox.back().map_or(at, |(before, _)| at.max(*before));
            self.sides[1 - side].inbox.push_back((after, signal));
        }
        // Of what is lost, there may be word; of what is not, too.
        let outcome = match self.rng.random_range(0..6) {
            0 if lost => Outcome::Undeliverable(Reason::Unavailable),
            1 if lost => Outcome::Undeliverable(Reason::QueueFull),
            2 if lost => Outcome::Undeliverable(Reason::Offline),
            3 if self.loss > 0 => Outcome::Undeliverable(Reason::Expired),
            4 if self.loss > 0 => Outcome::Unknown(Unknown::Timeout),
            _ => Outcome::Delivered,
        };
        self.sides[side].outcomes.push((at, Input::Sent { description, outcome }));
    }

    /// Whether packets pass between the two connections that there are.
    fn there_is_a_way(&self) -> bool {
        let [a, b] = self.sides.each_ref().map(|side| side.connection.as_ref());
        let (Some(a), Some(b)) = (a, b) else { return false };
        !self.path_is_broken && a.remote == Some(b.me) && b.remote == Some(a.me)
    }

    fn advance(&mut self) {
        self.now += STEP;
        for side in [0, 1] {
            while self.sides[side].inbox.front().is_some_and(|(at, _)| *at <= self.now) {
                if let Some((_, input)) = self.sides[side].inbox.pop_front() {
                    self.tell(side, input);
                }
            }
            let now = self.now;
            let due: Vec<_> = self.sides[side].outcomes.extract_if(.., |(at, _)| *at <= now).collect();
            for (_, input) in due {
                self.tell(side, input);
            }
            let due: Vec<_> = self.sides[side].timers.extract_if(.., |(_, at)| *at <= now).collect();
            for (timer, _) in due {
                self.tell(side, Input::Elapsed(timer));
            }
        }
        let way = self.there_is_a_way();
        for side in [0, 1] {
            self.look(side, way);
        }
    }

    /// The state of a connection follows from whether there is a way.
    fn look(&mut self, side: usize, way: bool) {
        let now = self.now;
        let Some(connection) = &mut self.sides[side].connection else { return };
        let next = match connection.state {
            State::Connecting | State::Disconnected if way => State::Connected,
            State::Connected if !way => State::Disconnected,
            State::Connecting | State::Disconnected if now >= connection.since + FAILS_AFTER => State::Failed,
            _ => return,
        };
        (connection.state, connection.since) = (next, now);
        self.tell(side, Input::State(next));
    }

    /// Something that happens to peers.
    fn mishap(&mut self) {
        let side = self.rng.random_range(0..2);
        match self.rng.random_range(0..10) {
            0 => {
                // The program starts over: nothing of it is left, and it is the newcomer.
                let (me, other) = if side == 0 { ("a", "b") } else { ("b", "a") };
                let role = self.sides[side].machine.role;
                self.sides[side] = Side::new(me, other);
                self.tell(side, Input::Role(role));
                self.tell(side, Input::Connect);
            }
            1 => self.path_is_broken = !self.path_is_broken,
            2 => {
                let present = self.rng.random_bool(0.5);
                self.tell(side, Input::Present(present));
            }
            3 => self.tell(side, Input::SignalsMayBeLost),
            4 => self.tell(side, Input::SignalingBack),
            5 if self.sides[side].connection.is_some() => self.tell(side, Input::ChannelClosed),
            6 => self.tell(side, Input::Close(Ended::Closed)),
            _ => self.tell(side, Input::Connect),
        }
    }

    fn is_connected(&self) -> bool {
        let states =
            self.sides.iter().map(|side| side.connection.as_ref().map(|connection| connection.state));
        self.there_is_a_way() && states.into_iter().all(|state| state == Some(State::Connected))
    }

    fn is_quiet(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.inbox.is_empty() && side.timers.is_empty() && side.outcomes.is_empty())
    }

    fn live(&mut self) {
        while self.now < WILD {
            if self.rng.random_bool(0.03) {
                self.mishap();
            }
            self.advance();
        }
        (self.loss, self.path_is_broken) = (0, false);
        let mut list = self.now;
        while !(self.is_connected() && self.is_quiet()) && self.now < WILD + CALM {
            if self.now >= list {
                list += LIST;
                for side in [0, 1] {
                    self.tell(side, Input::Present(true));
                    self.tell(side, Input::SignalingBack);
                    self.tell(side, Input::Connect);
                }
            }
            self.advance();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_two_peers_find_together_again_with_one_channel(seed in any::<u64>()) {
        let mut world = World::new(seed);
        world.live();
        let connections: Vec<_> = world.sides.iter().map(|side| &side.connection).collect();
        prop_assert!(world.is_connected(), "{connections:?}");
        prop_assert!(world.is_quiet());
        let channels: usize = world.sides.iter().flat_map(|side| &side.connection).map(|one| one.channels).sum();
        prop_assert_eq!(channels, 1, "{:?}", connections);
    }
}
