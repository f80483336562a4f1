//! The client against real nodes, and against scripts where no real one does what is wanted.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a panic is how tests and their helpers fail"
)]

mod cluster;
mod node;
mod program;
mod scripted;
mod tls;
