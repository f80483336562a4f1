//! Assembles a node.
//!
//! [`config`] is read into typed sections, [`mod@assemble`] turns them into parts (`backends` is the only
//! place that names a backend), [`node`] serves listeners with the parts, [`lifecycle`] runs that until a signal comes. The binary, the
//! tests and simulations all call [`Node::serve`] with sockets of their own.

pub mod assemble;
mod backends;
pub mod config;
mod cors;
pub mod lifecycle;
mod migrate;
pub mod node;
pub mod telemetry;

pub use assemble::{assemble, assemble_with_store};
pub use backends::{check_bus, check_database};
pub use lifecycle::run;
pub use migrate::migrate;
pub use node::{Listeners, Node, Parts};
