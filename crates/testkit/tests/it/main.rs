//! The product through its sockets: one binary of tests, a node of its own for each.

mod bad_input;
mod capabilities;
mod introduction;
mod limits;
mod mesh;
mod ops;
mod pairing;
mod restart;
mod revoke;
mod sessions;
mod tokens;
