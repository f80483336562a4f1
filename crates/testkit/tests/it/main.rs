//! The product through its sockets: one binary of tests, a node of its own for each.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]

mod bad_input;
mod capabilities;
mod crowd;
mod introduction;
mod limits;
mod mesh;
mod no_return;
mod ops;
mod pairing;
mod restart;
mod resume;
mod revoke;
mod rooms;
mod rooms_bad_input;
mod rooms_bounds;
mod sessions;
mod tokens;

use heliograph_testkit::TestServer;
