//! The nodes of a cluster, over Redis: one server, Sentinel or Cluster.

mod budget;
mod check;
mod complaint;
mod connect;
mod frame;
mod inbound;
mod keys;
mod layout;
mod line;
mod metrics;
mod node;
mod options;
mod outbound;
mod presence;
mod publish;
mod resp;
mod scripts;
mod shard;
mod subscribe;
mod subscriptions;
mod topology;

pub use check::{Found, check};
pub use node::{Node, connect};
pub use options::{Options, OptionsError};
