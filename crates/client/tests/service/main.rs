//! The client against real nodes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how tests and their helpers fail"
)]

mod cluster;
mod node;
mod program;
