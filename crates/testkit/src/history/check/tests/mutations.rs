//! Damage to good histories: the checker accepts every history that a faultless service could have, and notices what
//! is changed in one. What it must notice is decided here by other means than its own: by what was changed, and by
//! whether the peers concerned had quiet lives, of which everything can be known.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::super::super::event::{End, Event, History, Peer, Verdict, What};
use super::script::Script;
use super::{broken, quick};

const PEERS: [&str; 4] = ["a", "b", "c", "d"];

/// A service without faults, and clients that come and go.
#[derive(Default)]
struct World {
    script: Script,
    sockets: BTreeMap<&'static str, u32>,
    epoch: u64,
    ids: u64,
    seqs: BTreeMap<&'static str, u64>,
    /// On their way: sender, id.
    queues: BTreeMap<&'static str, VecDeque<(&'static str, String)>>,
    /// Whose connections broke at least once.
    restless: BTreeSet<&'static str>,
}

impl World {
    fn run(steps: &[(u8, usize, usize)]) -> (History, BTreeSet<&'static str>) {
        let mut world = Self::default();
        for peer in PEERS {
            world.join(peer, 0);
        }
        for &(kind, one, other) in steps {
            world.step(kind, PEERS[one % PEERS.len()], PEERS[other % PEERS.len()]);
        }
        for peer in PEERS {
            world.arrive(peer, usize::MAX);
        }
        world.script.wait(60);
        (world.script.end(), world.restless)
    }

    fn step(&mut self, kind: u8, one: &'static str, other: &'static str) {
        match kind % 16 {
            0..8 => self.send(one, other),
            8..13 => self.arrive(one, 1 + other.len()),
            13 => self.refuse(one, other),
            14 => self.come_back(one),
            _ => self.begin_anew(one),
        }
    }

    fn join(&mut self, peer: &'static str, socket: u32) {
        self.epoch += 1;
        self.sockets.insert(peer, socket);
        self.seqs.insert(peer, 0);
        let others: Vec<_> = PEERS.into_iter().filter(|other| *other != peer).collect();
        self.script.join(peer, socket, self.epoch, &others);
    }

    fn id(&mut self) -> String {
        self.ids += 1;
        self.ids.to_string()
    }

    fn send(&mut self, from: &'static str, to: &'static str) {
        let id = self.id();
        self.script.send(from, &id, to);
        self.queues.entry(to).or_default().push_back((from, id));
    }

    fn refuse(&mut self, from: &'static str, to: &'static str) {
        let id = self.id();
        self.script.send(from, &id, to);
        self.script.told(from, &id, "unavailable");
    }

    /// Some of what is on its way to `peer` arrives.
    fn arrive(&mut self, peer: &'static str, count: usize) {
        let waiting = self.queues.entry(peer).or_default();
        let some: Vec<_> = waiting.drain(..count.min(waiting.len())).collect();
        for (from, id) in some {
            let seq = self.seqs.entry(peer).or_default();
            *seq += 1;
            self.script.numbered(peer, from, &id, *seq);
            self.script.told(from, &id, "delivered");
        }
    }

    /// The connection breaks and the session is resumed; one message is lost on the way, and the client is told.
    fn come_back(&mut self, peer: &'static str) {
        let socket = self.next_socket(peer);
        let lost = self.queues.get_mut(peer).and_then(VecDeque::pop_front);
        if let Some((from, id)) = &lost {
            *self.seqs.entry(peer).or_default() += 1;
            self.script.told(from, id, "delivered");
        }
        self.epoch += 1;
        self.sockets.insert(peer, socket);
        self.script.resume(peer, socket, self.epoch, 0, u64::from(lost.is_some()));
    }

    /// The connection breaks and nobody resumes the session; what was written to it is gone.
    fn begin_anew(&mut self, peer: &'static str) {
        if let Some((from, id)) = self.queues.get_mut(peer).and_then(VecDeque::pop_front) {
            self.script.told(from, &id, "delivered");
        }
        let socket = self.next_socket(peer);
        self.join(peer, socket);
    }

    fn next_socket(&mut self, peer: &'static str) -> u32 {
        self.restless.insert(peer);
        let socket = self.sockets[peer];
        self.script.end_socket(peer, socket, End::Reset);
        socket + 1
    }
}

/// What is changed in a history.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Drop,
    Double,
    Swap,
    Retarget,
    Forge,
    Corrupt,
    Reword,
}

/// A history and what may be known of it without the checker.
struct Case<'a> {
    events: &'a [Event],
    restless: &'a BTreeSet<&'static str>,
}

