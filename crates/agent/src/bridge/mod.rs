//! Local programs reach the mesh through a Unix socket: one JSON object per line, in both directions. The forms are
//! those of the original sidecar, what is added is listed in `docs/agent-bridge.md`.
//!
//! - [`forms`]: what the lines say; pure
//! - [`lines`]: reads them, however long or broken they are
//! - [`queue`]: what waits to be written to one program
//! - [`hub`]: all programs, and what is kept while there are none
//! - [`socket`]: the file of the socket, private and only once
//! - [`serve`]: programs come, command and go
//!
//! Nothing here knows WebRTC or the service: the rest of the agent is behind [`Mesh`].

mod forms;
mod hub;
mod lines;
mod queue;
mod serve;
mod socket;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use heliograph_core::id::PeerId;
use serde_json::value::RawValue;

pub(crate) use forms::Notice;
pub(crate) use hub::Hub;
pub(crate) use socket::Bridge;

/// What the bridge asks of the mesh.
#[async_trait]
pub(crate) trait Mesh: Send + Sync + 'static {
    /// Hands a message to the channel with `target`, which is a peer's name. Waits for room there, with a bound.
    async fn send(&self, target: &str, message: &RawValue) -> Result<(), Refusal>;

    /// Hands a message to all open channels; how many took it.
    async fn broadcast(&self, message: &RawValue) -> Result<usize, Refusal>;

    /// Begins a connection, unless there is one.
    async fn connect(&self, target: &str) -> Result<(), Refusal>;

    /// With whom there are connections, also those whose channel is not open yet.
    fn peers(&self) -> Vec<PeerId>;

    /// The payload of a `status` line.
    fn status(&self) -> serde_json::Value;
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For programs; `docs/agent-bridge.md` lists all.
    pub(crate) code: &'static str,
    /// For people: what was wrong and what to do. Names are quoted, messages never.
    pub(crate) message: String,
    /// The peer of whom it speaks.
    pub(crate) peer: Option<String>,
}

/// How much the bridge holds, and how long it waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Programs at once.
    pub(crate) programs: usize,
    /// Bytes of a line that a program writes, without its end.
    pub(crate) line_bytes: usize,
    /// What waits for one program; reached, whoever brings more waits. One line more than this may be there, of
    /// whatever size. Many small ones, so that a program may first write a lot and then read: two that do so at two
    /// ends of a channel would otherwise wait for each other.
    pub(crate) queue_lines: usize,
    /// The same in bytes.
    pub(crate) queue_bytes: usize,
    /// Messages that are kept while there is no program.
    pub(crate) kept_lines: usize,
    /// The same in bytes.
    pub(crate) kept_bytes: usize,
    /// Who has been there for so long has come to stay, and gets what was kept. Others only look in, as
    /// `heliograph agent status` does, and are not to take away what is for a program that restarts.
    pub(crate) settling: Duration,
    /// How long all others wait for one program that does not read. Then it is cut off.
    pub(crate) stall: Duration,
    /// How long a program that is cut off, or that has ended its own side, may take to read what is left.
    pub(crate) last_word: Duration,
}

impl Bounds {
    pub(crate) const DEFAULT: Self = Self {
        programs: 32,
        line_bytes: 1024 * 1024,
        queue_lines: 32 * 1024,
        queue_bytes: 8 * 1024 * 1024,
        kept_lines: 16 * 1024,
        kept_bytes: 4 * 1024 * 1024,
        settling: Duration::from_secs(1),
        stall: Duration::from_secs(5),
        last_word: Duration::from_secs(2),
    };
}
