//! Several nodes, many clients and a bus that fails, in one thread and in virtual time: one seed is one run, always the
//! same, and thousands of them take seconds.
//!
//! What decides is the product's own code: [`Session`](heliograph_core::session::Session),
//! [`Stage`](heliograph_core::stage::Stage), [`Replay`](heliograph_core::replay::Replay),
//! [`Unanswered`](heliograph_core::unanswered::Unanswered) and [`Authority`](heliograph_core::authority::Authority).
//! What the gateway does around them (queues, parking, handing over, the order of calls) is written again here without
//! sockets and tasks, and so are bus and presence, which keep the promises of `heliograph_bus` and no others: they
//! delay, lose, reorder between senders and channels, go away, and come back empty. Every run ends in a history for the
//! checker of the test kit.
//!
//! What this does not show: the gateway's own tasks and locks, the bytes on the wire, the limits of queues, news of who
//! came and went, revocations. The tests of the gateway and of clusters do.

#![expect(clippy::panic, reason = "a test fails by a panic, and what helps tests fails the same way")]

mod bus;
mod client;
mod connection;
mod net;
mod node;
mod plan;
mod presence;
mod time;
mod world;

pub use world::{MESSAGES_AFTER, Outcome, World, expectations};

/// Parts of the protocol that a test may turn off, to see that runs fail without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches")]
pub struct Switches {
    /// A newer session puts a fence into the channel of its peer.
    pub fence: bool,
    /// It does so even if presence knows of no older one: a node that was given up for dead may only have slept.
    pub fence_always: bool,
    /// A fence that was perhaps lost is sent again: by a session that waits for its own, and by one of which presence
    /// says after an upheaval that an older one was there too.
    pub fence_again: bool,
    /// A session that ended is known to its node until the node receives nothing for its peer any more.
    pub linger: bool,
    /// Answers that come before a session knows whether it resumes another one wait until it does.
    pub early_receipts: bool,
    /// When a session of a peer began anew, those before it cannot be resumed any more.
    pub anew_is_anew: bool,
    /// A session that is resumed goes on with the numbers of its former self.
    pub replay: bool,
    /// A node remembers what it sent to other nodes until it is answered.
    pub unanswered: bool,
    /// And also what waits in a queue of its own: the sender may move before the target reads.
    pub unanswered_here: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            fence: true,
            fence_always: true,
            fence_again: true,
            linger: true,
            early_receipts: true,
            anew_is_anew: true,
            replay: true,
            unanswered: true,
            unanswered_here: true,
        }
    }
}
