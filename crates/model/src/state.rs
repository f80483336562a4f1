//! What the model remembers: nodes, the database as far as they share it, and who waits for a revoke.
//!
//! Ages stand in the place of times, and stop at the bound that somebody looks at. So the number of states is finite
//! although time is not, and a checker that has visited them all has seen runs of any length.

/// At most so many processes; one that starts again is another one, under another name.
pub const MAX_NODES: usize = 3;
/// At most so many processes that wait for revokes or sweep leases, each with a clock of its own.
pub const MAX_WAITERS: usize = 2;

/// Everything at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    /// The version that is committed: the row `head`.
    pub version: u8,
    /// A change has `head` locked `FOR UPDATE`.
    pub changing: bool,
    /// The processes, sorted: which one is which does not matter.
    pub nodes: [Node; MAX_NODES],
    /// Frames of the peer that are under way between nodes, by the version as of which their sender vouched. None is
    /// ever taken out: the bus may repeat and delay as it likes.
    pub frames: u8,
    /// What each waiter does.
    pub looks: [Look; MAX_WAITERS],
    /// How far the revoke is.
    pub wait: Wait,
    /// What happened and must not.
    pub broken: Broken,
    /// The database was promoted from a replica that had not heard everything.
    pub promoted: bool,
}

/// Things that must never happen and cannot be seen in a single state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "one per thing")]
pub struct Broken {
    /// A frame was written that was checked after the answer.
    pub late_check: bool,
    /// A node that acknowledged wrote a frame after the answer.
    pub late_write: bool,
    /// A node's applied version went back.
    pub went_back: bool,
    /// The answer left out a lease that was live at the commit.
    pub unnamed: bool,
}

/// The revoke of the peer, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Not committed.
    NotYet,
    /// Committed; nobody has looked at the leases since.
    Committed,
    /// The leases of the first look are followed.
    Following,
    /// Answered: enforced.
    Answered,
}

/// One waiter's look at the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Look {
    /// None under way.
    No,
    /// The rows were read.
    Read {
        /// After the commit.
        after_commit: bool,
    },
}

/// One process and its row among the leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    /// Whether it runs.
    pub life: Life,
    /// Its feed has read the version to begin from.
    pub begun: bool,
    /// The version up to which it has carried out everything.
    pub applied: u8,
    /// Revocations up to this version may be unknown here.
    pub horizon: u8,
    /// What is left of its lease, on its clock.
    pub lease: u8,
    /// What its feed does.
    pub feed: Feed,
    /// The renewal that the feed waits for.
    pub request: Request,
    /// One that the feed gave up and the database may still carry out.
    pub late_request: Request,
    /// What it holds of the peer.
    pub right: Right,
    /// A read of the peer from the database is under way, with this answer: approved or not.
    pub reading: Option<bool>,
    /// A turn of writing to a socket, with a frame to or from the peer in it.
    pub turn: Turn,
    /// Its lease in the database: the version that it acknowledged.
    pub row: Option<u8>,
    /// Since when each waiter knows the row to stand still.
    pub sights: [Sight; MAX_WAITERS],
    /// What each waiter's look, which is under way, saw.
    pub snaps: [Option<Snap>; MAX_WAITERS],
    /// What the caller of the revoke knows of it.
    pub progress: Progress,
    /// It had a usable lease when the revoke was committed, and has not given it back or been removed since.
    pub live_at_commit: bool,
}

/// Whether a process runs. A paused one runs: it just does nothing for as long as the checker likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// Not started yet.
    Down,
    /// Runs.
    Up,
    /// Crashed, for good.
    Dead,
}

/// The authority feed. `age`: since the renewal was sent, on the node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the comment of the variant says what its fields are")]
pub enum Feed {
    /// Between renewals.
    Idle,
    /// A renewal was sent.
    Sent { age: u8 },
    /// Its answer is here.
    Answered { age: u8, reached: u8 },
    /// The changes are applied to the rights; `busy`: a turn that began before is still in progress.
    Settling { age: u8, reached: u8, busy: bool },
    /// It acknowledged before it swapped (only as a mutation).
    Owing { reached: u8 },
    /// The lease is not used any more and will be given back.
    Leaving { busy: bool },
    /// It was given back.
    Gone,
}

/// `renew_lease` in the database, which goes on whether its caller lives or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the comment of the variant says what its fields are")]
pub enum Request {
    /// None.
    No,
    /// On its way.
    Queued { applied: u8 },
    /// `head` is locked `FOR SHARE` and read; the row is not written yet for others.
    Locked { applied: u8, reached: u8 },
    /// Committed; the answer is on its way back.
    Done { reached: u8 },
}

