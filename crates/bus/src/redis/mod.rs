//! The nodes of a cluster, over Redis: one server, Sentinel or Cluster.

mod connect;
mod keys;
mod layout;
mod options;
mod resp;
mod shard;
mod topology;

pub use options::{Options, OptionsError};