impl Case<'_> {
    fn is_quiet(&self, peer: &Peer) -> bool {
        !self.restless.contains(&**peer)
    }

    fn target(&self, id: &str) -> Option<&Peer> {
        self.events.iter().find_map(|event| match &event.what {
            What::Sent { id: sent, to, .. } if **sent == *id => Some(to),
            _ => None,
        })
    }

    fn says_of(&self, id: &str) -> usize {
        let about = |event: &&Event| match &event.what {
            What::Received { id: other, .. } | What::Told { id: other, .. } => **other == *id,
            _ => false,
        };
        self.events.iter().filter(about).count()
    }

    fn arrived(&self, id: &str) -> bool {
        self.events
            .iter()
            .any(|event| matches!(&event.what, What::Received { id: other, .. } if **other == *id))
    }

    /// Whether the checker has to notice the damage to the event at `at`; `None` if it cannot be done there.
    fn must_be_noticed(&self, damage: Damage, at: usize) -> Option<bool> {
        let event = &self.events[at];
        match (damage, &event.what) {
            (Damage::Drop, What::Sent { id, .. }) => Some(self.says_of(id) > 0),
            // The last word to a sender that was always there; in this world every message has one word only.
            (Damage::Drop, What::Told { id, .. }) => {
                let quiet = self.is_quiet(&event.peer) && self.target(id).is_some_and(|to| self.is_quiet(to));
                Some(quiet)
            }
            (Damage::Drop, What::Received { .. }) => Some(self.is_quiet(&event.peer)),
            (Damage::Double, What::Sent { .. } | What::Received { .. } | What::Told { .. })
            | (Damage::Retarget | Damage::Forge | Damage::Corrupt, What::Received { .. }) => Some(true),
            (Damage::Swap, What::Received { from, .. }) => {
                // Of two quiet peers all messages are of one session each.
                let quiet = self.is_quiet(from) && self.is_quiet(&event.peer);
                self.next_from_same(at).map(|_| quiet)
            }
            (Damage::Reword, What::Told { id, verdict, .. }) => {
                let to = self.target(id)?;
                Some(self.is_quiet(to) && (*verdict == Verdict::Delivered) == self.arrived(id))
            }
            _ => None,
        }
    }

    /// The next message from the same sender to the same target.
    fn next_from_same(&self, at: usize) -> Option<usize> {
        let Event { peer, what: What::Received { from, .. }, .. } = &self.events[at] else { return None };
        let same = |event: &Event| {
            event.peer == *peer && matches!(&event.what, What::Received { from: other, .. } if other == from)
        };
        (at + 1..self.events.len()).find(|&next| same(&self.events[next]))
    }

    fn damaged(&self, damage: Damage, at: usize) -> History {
        let mut events = self.events.to_vec();
        let other = |peer: &Peer| Peer::from(if **peer == *"a" { "b" } else { "a" });
        match damage {
            Damage::Drop => drop(events.remove(at)),
            Damage::Double => events.insert(at, events[at].clone()),
            Damage::Swap => {
                let next = self.next_from_same(at).unwrap_or(at);
                let what = std::mem::replace(&mut events[at].what, self.events[next].what.clone());
                events[next].what = what;
            }
            Damage::Retarget => events[at].peer = other(&events[at].peer),
            Damage::Forge | Damage::Corrupt | Damage::Reword => change(&mut events[at].what, damage, other),
        }
        History(events)
    }
}

fn change(what: &mut What, damage: Damage, other: impl Fn(&Peer) -> Peer) {
    match (damage, what) {
        (Damage::Forge, What::Received { from, .. }) => *from = other(from),
        (_, What::Received { hash, .. }) => *hash += 1,
        (_, What::Told { verdict, .. }) => {
            *verdict = match verdict {
                Verdict::Delivered => Verdict::Undeliverable("unavailable".into()),
                Verdict::Undeliverable(_) => Verdict::Delivered,
            };
        }
        _ => {}
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        Just(Damage::Drop),
        Just(Damage::Double),
        Just(Damage::Swap),
        Just(Damage::Retarget),
        Just(Damage::Forge),
        Just(Damage::Corrupt),
        Just(Damage::Reword),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
    prop::collection::vec((any::<u8>(), 0..PEERS.len(), 0..PEERS.len()), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_a_faultless_service_does_is_accepted(steps in steps()) {
        let (history, _) = World::run(&steps);
        prop_assert_eq!(broken(&history, &quick()), []);
    }

    #[test]
    fn damage_is_noticed(steps in steps(), damage in damage(), at in any::<prop::sample::Index>()) {
        let (history, restless) = World::run(&steps);
        let case = Case { events: &history.0, restless: &restless };
        let possible: Vec<_> = (0..history.0.len())
            .filter_map(|at| case.must_be_noticed(damage, at).map(|must| (at, must)))
            .collect();
        prop_assume!(!possible.is_empty());
        let (at, must) = possible[at.index(possible.len())];
        let found = broken(&case.damaged(damage, at), &quick());
        prop_assert!(!must || !found.is_empty(), "{:?} of {} was not noticed", damage, history.0[at]);
    }
}

#[test]
fn much_of_the_damage_must_be_noticed() {
    // The property above would be empty if hardly anything had to be noticed.
    let steps: Vec<_> =
        (0..200_usize).map(|n| (u8::try_from(n % 14).unwrap_or(0), n % 4, (n / 4 + 1) % 4)).collect();
    let (history, restless) = World::run(&steps);
    let case = Case { events: &history.0, restless: &restless };
    for damage in
        [Damage::Drop, Damage::Double, Damage::Swap, Damage::Retarget, Damage::Forge, Damage::Reword]
    {
        let must = |&at: &usize| case.must_be_noticed(damage, at) == Some(true);
        let places: Vec<_> = (0..history.0.len()).filter(must).collect();
        assert!(places.len() > 20, "{damage:?}: {}", places.len());
        let missed = places.iter().find(|&&at| broken(&case.damaged(damage, at), &quick()).is_empty());
        assert_eq!(missed.map(|&at| history.0[at].to_string()), None, "{damage:?}");
    }
}
