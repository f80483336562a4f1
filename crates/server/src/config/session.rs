//! How long rights, sessions and farewells last.

use std::time::Duration;

use heliograph_core::id::MeshName;
use heliograph_core::manners::{RoomPolicies, RoomPolicy};

use super::setting::Preset::{Is, PerMode};
use super::setting::{Exposure, section};
use super::source::Reader;
use super::value::{FromText, Raw, Scalar, Wrong, words};

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
        /// only for `paired` peers that are approved. Of single meshes something else: `off, lobby=open, factory=paired`.
        rooms: RoomPolicies = PerMode { dev: "open", serve: "off" };
    }
}

words!(RoomPolicy: "`off`, `open`, `paired`", "off" => Self::Off, "open" => Self::Open, "paired" => Self::Paired);

impl FromText for RoomPolicies {
    const EXPOSURE: Exposure = Exposure::Plain;

    fn kind() -> String {
        format!("{}; `MESH=…` for single meshes", <RoomPolicy as FromText>::kind())
    }

    fn absent() -> Option<Self> {
        None
    }

    fn read(raw: &Raw) -> Result<Self, Wrong> {
        let items: Vec<&str> = match raw {
            Raw::Text(text) => text.split(',').collect(),
            Raw::List(items) => items.iter().map(String::as_str).collect(),
        };
        let (of_meshes, elsewhere): (Vec<_>, Vec<_>) =
            items.into_iter().map(str::trim).partition(|item| item.contains('='));
        let wrong = |text: &str, why: String| Wrong { text: text.to_owned(), why };
        let word = |text: &str| RoomPolicy::parse(text.trim()).map_err(|why| wrong(text, why));
        let mut policies = match elsewhere[..] {
            [] => Self::default(),
            [one] => Self::everywhere(word(one)?),
            [_, second, ..] => {
                return Err(wrong(
                    second,
                    "is a second word for all meshes; name the mesh, as in lobby=open".into(),
                ));
            }
        };
        for item in of_meshes {
            let (mesh, policy) = item.split_once('=').unwrap_or((item, ""));
            let mesh = MeshName::parse(mesh.trim()).map_err(|error| wrong(mesh, error.to_string()))?;
            if policies.set(mesh, word(policy)?).is_some() {
                return Err(wrong(item, "names a mesh for the second time".into()));
            }
        }
        Ok(policies)
    }
}

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
