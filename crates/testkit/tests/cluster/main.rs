//! What a cluster of three nodes keeps of its promises while things break. Real processes, a real Redis, a real
//! Postgres; in each test of a fault clients send to one another, and the history checker looks at what they saw.
//!
//! Every test has the machine to itself: faults are about time, and what one test breaks is not to slow down another.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]
#![expect(clippy::print_stdout, reason = "what happened is worth a line beside a failure")]

mod balancer;
mod costs;
mod drain;
mod ghosts;
mod introduction;
mod limits;
mod network;
mod nodes;
mod postgres;
mod redis;
mod revocation;
mod rooms;
mod scene;
mod sessions;
mod storm;