/// A peer's `Right` in a node's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the comment of the variant says what its fields are")]
pub enum Right {
    /// Nothing is known.
    Unknown,
    /// May signal; `beyond`: as of a version that is not before the revoke.
    Approved { beyond: bool },
    /// May not.
    Revoked,
}

/// A turn of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the comment of the variant says what its fields are")]
pub enum Turn {
    /// None.
    No,
    /// The clock was read, and the lease covered it; `late`: after the answer. A turn without a lease writes nothing.
    Begun { late: bool },
    /// Checked: the frame will be written.
    Checked { late: bool },
}

/// What a waiter knows of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sight {
    /// Not seen since it moved last.
    Unseen,
    /// It stands still for so long, on the waiter's clock.
    Still(u8),
}

/// A row as a look saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snap {
    /// It acknowledges the revoke.
    pub acknowledged: bool,
    /// It has stood still for a term; taken back if it moves before it is removed.
    pub over: bool,
}

/// What the revoke's caller knows of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Progress {
    /// Not among the leases of the first look.
    Unlisted,
    /// Waited for.
    Waiting,
    /// Acknowledged.
    Acknowledged,
    /// Ran out.
    Expired,
}

impl State {
    /// Nobody runs, and the peer is approved in the database.
    pub const START: Self = Self {
        version: 0,
        changing: false,
        nodes: [Node::DOWN; MAX_NODES],
        frames: 0,
        looks: [Look::No; MAX_WAITERS],
        wait: Wait::NotYet,
        broken: Broken { late_check: false, late_write: false, went_back: false, unnamed: false },
        promoted: false,
    };

    /// Whether any renewal holds `head` shared.
    pub fn is_shared(&self) -> bool {
        let held = |request: Request| matches!(request, Request::Locked { .. });
        self.nodes.iter().any(|node| held(node.request) || held(node.late_request))
    }

    /// How many leases ended in this way, as the answer lists them.
    pub fn listed(&self, progress: Progress) -> usize {
        self.nodes.iter().filter(|node| node.progress == progress).count()
    }
}

impl Node {
    /// Not started.
    pub const DOWN: Self = Self {
        life: Life::Down,
        begun: false,
        applied: 0,
        horizon: 0,
        lease: 0,
        feed: Feed::Idle,
        request: Request::No,
        late_request: Request::No,
        right: Right::Unknown,
        reading: None,
        turn: Turn::No,
        row: None,
        sights: [Sight::Unseen; MAX_WAITERS],
        snaps: [None; MAX_WAITERS],
        progress: Progress::Unlisted,
        live_at_commit: false,
    };

    /// The process is gone; what it has in the database stays.
    pub fn crash(&mut self) {
        let late_request = match (self.late_request, self.request) {
            (Request::No, Request::Done { .. }) => Request::No,
            (Request::No, request) => request,
            (late, _) => late, // of two that are under way one gets lost
        };
        *self = Self {
            life: Life::Dead,
            late_request,
            row: self.row,
            sights: self.sights,
            snaps: self.snaps,
            progress: self.progress,
            live_at_commit: self.live_at_commit,
            ..Self::DOWN
        };
    }

    /// Its row is removed, by the rule or because it was given back.
    pub fn remove_row(&mut self) {
        self.row = None;
        self.live_at_commit = false;
        self.sights = [Sight::Unseen; MAX_WAITERS];
        for snap in self.snaps.iter_mut().flatten() {
            snap.over = false; // another waiter finds nothing to remove
        }
    }

    /// A turn ends; whoever waits for it may go on.
    pub fn end_turn(&mut self) {
        self.turn = Turn::No;
        match &mut self.feed {
            Feed::Settling { busy, .. } | Feed::Leaving { busy } => *busy = false,
            _ => {}
        }
    }

    /// Whether it may relay now, on its clock.
    pub fn is_leased(&self) -> bool {
        self.life == Life::Up && self.lease > 0
    }

    /// `Right::apply` with an approval as of some version.
    pub fn vouched(&mut self, beyond: bool) {
        self.right = match (self.right, beyond) {
            (Right::Revoked, false) => Right::Revoked,
            (Right::Approved { beyond: before }, beyond) => Right::Approved { beyond: before || beyond },
            (Right::Unknown | Right::Revoked, beyond) => Right::Approved { beyond },
        };
    }

    /// `Right::apply` with the revoke.
    pub fn revoked(&mut self) {
        if self.right != (Right::Approved { beyond: true }) {
            self.right = Right::Revoked;
        }
    }
}
