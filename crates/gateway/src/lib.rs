//! Runs the sockets.
//!
//! [`accept`] takes connections under deadlines, [`upgrade`] turns requests into sessions, `connection` is the
//! actor that owns one socket and its state machine, `directory` says who is on this node, `relay` is the one place
//! where an effect becomes a delivery (here or over the bus), `resume` keeps and hands over sessions that outlive their
//! connection, `seats` says to presence whom this node has, `drain` empties it, `feed` keeps the rights current and the
//! lease alive, `ice` says which ICE servers a session gets and when again, `sweep` looks at everybody's deadlines so that
//! no socket needs a timer of its own.
//!
//! The gateway knows the seams (bus, store), never an implementation. On the message path it awaits no database.

mod connection;
mod directory;
mod drain;
mod entry;
mod feed;
mod gateway;
mod ice;
mod lobby;
mod metrics;
mod outbox;
mod relay;
mod resume;
mod seats;
mod sweep;

pub mod accept;
pub mod token;
pub mod trace;
pub mod upgrade;

pub use gateway::{Config, Gateway, Parts};
pub use metrics::Metrics;
