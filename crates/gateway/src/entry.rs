//! Who may enter which room, and by which right. All that has to be looked up was looked up before the upgrade, so a
//! client that enters is answered at once.

use std::sync::Arc;

use bytes::Bytes;
use heliograph_auth::room_key::RoomKey;
use heliograph_core::authority::Standing;
use heliograph_core::id::{InvalidName, MeshName, PeerId, RoomName, SpaceName, Version};
use heliograph_core::limits;
use heliograph_core::manners::{Manner, RoomPolicy};
use heliograph_core::message::{Enter, Peer, Proof, Who};

use crate::directory::Space;
use crate::gateway::Gateway;

/// What an upgrade said of where its client may go.
#[derive(Debug)]
pub(crate) struct Door {
    /// How sessions live behind it.
    pub(crate) manner: &'static Manner,
    /// Whose rooms.
    pub(crate) mesh: MeshName,
    /// The room that the path names.
    pub(crate) room: Option<RoomName>,
    /// Who may enter.
    pub(crate) policy: RoomPolicy,
    /// By whose right, where only paired peers may.
    pub(crate) holder: Option<Holder>,
}

/// A peer of the mesh by whose right a client enters.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) peer: Arc<Peer>,
    /// The thumbprint of the key with which it was enrolled, where it has yet to be proven that the client has it. `None`:
    /// a token has proven who the client is.
    pub(crate) enrolled: Option<String>,
}

/// Who enters which room.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) peer: Arc<Peer>,
    /// What the others are shown of it.
    pub(crate) profile: Option<Bytes>,
}

/// A door that opens, as far as nothing is to be proven.
pub(crate) struct Opened {
    pub(crate) entry: Entry,
    /// The room's name as the client knows it.
    room: RoomName,
    /// What the client has to prove before it enters.
    pub(crate) to_prove: Option<RoomKey>,
}

/// Why a client may not enter, in words for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl Door {
    /// Looks at what a client says of itself.
    pub(crate) fn open(&self, gateway: &Gateway, enter: &Enter<'_>) -> Result<Opened, Refusal> {
        let room = self.room(enter)?;
        let space = self.space(gateway, &room)?;
        let (id, key) = match &enter.who {
            Who::Id(id) => (id.to_string(), None),
            Who::Key(jwk) => {
                let key = RoomKey::parse(jwk).map_err(|error| Refusal::new("bad_key", error.to_string()))?;
                (key.fingerprint(), Some(key))
            }
        };
        let id = PeerId::parse(&id).map_err(|error| Refusal::new("bad_id", format!("the id {error}")))?;
        let peer = match self.policy {
            RoomPolicy::Off => return Err(Refusal::new("no_rooms", "there are no rooms here")),
            RoomPolicy::Open => guest(&space, &id),
            RoomPolicy::Paired => self.member(&space, &id, key.as_ref())?,
        };
        let profile = enter.profile.clone().or_else(|| key.as_ref().map(|key| key.profile(false)));
        if profile.as_ref().is_some_and(|profile| profile.len() > limits::MAX_PROFILE_BYTES) {
            let message =
                format!("what you say of yourself has more than {} bytes", limits::MAX_PROFILE_BYTES);
            return Err(Refusal::new("too_large", message));
        }
        let has_to = self.policy == RoomPolicy::Paired || enter.proves;
        Ok(Opened { entry: Entry { peer, profile }, room, to_prove: key.filter(|_| has_to) })
    }

    fn room(&self, enter: &Enter<'_>) -> Result<RoomName, Refusal> {
        match (&enter.room, &self.room) {
            (Some(named), _) => RoomName::parse(named).map_err(|error| bad_room(&error)),
            (None, Some(room)) => Ok(room.clone()),
            (None, None) => Err(Refusal::new("bad_room", "name a room")),
        }
    }

    fn space(&self, gateway: &Gateway, room: &RoomName) -> Result<Arc<Space>, Refusal> {
        let room =
            RoomName::parse(&format!("{}{room}", self.manner.rooms)).map_err(|error| bad_room(&error))?;
        let space = SpaceName::room_of(&self.mesh, &room);
        gateway.directory.room(&space, gateway.config.limits.max_rooms_per_mesh).ok_or_else(|| {
            gateway.metrics.limited("rooms");
            Refusal::new("too_many_rooms", "this node serves as many rooms as it may: come back later")
        })
    }

    /// A peer of the mesh under its own name, or under the fingerprint of a key of its own. The store has no say any
    /// more: its right is followed, and looked at for each message.
    fn member(&self, space: &Space, id: &PeerId, key: Option<&RoomKey>) -> Result<Arc<Peer>, Refusal> {
        let unpaired = || {
            Refusal::new("not_paired", "this room is for paired peers: say who you are by `token` or `peer`")
        };
        let holder = self.holder.as_ref().ok_or_else(unpaired)?;
        let is_own = match (key, &holder.enrolled) {
            (Some(key), Some(enrolled)) => key.thumbprint() == *enrolled,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => holder.peer.id == *id,
        };
        if !is_own {
            return Err(Refusal::new("wrong_identity", "this is not who your credential says that you are"));
        }
        if !holder.peer.right.is_approved() {
            return Err(Refusal::new("not_approved", "this peer is not approved (yet)"));
        }
        Ok(space.intern_by_right_of(&holder.peer, id))
    }
}

fn bad_room(error: &InvalidName) -> Refusal {
    Refusal::new("bad_room", format!("the room's name {error}"))
}

/// Whoever says a name in a room that is open to all: the policy gives the right, and nobody can take it.
fn guest(space: &Space, id: &PeerId) -> Arc<Peer> {
    let peer = space.intern(id);
    peer.right.apply(Version(0), Standing::Approved);
    peer
}

impl Opened {
    /// Takes the answer to a challenge.
    pub(crate) fn prove(self, proof: &Proof<'_>, nonce: &str) -> Result<Entry, Refusal> {
        let Self { entry: Entry { peer, .. }, room, to_prove } = self;
        let Some(key) = to_prove else {
            return Err(Refusal::new("unexpected", "there was nothing to prove"));
        };
        if !key.verify(&proof.algorithm, &proof.signature, nonce, room.as_str()) {
            return Err(Refusal::new("bad_proof", "the signature is not one of the challenge by this key"));
        }
        Ok(Entry { peer, profile: Some(key.profile(true)) })
    }
}
