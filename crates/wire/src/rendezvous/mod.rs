//! The rendezvous dialect: one JSON object per text frame, in a room that the path names.
//!
//! ```text
//! {"type": "offer", "to":   "5f8c…", "sdp": {…}}      from a client: for whom, and whatever else, relayed byte for byte
//! {"type": "offer", "from": "90ab…", "sdp": {…}}      at the other one
//! ```
//!
//! Who one is follows from the public key that `register` shows: its fingerprint is the name. A frame therefore claims
//! no sender. `challenge`, `proof` and `proven` are additions: who wants to prove that the key is its own says so.
//!
//! Source: the Rendezvous signaling server's description; see the reference page of the dialect.

use std::time::Duration;

use heliograph_core::manners::{Manner, Manners, Whereabouts};
use heliograph_core::message::Capabilities;

mod decode;
mod encode;
mod members;

pub use decode::decode;
pub use encode::encode;

/// How sessions of this dialect live: in one room, by one name, as long as their socket.
pub const MANNERS: Manners = Manners {
    whereabouts: Whereabouts::Room(Manner {
        rooms: "rdv:",
        moves: false,
        repeats: false,
        grace: Duration::ZERO,
        patience: Duration::from_secs(10),
    }),
    capabilities: Capabilities::EVENTS.with(Capabilities::FEEDBACK),
};
