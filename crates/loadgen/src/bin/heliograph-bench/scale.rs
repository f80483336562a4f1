//! How much is measured, and how long.

use std::time::Duration;

/// Pairs that relay.
pub(crate) const PAIRS: usize = 100;
/// Peers of the servers on which time is measured; costs must not grow with them, so there are many.
pub(crate) const PEERS: usize = 10_000;
/// Of them, those that exchanged their keys for tokens on the measured node, as a device does before it connects;
/// the rest come unknown.
pub(crate) const KNOWN: usize = 4_000;
/// Peers per mesh.
pub(crate) const PER_MESH: usize = 10;
/// Messages of a pair under way in the closed loop that lets servers put several into one write.
pub(crate) const BATCH: u32 = 16;
/// Open-loop rates, in messages per second: for processor time and for latency.
pub(crate) const RATE: u32 = 5_000;
pub(crate) const LATENCY_RATE: u32 = 2_000;
/// Sockets at which memory is measured.
pub(crate) const STEPS: [usize; 2] = [5_000, 10_000];
/// Peers that register at once.
pub(crate) const CROWD: usize = 1_000;
/// Peers of a cluster, all of whom come back at once in a storm. Fewer than [`PEERS`], as their keys are imported one by
/// one over the network.
pub(crate) const CLUSTER_PEERS: usize = 5_000;
/// Messages from each of fifty senders, where it is counted what they cause.
pub(crate) const COUNTED: u32 = 400;

/// Meshes in which peers are revoked; in each of them one pair sends.
pub(crate) const REVOKED_MESHES: usize = 50;

/// Members of the large room, at three nodes.
pub(crate) const ROOM: usize = 500;

/// Pairs of agents in a round, one after the other.
pub(crate) const AGENT_PAIRS: usize = 5;

/// How much and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    pub(crate) slices: usize,
    pub(crate) slice_time: Duration,
    pub(crate) paced_time: Duration,
    pub(crate) latency_time: Duration,
    pub(crate) setups: usize,
    pub(crate) joins: usize,
    pub(crate) exchanges: usize,
    pub(crate) waves: usize,
    pub(crate) returns: usize,
    pub(crate) revocations: usize,
    pub(crate) agent_round_trips: u32,
    pub(crate) kills: bool,
    pub(crate) memory_rounds: usize,
    pub(crate) settle: Duration,
}

pub(crate) const FULL: Scale = Scale {
    rounds: 7,
    slices: 21,
    slice_time: Duration::from_millis(400),
    paced_time: Duration::from_secs(2),
    latency_time: Duration::from_secs(3),
    setups: 500,
    joins: 3_000,
    exchanges: 4_000,
    waves: 6,
    returns: 3,
    revocations: 200,
    agent_round_trips: 500,
    kills: true,
    memory_rounds: 2,
    settle: Duration::from_secs(2),
};

pub(crate) const QUICK: Scale = Scale {
    rounds: 3,
    slices: 7,
    slice_time: Duration::from_millis(250),
    paced_time: Duration::from_secs(1),
    latency_time: Duration::from_secs(1),
    setups: 250,
    joins: 1_000,
    exchanges: 1_500,
    waves: 4,
    returns: 1,
    revocations: 100,
    agent_round_trips: 100,
    kills: false,
    memory_rounds: 1,
    settle: Duration::from_secs(1),
};
