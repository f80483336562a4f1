//! Did the service keep its promises while things broke? Clients record what they sent, got and were told, and
//! [`check()`] looks for anything that DESIGN G1-G9 rules out: delivered twice, out of order, to the wrong peer, from the
//! wrong sender, damaged, never sent, or lost without a word; two live sessions of one peer; pairs introduced twice or
//! never.
//!
//! The checker knows nothing of nodes, buses or faults. What a client cannot know is not held against anybody: whether
//! the service had read a message when its socket broke, or what became of a session that nobody resumed. Such cases
//! are counted in the [`Summary`], and a test of a fault in which they must not happen looks at the counts.
//!
//! Whether a write began before or after a revocation was answered, nodes say that log their writes
//! ([`Recorder::add_writes`]); what their clients see proves some of it too.
//!
//! A [`Swarm`] of clients records one over real sockets. They do what the reference of the mesh dialect asks of a
//! client that resumes.

mod check;
mod client;
mod event;
mod frame;
mod line;
mod moment;
mod swarm;
mod traffic;

pub use check::{Expectations, Introduced, Rule, Summary, Violation, check, expect_clean};
pub use event::{End, Event, History, Id, Peer, Recorder, Resumed, Verdict, What, hash};
pub use swarm::{Credential, Options, Swarm};
