//! What clients record: one line per thing that they did, got or were told.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::moment;

/// A peer's name.
pub type Peer = Arc<str>;

/// A message's name, unique in the whole history.
pub type Id = Arc<str>;

/// Most events of one history: a test that makes more has no bound of its own.
const MAX_EVENTS: usize = 20_000_000;

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Since the start of the history, on one monotonic clock.
    pub at: Duration,
    /// Who recorded it.
    pub peer: Peer,
    /// On which of its sockets, counted from 0 in the order of their opening.
    pub socket: u32,
    /// What happened.
    pub what: What,
}

/// What a client did, got or was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The socket is open.
    Connected,
    /// The first list of a session that does not resume another one (DESIGN G9).
    FirstList {
        /// The session's epoch.
        epoch: u64,
        /// Who was there before.
        peers: Vec<Peer>,
    },
    /// Any other list.
    List {
        /// The session's epoch.
        epoch: u64,
        /// Who is there.
        peers: Vec<Peer>,
    },
    /// The answer to `resume`.
    Resumed(Resumed),
    /// A message is about to be written. Recorded before the write, so that no receipt can come first.
    Sent {
        /// Its name.
        id: Id,
        /// For whom.
        to: Peer,
        /// Hash of its payload, see [`hash`].
        hash: u64,
    },
    /// Something is about to be asked that the service answers after it has read all that was sent before.
    Asked(u64),
    /// The answer to [`What::Asked`].
    Answered(u64),
    /// A message arrived.
    Received {
        /// From whom, as the service says.
        from: Peer,
        /// Its name.
        id: Id,
        /// Its number.
        seq: Option<u64>,
        /// Hash of its payload.
        hash: u64,
    },
    /// Something arrived under a number that was there already; the client did not look at it.
    Repeated {
        /// The number.
        seq: u64,
    },
    /// What became of a message of the client's own.
    Told {
        /// Its name.
        id: Id,
        /// What became of it.
        verdict: Verdict,
        /// The number of the answer.
        seq: Option<u64>,
    },
    /// Another peer came.
    Joined(Peer),
    /// Another peer went.
    Left(Peer),
    /// A peer lost its right.
    Revoked(Peer),
    /// The node is about to close the socket.
    GoAway,
    /// The service could not read something.
    Error(Arc<str>),
    /// From now on the client does not look at this socket any more, as if its network were gone.
    Abandoned,
    /// The socket ended.
    Ended(End),
    /// An upgrade was refused, with an HTTP status or (`None`) before there was one.
    Refused(Option<u16>),
    /// Recorded by an administrator: a revocation was answered as enforced.
    RevokeAnswered(Peer),
    /// Recorded by a node under test: the write of a message to its target's socket began.
    WriteBegan(Id),
}

/// The answer to `resume`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumed {
    /// The session goes on.
    Recovered {
        /// So many messages and answers follow.
        recovered: u64,
        /// So many are known to be lost.
        lost: u64,
    },
    /// It begins anew.
    Fresh,
}

/// What a sender is told of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It was written to the target's socket.
    Delivered,
    /// It was not, and why.
    Undeliverable(Arc<str>),
}

impl Verdict {
    /// Whether this is the last word. With a bus that fails nobody knows: the message may have arrived all the same,
    /// and then `delivered` follows.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Undeliverable(reason) if matches!(&**reason, "bus_unavailable" | "expired"))
    }
}

/// How a socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The service closed it with this code.
    Code(u16),
    /// It broke, or was closed without a code.
    NoCode,
    /// The client reset it.
    Reset,
    /// The client closed it properly, at the end of its work.
    Finished,
}

/// All events in the order of their recording.
#[derive(Debug, Clone, Default)]
pub struct History(pub Vec<Event>);

impl History {
    /// When the last thing happened.
    pub fn end(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |event| event.at)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>12.6}s {}#{} {:?}", self.at.as_secs_f64(), self.peer, self.socket, self.what)
    }
}

/// The hash of a payload, the same in every run.
pub fn hash(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(payload);
    hasher.finish()
}

/// Takes events from many tasks at once, in one order.
#[derive(Debug)]
pub struct Recorder {
    start: std::time::Instant,
    events: Mutex<Vec<Event>>,
    sent: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { start: std::time::Instant::now(), events: Mutex::default(), sent: AtomicU64::new(0) }
    }
}

impl Recorder {
    /// Records that something happened now.
    pub fn record(&self, peer: &Peer, socket: u32, what: What) {
        if matches!(what, What::Sent { .. }) {
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(events.len() < MAX_EVENTS, "the history has no end");
        // Under the lock, so that the order of times is the order of events.
        events.push(Event { at: self.start.elapsed(), peer: Arc::clone(peer), socket, what });
    }

    /// How many messages were sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Adds what a node of this machine logged of its writes (at trace level, target `heliograph::write`, in JSON); how
    /// many they were. Those from before the start of the history are none of it.
    pub fn add_writes(&self, node: &Peer, log: &str) -> usize {
        let start = moment::of(&format!("{:?}", self.start)).unwrap_or_else(|| panic!("no monotonic clock"));
        let writes = log.lines().filter_map(moment::write).filter_map(|(id, at)| {
            let (peer, what) = (Arc::clone(node), What::WriteBegan(id));
            Some(Event { at: at.checked_sub(start)?, peer, socket: 0, what })
        });
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let before = events.len();
        events.extend(writes);
        events.len() - before
    }

    /// Takes everything that was recorded so far.
    pub fn take(&self) -> History {
        let mut events = std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner));
        // What was added from logs came late.
        events.sort_by_key(|event| event.at);
        History(events)
    }
}
