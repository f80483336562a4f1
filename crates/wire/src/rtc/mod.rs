//! The rtc-signaller dialect: one command per text frame, its parts joined by `|`.
//!
//! ```text
//! /announce|<id>|{"id":"<id>","room":"lobby",…}    into a room; the others get this very frame
//! /leave|<id>|{"id":"<id>"}                        out of it
//! /to|<target>|/hello|<id>|…                       for one member of the room, as it is
//! /hello|<id>|…                                    for all others in the room, as it is
//! ```
//!
//! The part after the (inner) command says who sends it: a bare id, or JSON with an `id`, as versions before 6 have it. It
//! is relayed as it came, so a frame that names another sender than its own is not relayed at all.
//!
//! Clients know no errors. What cannot be read or delivered is counted and answered with silence.
//!
//! Source: the rtc-signaller protocol description, and what its clients and its switchboard do; see the reference page of
//! the dialect.

use std::time::Duration;

use heliograph_core::manners::{Manner, Manners, Whereabouts};
use heliograph_core::message::Capabilities;

mod decode;
mod encode;

pub use decode::decode;
pub use encode::encode;

/// How sessions of this dialect live: their clients go from room to room on one socket, come back without being asked
/// 50 ms after it was lost, and announce themselves again when something of theirs has changed.
pub const MANNERS: Manners = Manners {
    whereabouts: Whereabouts::Room(Manner {
        rooms: "rtc:",
        moves: true,
        repeats: true,
        grace: Duration::from_secs(3),
        patience: Duration::from_mins(1),
    }),
    capabilities: Capabilities::EVENTS,
};
