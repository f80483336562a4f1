//! What is wrong with the network.

use std::time::Duration;

/// A direction, from the view of whoever listens behind the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
    /// Both: a black hole.
    Both,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Faults {
    pub(super) is_cut: bool,
    /// How often it was cut: a connection from before a cut is reset, also when the cut is healed by now.
    pub(super) cuts: u64,
    pub(super) stopped: Option<Direction>,
    pub(super) delay: Duration,
    /// In bytes per second.
    pub(super) rate: Option<u32>,
}

impl Faults {
    /// Whether nothing goes `towards` one side.
    pub(super) fn stop(&self, towards: Direction) -> bool {
        self.stopped.is_some_and(|stopped| stopped == towards || stopped == Direction::Both)
    }
}
