//! Virtual time, and dice that fall alike for the same seed.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What happens next, in the order of time; of two things at the same time the one that was planned first.
#[derive(Debug)]
pub(crate) struct Clock<E> {
    /// Only an origin: no decision depends on when a run takes place.
    origin: Instant,
    now: Duration,
    planned: u64,
    queue: BinaryHeap<Reverse<Entry<E>>>,
}

#[derive(Debug)]
struct Entry<E> {
    at: Duration,
    number: u64,
    event: E,
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> Clock<E> {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), now: Duration::ZERO, planned: 0, queue: BinaryHeap::new() }
    }

    /// Since the start of the run.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// As the core wants it.
    pub(crate) fn instant(&self) -> Instant {
        self.origin + self.now
    }

    /// Plans an event; never before now.
    pub(crate) fn at(&mut self, at: Duration, event: E) {
        self.planned += 1;
        self.queue.push(Reverse(Entry { at: at.max(self.now), number: self.planned, event }));
    }

    /// Plans an event for later.
    pub(crate) fn after(&mut self, delay: Duration, event: E) {
        self.at(self.now + delay, event);
    }

    /// Goes on to the next event, up to `end`.
    pub(crate) fn next(&mut self, end: Duration) -> Option<E> {
        let at = self.queue.peek().map(|Reverse(entry)| entry.at)?;
        if at > end {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| {
            self.now = entry.at;
            entry.event
        })
    }
}

/// Chance.
#[derive(Debug)]
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// A number below `count`, which is not 0.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// Happens in so many of a hundred cases.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// A time between two numbers of microseconds.
    pub(crate) fn micros(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(self.0.random_range(from..=to))
    }

    /// Usually short, now and then long: as networks are.
    pub(crate) fn delay(&mut self) -> Duration {
        if self.chance(5) { self.micros(5_000, 60_000) } else { self.micros(50, 2_000) }
    }
}
