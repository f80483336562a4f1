//! The dialects: bytes of a socket to core messages and back. Pure codecs; no dialect routes anything.
//!
//! To add a dialect: a module with `decode`, `encode` and its [`Manners`], an arm in each of [`Dialect`]'s functions,
//! and a table of golden frames in `tests`. Nothing past the two codec calls in the gateway's connection asks which
//! dialect a client speaks.

use bytes::Bytes;
use heliograph_core::id::PeerId;
use heliograph_core::manners::Manners;
use heliograph_core::message::{Envelope, ServerMessage};

mod depth;
pub mod mesh;
pub mod rendezvous;
pub mod rtc;
mod write;

/// What a client speaks; chosen once, by the path of its upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The mesh dialect of `/ws` (JSON envelopes).
    Mesh,
    /// The rendezvous dialect of `/room/{room}/websocket` (JSON, names from public keys).
    Rendezvous,
    /// The rtc-signaller dialect of `/` (commands in text).
    RtcSignaller,
}

impl Dialect {
    /// All dialects, for metrics.
    pub const ALL: [Self; 3] = [Self::Mesh, Self::Rendezvous, Self::RtcSignaller];

    /// The label value in metrics and lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mesh => "mesh",
            Self::Rendezvous => "rendezvous",
            Self::RtcSignaller => "rtc",
        }
    }

    /// How its sessions live.
    pub fn manners(self) -> &'static Manners {
        match self {
            Self::Mesh => &Manners::MESH,
            Self::Rendezvous => &rendezvous::MANNERS,
            Self::RtcSignaller => &rtc::MANNERS,
        }
    }

    /// Reads one text frame. The envelope borrows from it; payloads share its memory.
    pub fn decode(self, frame: &Bytes) -> Result<Envelope<'_>, Malformed> {
        match self {
            Self::Mesh => mesh::decode(frame),
            Self::Rendezvous => rendezvous::decode(frame),
            Self::RtcSignaller => rtc::decode(frame),
        }
    }

    /// Appends the text frame for `message` to `out`; nothing, if the dialect has no words for it.
    pub fn encode(self, message: &ServerMessage, receiver: &PeerId, out: &mut Vec<u8>) {
        match self {
            Self::Mesh => mesh::encode(message, receiver, out),
            Self::Rendezvous => rendezvous::encode(message, receiver, out),
            Self::RtcSignaller => rtc::encode(message, receiver, out),
        }
    }
}

/// A frame that cannot be read. The text says what was wrong and never quotes the frame beyond a member's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);
