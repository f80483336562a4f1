//! The revocation protocol as a model that a checker explores in full (DESIGN: I1 to I4, `docs/revocation.md`).
//!
//! It is not the program: it is what the program's rules come to, with each step that another one can come between as a
//! step of its own. A checker (stateright) tries every order of steps. So a pause of any length at any point, a
//! lost or late wake-up, a late renewal, a crash and a start at a bad moment need no code: they are orders of steps.
//!
//! | here | there |
//! |---|---|
//! | [`Action::Send`] to [`Action::Settle`] | `gateway/feed.rs`: `Feed::renew`, `Feed::apply`, `Directory::settle` |
//! | [`Action::Lock`], [`Action::Grant`] | `renew_lease` in `migrations/postgres`: lock and read, write and commit |
//! | [`Action::Change`], [`Action::Commit`] | `store-postgres/src/change.rs`: `Change::begin`, `Change::finish` |
//! | [`Action::Look`], [`Action::Finish`] | `admin/enforcement.rs`: `Enforcement::observe`, `Wait::note` |
//! | [`Action::BeginTurn`] to [`Action::Write`] | `gateway/connection/turns.rs`: `Connection::turn` |
//! | [`Action::Accept`], [`Action::Arrive`] | `gateway/relay.rs`: `into_remote`, `from_remote` |
//! | [`Action::Read`], [`Action::Remember`] | `gateway/upgrade.rs`: `Gateway::peer`, `Gateway::remember` |
//! | [`Action::LetGo`] | `gateway/directory.rs`: `Directory::tidy` |
//!
//! Clocks: in each [`Action::Tick`] every clock goes on by one or by two, as the checker likes, so that any may run
//! twice as fast as any other. [`HOLDER_TERM`] and [`WAITER_TERM`] have just the margin that this needs, as the real ones
//! have it for two hundredths (`core/limits.rs`). What is not modelled: the order in which processors see each
//! other's writes (`Handle::begin_turn` has a fence for it), and bytes that the kernel has taken.

mod database;
mod node;
mod properties;
mod state;
mod steps;

pub use properties::{
    ACKNOWLEDGED_WRITES_NOTHING, ANSWER_NAMES_ALL, ENDS_WITHOUT_NODES, NOTHING_CHECKED_LATE, RECOVERS_ALONE,
    RUN_OUT_IS_NOT_BELIEVED, VERSION_NEVER_GOES_BACK,
};
pub use state::*;
pub use steps::Action;

/// How long a holder believes its lease, from the send, in ticks of a slow clock.
pub const HOLDER_TERM: u8 = 2;
/// How long a row must stand still before a waiter calls it run out.
pub const WAITER_TERM: u8 = 3;

/// What is explored.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches")]
pub struct Bounds {
    /// Processes that may ever run, up to [`MAX_NODES`].
    pub nodes: usize,
    /// Processes that look at leases, up to [`MAX_WAITERS`]; the first one waits for the revoke.
    pub waiters: usize,
    /// Whether time passes. Without it no lease runs out.
    pub time: bool,
    /// Whether rights come by reads of the database and by other nodes' word, and are forgotten. Otherwise who starts before the
    /// revoke knows the peer as approved, and who starts later does not know it.
    pub words: bool,
    /// Whether taking a lock in the database and committing are two steps. Where the locks hold, it makes no difference:
    /// nothing that others could see happens in between.
    pub locks: bool,
    /// Changes in all; the last one is the revoke of the peer.
    pub changes: u8,
    /// Whether processes crash, or stop properly and give their lease back.
    pub ends: bool,
    /// Whether the feed gives up renewals, which the database may carry out later.
    pub gives_up: bool,
    /// Whether a replica that lags may take the database's place.
    pub promotion: Promotion,
}

/// What may get lost when the database is promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// Nothing: commits are synchronous, or there is no promotion.
    Lossless,
    /// The last change.
    LosesChange,
    /// Leases.
    LosesLeases,
}

/// A mistake that is built in, to see that the checker finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The feed acknowledges before the rights are changed (`Feed::turn` before `Feed::apply_one`).
    AcknowledgesBeforeSwap,
    /// The feed acknowledges without waiting for turns in progress (no `Directory::settle` in `Feed::apply`).
    AcknowledgesBeforeSettling,
    /// A renewal does not lock `head` (no `FOR SHARE` in `renew_lease`).
    NoShareLock,
    /// The lease counts from the receipt of the answer (`sent_at` taken after the call in `Feed::renew`).
    LeaseFromReceipt,
    /// The waiter counts from the commit or from when it first saw a row, though the row moved since
    /// (`Enforcement::sight` without the beat).
    IgnoresBeat,
    /// Both terms are the same (`CLOCK_RATE_MARGIN` is 0).
    NoMargin,
    /// A lease is used before the changes that came with it are applied (`Authority::renewed` before `Feed::apply`).
    LeaseBeforeApply,
    /// The first look at the leases may be older than the commit (`Enforcement::observe` without `asked > called`).
    StaleLook,
    /// A run-out lease is removed though its row has moved (`remove_lease` without the beat).
    RemovesMovedRow,
    /// A node that stops gives its lease back and goes on to use it (no `Authority::give_back` in `feed::run`).
    GivesBackInUse,
    /// A frame's word for its sender counts whatever its age (`from_remote` without `Authority::takes_word`).
    VouchesForever,
    /// A node follows a database that knows less than it does (`Feed::renew` without a look at the version).
    BelievesOldDatabase,
    /// Rights are read before the feed knows from where it follows them (`Gateway::peer` before
    /// `Feed::start`; no `Gateway::may_read_rights`).
    ReadsBeforeBegin,
}

/// The model.
#[derive(Debug, Clone, Copy)]
pub struct Revocation {
    /// What is explored.
    pub bounds: Bounds,
    /// With which mistake.
    pub mutation: Option<Mutation>,
    progress: bool,
}

impl Revocation {
    /// The protocol without a mistake.
    pub fn sound(bounds: Bounds) -> Self {
        Self { bounds, mutation: None, progress: false }
    }

    /// The protocol with a mistake.
    pub fn with(mutation: Mutation, bounds: Bounds) -> Self {
        Self { bounds, mutation: Some(mutation), progress: false }
    }

    /// Asks of each state also whether all comes to an end from there, which takes longer.
    #[must_use]
    pub fn with_progress(self) -> Self {
        Self { progress: true, ..self }
    }

    /// Does these steps one after another, as far as each is possible.
    fn run(&self, mut state: State, steps: impl IntoIterator<Item = Action>) -> State {
        for action in steps {
            let mut next = state;
            if self.step(&mut next, action).is_some() {
                state = next;
            }
        }
        state
    }

    fn has(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    fn waiter_term(&self) -> u8 {
        if self.has(Mutation::NoMargin) { HOLDER_TERM } else { WAITER_TERM }
    }
}
