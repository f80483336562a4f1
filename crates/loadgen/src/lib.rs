//! Load for a signaling server: a swarm of light WebSocket clients, and what is needed to measure a server from
//! outside (its processor time and memory, from `/proc`).
//!
//! The swarm runs on one thread and speaks to two kinds of server: the product (mesh dialect) and the bare relay
//! that is its yardstick; [`target::Target`] tells them apart, [`target::Service`] is one node or several. The measurements
//! are in [`scenario`]; `heliograph-bench` runs them against both in turns and [`report`] writes down what came out.

pub mod client;
pub mod cluster;
pub mod frame;
pub mod http;
pub mod machine;
pub mod peers;
pub mod process;
pub mod procfs;
pub mod report;
pub mod scenario;
pub mod stats;
pub mod target;
pub mod token;
