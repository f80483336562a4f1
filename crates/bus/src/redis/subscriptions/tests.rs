use std::collections::{HashSet, VecDeque};

use heliograph_core::id::{MeshName, PeerId};
use proptest::prelude::*;

use super::*;
use crate::redis::keys::Prefix;
use crate::redis::resp::parse;

fn destination(number: u8) -> Destination {
    Destination::Peer(MeshName::default_mesh().into(), PeerId::parse(&format!("p{number}")).unwrap())
}

/// One subscriber's connection to a Redis that takes commands in order, and confirms them in order, some time later.
struct World {
    subscriptions: Subscriptions,
    generation: Generation,
    one_slot: bool,
    commands: VecDeque<(Vec<u8>, bool)>,
    confirmations: VecDeque<(Vec<u8>, bool)>,
    subscribed: HashSet<Vec<u8>>,
}

fn at(channel: &[u8]) -> Partition {
    Partition::of_name(&Prefix::default(), channel).unwrap()
}

fn channel(number: u8) -> Vec<u8> {
    Prefix::default().channel(&destination(number))
}

impl World {
    fn new(one_slot: bool) -> Self {
        Self {
            subscriptions: Subscriptions::new(),
            generation: Generation(1),
            one_slot,
            commands: VecDeque::new(),
            confirmations: VecDeque::new(),
            subscribed: HashSet::new(),
        }
    }

    fn want(&self, number: u8) -> Option<oneshot::Receiver<bool>> {
        let channel = channel(number);
        self.subscriptions.want(at(&channel), &channel, &destination(number)).0
    }

    fn unwant(&self, number: u8) -> Option<oneshot::Receiver<bool>> {
        let channel = channel(number);
        self.subscriptions.unwant(at(&channel), &channel)
    }

    /// Writes what is to be said; answers how many commands that took.
    fn write(&mut self) -> usize {
        let all: Vec<_> = Partition::all().collect();
        let mut wire = vec![];
        self.subscriptions.write_commands(&all, self.generation, (true, self.one_slot), &mut wire);
        let (mut rest, mut written) = (&wire[..], 0);
        while let Some((command, length)) = parse(rest).unwrap() {
            let words: Vec<_> = command.elements().iter().map(|word| word.text().unwrap().to_vec()).collect();
            let channels = &words[1..];
            let partitions: HashSet<_> = channels.iter().map(|channel| at(channel)).collect();
            assert!(channels.len() <= MAX_CHANNELS && (!self.one_slot || partitions.len() == 1));
            let subscribe = words[0] == b"SSUBSCRIBE";
            self.commands.extend(channels.iter().map(|channel| (channel.clone(), subscribe)));
            rest = &rest[length..];
            written += 1;
        }
        written
    }

    /// Redis takes the oldest command.
    fn serve(&mut self) {
        if let Some((channel, subscribe)) = self.commands.pop_front() {
            if subscribe {
                self.subscribed.insert(channel.clone());
            } else {
                self.subscribed.remove(&channel);
            }
            self.confirmations.push_back((channel, subscribe));
        }
    }

    fn confirm(&mut self) {
        if let Some((channel, subscribe)) = self.confirmations.pop_front() {
            self.subscriptions.confirm(at(&channel), &channel, subscribe, self.generation);
        }
    }

    /// The connection is lost, and another one opened.
    fn reconnect(&mut self) {
        self.subscriptions.forget(self.generation);
        self.generation.0 += 1;
        self.commands.clear();
        self.confirmations.clear();
        self.subscribed.clear();
        Partition::all().for_each(|partition| self.subscriptions.restart(partition, self.generation));
    }

    fn finish(&mut self) {
        let all: Vec<_> = Partition::all().collect();
        while self.subscriptions.is_pending(&all)
            || !self.commands.is_empty()
            || !self.confirmations.is_empty()
        {
            self.write();
            self.serve();
            self.confirm();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Want(u8),
    Unwant(u8),
    Write,
    Serve,
    Confirm,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8).prop_map(Step::Want),
        4 => (0..4_u8).prop_map(Step::Unwant),
        4 => Just(Step::Write),
        4 => Just(Step::Serve),
        4 => Just(Step::Confirm),
        1 => Just(Step::Reconnect),
    ]
}

