//! The tests of the service through its sockets, as they are, on three nodes: each new socket goes to the next node, so
//! peers that speak to each other are on different ones.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]

#[path = "it/capabilities.rs"]
mod capabilities;
#[path = "it/introduction.rs"]
mod introduction;
#[path = "it/mesh.rs"]
mod mesh;
#[path = "it/no_return.rs"]
mod no_return;
#[path = "it/pairing.rs"]
mod pairing;
#[path = "it/resume.rs"]
mod resume;
#[path = "it/revoke.rs"]
mod revoke;
#[path = "it/rooms.rs"]
mod rooms;
#[path = "it/sessions.rs"]
mod sessions;
#[path = "it/tokens.rs"]
mod tokens;

use heliograph_testkit::ClusterServer as TestServer;
