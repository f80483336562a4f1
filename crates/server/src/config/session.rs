//! How long rights, sessions and farewells last.

use std::time::Duration;

use heliograph_core::manners::RoomPolicy;

use super::setting::Preset::{Is, PerMode};
use super::setting::section;
use super::source::Reader;
use super::value::words;

/// Below it, an ordinary pause of a process or a network would cost the lease.
const SHORTEST_LEASE: Duration = Duration::from_millis(500);
/// A revocation waits this long for a node that went away.
const LONGEST_LEASE: Duration = Duration::from_mins(5);
/// Queues of absent peers take memory all that time.
const LONGEST_RESUME: Duration = Duration::from_hours(1);
/// Whoever stops a node gives up waiting some time.
const LONGEST_DRAIN: Duration = Duration::from_hours(1);

section! {
    "Sessions";
    /// How long rights, sessions and farewells last.
    pub struct SessionConfig {
        /// Authorization lease: a node that could not renew it for so long relays nothing, and a revocation waits
        /// at most about so long for a node that went away. At least 500ms.
        lease_term: Duration = Is("3s");
        /// How long the messages of a peer that lost its connection wait for its return. 0: not at all.
        resume_window: Duration = Is("60s");
        /// Over how long a stopping node sends its clients away. Shorter than what the one who stops it waits
        /// (in Kubernetes `terminationGracePeriodSeconds`).
        drain_window: Duration = Is("20s");
        /// Rooms (dialects `rendezvous` and `rtc`): `off`, `open` to whoever comes, by the name that it gives itself, or
        /// only for `paired` peers that are approved.
        rooms: RoomPolicy = PerMode { dev: "open", serve: "off" };
    }
}

words!(RoomPolicy: "`off`, `open`, `paired`", "off" => Self::Off, "open" => Self::Open, "paired" => Self::Paired);

impl SessionConfig {
    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        if self.lease_term < SHORTEST_LEASE {
            reader
                .object("lease_term", "must be at least 500ms: a shorter lease is lost in an ordinary pause");
        }
        if self.lease_term > LONGEST_LEASE {
            reader.object("lease_term", "must be at most 5m: a revocation may have to wait for it");
        }
        if self.resume_window > LONGEST_RESUME {
            reader.object("resume_window", "must be at most 1h: what waits is kept in memory");
        }
        if self.drain_window > LONGEST_DRAIN {
            reader.object("drain_window", "must be at most 1h: whoever stops the node will not wait longer");
        }
    }
}
