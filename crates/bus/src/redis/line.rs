//! The message path to one shard: a publisher and a subscriber, on a connection each.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::connect::{ConnectError, Server};
use super::keys::{PARTITIONS, Partition};
use super::outbound::Outbound;
use super::shard::Shard;
use super::topology::Map;

/// The message path to one shard.
pub(crate) struct Line {
    pub(crate) shard: Arc<Shard>,
    pub(crate) outbound: Outbound,
    /// What the shard serves.
    pub(crate) partitions: ArcSwap<Vec<Partition>>,
    /// Whether everything that is wanted is subscribed, or is about to be.
    pub(crate) receiving: AtomicBool,
    /// Something is to be said to Redis, or the partitions changed.
    pub(crate) wake: Notify,
    pub(crate) probe: Probe,
    pub(crate) stop: CancellationToken,
}

impl Line {
    pub(crate) fn new(shard: Arc<Shard>, stop: CancellationToken) -> Self {
        Self {
            outbound: Outbound::new(shard.sharded_pubsub),
            shard,
            partitions: ArcSwap::default(),
            receiving: AtomicBool::new(false),
            wake: Notify::new(),
            probe: Probe::default(),
            stop,
        }
    }

    /// Whether a server is able to do what the layout says. In a Cluster of several versions it may be able to do more.
    pub(crate) fn fits(&self, server: Server) -> bool {
        server.sharded_pubsub || !self.shard.server.sharded_pubsub
    }

    /// Whether parcels pass both ways.
    pub(crate) fn is_up(&self) -> bool {
        self.receiving.load(Ordering::Acquire) && self.outbound.is_open()
    }
}

/// The lines at one moment.
pub(crate) struct Lines {
    by_partition: [Option<Arc<Line>>; PARTITIONS as usize],
    pub(crate) all: Vec<Arc<Line>>,
}

impl Lines {
    pub(crate) fn none() -> Self {
        Self { by_partition: [const { None }; PARTITIONS as usize], all: vec![] }
    }

    pub(crate) fn of(&self, partition: Partition) -> Option<&Arc<Line>> {
        self.by_partition[partition.index()].as_ref()
    }

    /// Whether every partition has a line, and each is up.
    pub(crate) fn are_up(&self) -> bool {
        self.by_partition.iter().all(Option::is_some) && self.all.iter().all(|line| line.is_up())
    }

    /// The lines for a new map: the same ones where the shard is the same. Answers the new ones too.
    pub(crate) fn next(&self, map: &Map, stop: &CancellationToken) -> (Self, Vec<Arc<Line>>) {
        let mut next = Self::none();
        let mut new = vec![];
        for shard in &map.shards {
            let known = self.all.iter().find(|line| Arc::ptr_eq(&line.shard, shard)).cloned();
            let line = known.unwrap_or_else(|| {
                let line = Arc::new(Line::new(Arc::clone(shard), stop.child_token()));
                new.push(Arc::clone(&line));
                line
            });
            let partitions: Vec<_> = map.partitions(shard).collect();
            for partition in &partitions {
                next.by_partition[partition.index()] = Some(Arc::clone(&line));
            }
            line.partitions.store(Arc::new(partitions));
            next.all.push(line);
        }
        (next, new)
    }
}

/// Whether what a node publishes on a shard comes back to it.
#[derive(Default)]
pub(crate) struct Probe {
    sent: AtomicU64,
    state: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    last: u64,
    /// The oldest that Redis accepted and that did not come back.
    missing: Option<(u64, Instant)>,
}

impl Probe {
    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next one.
    pub(crate) fn next(&self) -> u64 {
        self.sent.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Redis accepted one.
    pub(crate) fn accepted(&self, number: u64) {
        let mut heard = self.lock();
        if heard.last < number && heard.missing.is_none() {
            heard.missing = Some((number, Instant::now()));
        }
    }

    /// One came back.
    pub(crate) fn heard(&self, number: u64) {
        let mut heard = self.lock();
        heard.last = heard.last.max(number);
        if heard.missing.is_some_and(|(missing, _)| missing <= number) {
            heard.missing = None;
        }
    }

    /// Since when one has been missing.
    pub(crate) fn missing_since(&self) -> Option<Instant> {
        self.lock().missing.map(|(_, since)| since)
    }

    /// A new subscriber: what went before says nothing about it.
    pub(crate) fn restart(&self) {
        let mut heard = self.lock();
        heard.last = self.sent.load(Ordering::Relaxed);
        heard.missing = None;
    }
}

/// Why a connection of the message path ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection was closed")]
    Closed,
    #[error("no answer in time")]
    Silent,
    #[error("what was published did not come back")]
    Deaf,
    #[error("the server refused to subscribe ({0})")]
    Refused(String),
    #[error("the server is of another version than the others")]
    OtherVersion,
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Connect(error.into())
    }
}

impl From<super::resp::Malformed> for Broken {
    fn from(error: super::resp::Malformed) -> Self {
        Self::Connect(error.into())
    }
}

/// A pause between two attempts, of random length so that nodes do not come all at once.
pub(crate) async fn pause() {
    sleep(Duration::from_millis(rand::random_range(100..250))).await;
}
