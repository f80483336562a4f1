//! How sessions live, where dialects differ in more than the text of their frames. Each dialect names one value; whoever
//! runs a session looks at the value, never at the dialect.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::id::MeshName;
use crate::message::Capabilities;

/// How the sessions of a dialect live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manners {
    /// In which kind of space they are.
    pub whereabouts: Whereabouts,
    /// What a client is taken to be able to do where it cannot say so itself.
    pub capabilities: Capabilities,
}

/// In which kind of space sessions are, and how they come there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// In the mesh of their token, for as long as the socket lives.
    Mesh,
    /// In a room that the client names, or the path: it says [`Enter`](crate::message::ClientMessage::Enter).
    Room(Manner),
}

/// How sessions live in rooms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// What stands before the names of its rooms in those of their spaces: rooms of two dialects are never the same,
    /// since their members could not read each other.
    pub rooms: &'static str,
    /// Whether a client may leave, and enter another room or by another name, on the same socket. A session that ends
    /// because a newer one of the same name came then leaves its socket open too: closed, its client would come back
    /// blindly and displace the newer one in turn.
    pub moves: bool,
    /// Whether a member that enters again, the same room by the same name, is shown to the others again.
    pub repeats: bool,
    /// For how long a client that vanished counts as being there: if it is back in time, nobody hears of it.
    pub grace: Duration,
    /// For how long a socket may be in no room.
    pub patience: Duration,
}

impl Manners {
    /// Those of sessions in a mesh, which say themselves what they can do.
    pub const MESH: Self = Self { whereabouts: Whereabouts::Mesh, capabilities: Capabilities::NONE };

    /// The manner of rooms, if sessions are in rooms.
    pub fn in_rooms(&self) -> Option<&Manner> {
        match &self.whereabouts {
            Whereabouts::Mesh => None,
            Whereabouts::Room(manner) => Some(manner),
        }
    }
}

/// Who may enter the rooms of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoomPolicy {
    /// Nobody: there are none.
    #[default]
    Off,
    /// Whoever comes, by the name that it gives itself.
    Open,
    /// Approved peers of the mesh, each by its own name or by a key of which it proves that it has it.
    Paired,
}

/// Who may enter the rooms of which mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoomPolicies {
    elsewhere: RoomPolicy,
    by_mesh: BTreeMap<MeshName, RoomPolicy>,
}

impl RoomPolicies {
    /// The same in all meshes.
    pub fn everywhere(policy: RoomPolicy) -> Self {
        Self { elsewhere: policy, by_mesh: BTreeMap::new() }
    }

    /// Another one in `mesh`; answers the one that was said of it before.
    pub fn set(&mut self, mesh: MeshName, policy: RoomPolicy) -> Option<RoomPolicy> {
        self.by_mesh.insert(mesh, policy)
    }

    /// That of `mesh`.
    pub fn of(&self, mesh: &MeshName) -> RoomPolicy {
        self.by_mesh.get(mesh).copied().unwrap_or(self.elsewhere)
    }
}
