//! The dialects: bytes of a socket to core messages and back. Pure codecs; no dialect routes anything.
//!
//! To add a dialect: a module with `decode` and `encode`, an arm in [`Dialect`]'s two functions, and a table of
//! golden frames in `tests/golden.rs`. Nothing past the two codec calls in the gateway's connection asks which
//! dialect a client speaks.

use bytes::Bytes;
use heliograph_core::id::PeerId;
use heliograph_core::message::{Envelope, ServerMessage};

mod depth;
pub mod mesh;

/// What a client speaks; chosen once, by the path of its upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The mesh dialect of `/ws` (JSON envelopes).
    Mesh,
}

impl Dialect {
    /// All dialects, for metrics.
    pub const ALL: [Self; 1] = [Self::Mesh];

    /// The label value in metrics and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
        }
    }

    /// Reads one text frame. The envelope borrows from it; payloads share its memory.
    pub fn decode(self, frame: &Bytes) -> Result<Envelope<'_>, Malformed> {
        match self {
            Self::Mesh => mesh::decode(frame),
        }
    }

    /// Appends the text frame for `message` to `out`.
    pub fn encode(self, message: &ServerMessage, receiver: &PeerId, out: &mut Vec<u8>) {
        match self {
            Self::Mesh => mesh::encode(message, receiver, out),
        }
    }
}

/// A frame that cannot be read. The text says what was wrong and never quotes the frame beyond a member's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