proptest! {
    /// Whoever calls last has the last word, and who was told "subscribed" is subscribed at that moment.
    #[test]
    fn redis_ends_where_the_last_call_wanted_it(steps in prop::collection::vec(step(), 1..120), one_slot in any::<bool>()) {
        let mut world = World::new(one_slot);
        let mut wanted = HashSet::new();
        let mut waiting = vec![];
        for step in steps {
            match step {
                Step::Want(number) => {
                    wanted.insert(number);
                    match world.want(number) {
                        Some(answer) => waiting.push((number, answer)),
                        None => prop_assert!(world.subscribed.contains(&channel(number))),
                    }
                }
                Step::Unwant(number) => {
                    wanted.remove(&number);
                    if world.unwant(number).is_none() {
                        prop_assert!(!world.subscribed.contains(&channel(number)));
                    }
                }
                Step::Write => drop(world.write()),
                Step::Serve => world.serve(),
                Step::Confirm => world.confirm(),
                Step::Reconnect => world.reconnect(),
            }
            for (number, answer) in &mut waiting {
                if answer.try_recv() == Ok(true) {
                    prop_assert!(world.subscribed.contains(&channel(*number)));
                }
            }
        }
        world.finish();
        let expect: HashSet<_> = wanted.iter().map(|&number| channel(number)).collect();
        prop_assert_eq!(&world.subscribed, &expect);
        prop_assert_eq!(world.subscriptions.len(), wanted.len());
        for number in wanted {
            let channel = channel(number);
            prop_assert_eq!(world.subscriptions.own(at(&channel), &channel), Own::Yes);
            prop_assert_eq!(world.subscriptions.destination(at(&channel), &channel), Some(destination(number)));
        }
    }
}

#[test]
fn everything_is_said_again_however_often_it_is_interrupted() {
    let mut world = World::new(true);
    for number in 0..=255 {
        let _confirmed_later = world.want(number);
    }
    for interruption in 0..20 {
        for _ in 0..interruption {
            world.write();
            world.serve();
            world.confirm();
        }
        world.reconnect();
    }
    world.finish();
    assert_eq!(world.subscribed.len(), 256);
}

#[test]
fn a_channel_that_redis_took_away_is_said_again_at_the_next_restart() {
    let mut world = World::new(true);
    let _confirmed_later = world.want(1);
    world.finish();
    let channel = channel(1);
    let lost = world.subscriptions.confirm(at(&channel), &channel, false, world.generation);
    assert_eq!(lost, Confirmed::Lost);
    assert_eq!(world.write(), 0);
    world.subscriptions.restart(at(&channel), world.generation);
    assert_eq!(world.write(), 1);
}

#[test]
fn what_is_said_of_another_connection_means_nothing() {
    let mut world = World::new(false);
    let mut answer = world.want(1).unwrap();
    world.write();
    let channel = channel(1);
    let other = Generation(99);
    assert_eq!(world.subscriptions.confirm(at(&channel), &channel, true, other), Confirmed::Stale);
    assert!(answer.try_recv().is_err());
    assert_eq!(world.subscriptions.own(at(&channel), &channel), Own::Perhaps);
}

#[test]
fn who_comes_and_goes_while_redis_is_away_leaves_nothing_behind() {
    let world = World::new(false);
    for _ in 0..1_000 {
        let _never_confirmed = world.want(1);
        assert!(world.unwant(1).is_none());
    }
    assert_eq!(world.subscriptions.len(), 0);
    let left: usize =
        Partition::all().map(|partition| world.subscriptions.part(partition).changed.len()).sum();
    assert_eq!(left, 0);
}

#[test]
fn a_call_that_waited_in_vain_is_taken_back_unless_it_was_answered_since() {
    let mut world = World::new(false);
    let channel = channel(1);
    let _in_vain = world.want(1);
    world.subscriptions.give_up(at(&channel), &channel);
    assert_eq!(world.subscriptions.len(), 0);
    let _in_time = world.want(1);
    world.finish();
    world.subscriptions.give_up(at(&channel), &channel);
    assert_eq!(world.subscriptions.len(), 1);
}
