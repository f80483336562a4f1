//! What each change leaves in the log and which rows it makes, in one place, so that all backends read alike.
//!
//! To add a change: a constructor of [`Draft`] here, its word in the doc of [`LogEntry::action`].

use heliograph_core::authority::Standing;
use heliograph_core::chain::{self, GENESIS, Hash};
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};

use crate::{
    ApiKey, By, GROUP_STEP, GroupStep, Invite, LogEntry, NewInvite, NewKey, Origin, Pairing, PeerRecord,
    Redemption, Result, StandingChange, StoreError, UnixMillis, detail,
};

/// Who acts when nobody with a key does.
pub const SYSTEM: &str = "system";

/// The end of the log: what the next row is chained to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last row; 0 before the first.
    pub version: Version,
    /// Its hash.
    pub hash: Hash,
}

impl Default for Head {
    fn default() -> Self {
        Self { version: Version(0), hash: GENESIS }
    }
}

impl Head {
    /// The version that the next change takes.
    pub fn next(&self) -> Version {
        Version(self.version.0 + 1)
    }
}

impl From<&LogEntry> for Head {
    fn from(entry: &LogEntry) -> Self {
        Self { version: entry.version, hash: entry.hash }
    }
}

/// A row of the log before it has its number.
#[derive(Debug, Clone)]
pub struct Draft {
    at: UnixMillis,
    actor: String,
    action: &'static str,
    mesh: String,
    subject: String,
    detail: String,
    standing: Option<(PeerId, Standing)>,
}

impl Draft {
    /// An invite was made.
    pub fn invite_created(invite: &NewInvite, by: &By<'_>) -> Self {
        let (uses, expires_at) = (invite.uses.to_string(), invite.expires_at.to_string());
        let detail = detail(&[("uses", &uses), ("expires_at", &expires_at)]);
        Self::new("invite.create", by, &invite.mesh, &invite.id, detail)
    }

    /// An invite was taken back.
    pub fn invite_revoked(id: &str, mesh: &MeshName, by: &By<'_>) -> Self {
        Self::new("invite.revoke", by, mesh, id, detail(&[]))
    }

    /// A device redeemed an invite.
    pub fn paired(redemption: &Redemption, mesh: &MeshName, invite: &str, now: UnixMillis) -> Self {
        let detail = detail(&[("invite", invite), ("name", &redemption.name), ("pairing", &redemption.id)]);
        let by = By { actor: SYSTEM, now };
        Self::new("pair", &by, mesh, redemption.peer.as_str(), detail)
            .standing(&redemption.peer, PairingState::PendingApproval)
    }

    /// A pairing was approved or rejected, or a peer revoked with its pairing (if any) and so many live keys.
    pub fn moved(transition: Transition, whom: &Moved<'_>, by: &By<'_>) -> Self {
        let keys = whom.keys_revoked.to_string();
        let mut pairs = vec![];
        pairs.extend(whom.pairing.map(|id| ("pairing", id)));
        if transition == Transition::Revoke {
            pairs.push(("keys", &keys));
        }
        Self::new(transition.as_str(), by, whom.mesh, whom.peer.as_str(), detail(&pairs))
            .standing(whom.peer, transition.leads_to())
    }

    /// The device token of a pairing was handed out.
    pub fn token_issued(pairing: &Pairing, now: UnixMillis) -> Self {
        let by = By { actor: SYSTEM, now };
        let detail = detail(&[("pairing", &pairing.id)]);
        Self::new("token.issue", &by, &pairing.mesh, pairing.peer.as_str(), detail)
    }

    /// A key was made, and with it its peer or not.
    pub fn key_created(key: &NewKey, with_peer: bool, by: &By<'_>) -> Self {
        let standing = with_peer.then_some(PairingState::Approved);
        let pairs = [("name", key.name.as_str()), ("role", &key.role)];
        Self::of_key("key.create", (&key.id, &key.mesh, &key.peer), &pairs, standing, by)
    }

    /// A key was revoked, and with it its peer or not.
    pub fn key_revoked(key: &ApiKey, with_peer: bool, by: &By<'_>) -> Self {
        let standing = with_peer.then_some(PairingState::Revoked);
        Self::of_key("key.revoke", (&key.id, &key.mesh, &key.peer), &[], standing, by)
    }

    /// The row as it stands in the log after `head`.
    pub fn seal(self, head: &Head) -> LogEntry {
        let mut entry = LogEntry {
            version: head.next(),
            at: self.at,
            actor: self.actor,
            action: self.action.to_owned(),
            mesh: self.mesh,
            subject: self.subject,
            detail: self.detail,
            standing: self.standing,
            previous: head.hash,
            hash: GENESIS,
        };
        entry.hash = chain::link(&head.hash, &entry.link());
        entry
    }

    /// Whether a key's row changes a standing does not follow from its action, so it is said in the detail, which
    /// the chain covers.
    fn of_key(
        action: &'static str,
        (id, mesh, peer): (&str, &MeshName, &PeerId),
        more: &[(&str, &str)],
        standing: Option<PairingState>,
        by: &By<'_>,
    ) -> Self {
        let mut pairs = vec![("peer", peer.as_str())];
        pairs.extend(more);
        pairs.extend(standing.map(|state| ("standing", state.as_str())));
        let draft = Self::new(action, by, mesh, id, detail(&pairs));
        match standing {
            Some(state) => draft.standing(peer, state),
            None => draft,
        }
    }

    fn new(action: &'static str, by: &By<'_>, mesh: &MeshName, subject: &str, detail: String) -> Self {
        let (mesh, subject) = (mesh.to_string(), subject.to_owned());
        Self { at: by.now, actor: by.actor.to_owned(), action, mesh, subject, detail, standing: None }
    }

    fn standing(self, peer: &PeerId, state: PairingState) -> Self {
        Self { standing: Some((peer.clone(), state.standing())), ..self }
    }
}

/// Whom [`Draft::moved`] is about.
#[derive(Debug, Clone, Copy)]
pub struct Moved<'a> {
    /// The mesh.
    pub mesh: &'a MeshName,
    /// The peer.
    pub peer: &'a PeerId,
    /// Its pairing, if it has one.
    pub pairing: Option<&'a str>,
    /// How many live keys died with it.
    pub keys_revoked: u64,
}

/// A step of a group's revocation under way: what it has done, and how much more it may do.
///
/// To be used in this order: each invite, then each peer.
#[derive(Debug)]
pub struct GroupWork {
    done: GroupStep,
    left: u32,
}

impl GroupWork {
    /// A step that has done nothing yet.
    pub fn new(mesh: MeshName, version: Version) -> Self {
        let done = GroupStep {
            mesh,
            version,
            invites: vec![],
            revoked: vec![],
            rejected: vec![],
            keys: 0,
            more: false,
        };
        Self { done, left: GROUP_STEP }
    }

    /// How many more it may change.
    pub fn left(&self) -> u32 {
        self.left
    }

    /// An invite was taken back under this version.
    pub fn took_back(&mut self, invite: String, version: Version) {
        self.done.invites.push(invite);
        self.did(version);
    }

    /// A peer lost its right under this version, and so many keys with it.
    pub fn moved(&mut self, peer: PeerId, transition: Transition, keys: u64, version: Version) {
        let list =
            if transition == Transition::Reject { &mut self.done.rejected } else { &mut self.done.revoked };
        list.push(peer);
        self.done.keys += keys;
        self.did(version);
    }

    fn did(&mut self, version: Version) {
        self.done.version = version;
        self.left = self.left.saturating_sub(1);
    }

    /// What was done.
    pub fn done(self) -> GroupStep {
        GroupStep { more: self.left == 0, ..self.done }
    }
}

/// What takes the right away from a peer in this state; nothing if it has none.
pub fn leaving(state: PairingState) -> Option<Transition> {
    match state {
        PairingState::PendingApproval => Some(Transition::Reject),
        PairingState::Approved => Some(Transition::Revoke),
        PairingState::Rejected | PairingState::Revoked => None,
    }
}

/// The role of peers that came by an invite.
const PAIRED_ROLE: &str = "agent";

impl NewInvite {
    /// The row that it becomes.
    pub fn into_invite(self, by: &By<'_>) -> Invite {
        Invite {
            id: self.id,
            mesh: self.mesh,
            uses_left: self.uses,
            expires_at: self.expires_at,
            created_at: by.now,
            created_by: by.actor.to_owned(),
            revoked: false,
        }
    }
}

impl Redemption {
    /// The waiting pairing that it becomes.
    pub fn pairing(&self, mesh: &MeshName, invite: &str, now: UnixMillis, version: Version) -> Pairing {
        Pairing {
            id: self.id.clone(),
            mesh: mesh.clone(),
            peer: self.peer.clone(),
            name: self.name.clone(),
            state: PairingState::PendingApproval,
            invite: invite.to_owned(),
            public_key: self.public_key.clone(),
            address: self.address.clone(),
            token_issued: false,
            created_at: now,
            updated_at: now,
            version,
        }
    }

    /// The waiting peer that it becomes.
    pub fn peer_record(&self, mesh: &MeshName, now: UnixMillis, version: Version) -> PeerRecord {
        PeerRecord {
            mesh: mesh.clone(),
            peer: self.peer.clone(),
            name: self.name.clone(),
            state: PairingState::PendingApproval,
            origin: Origin::Pairing,
            role: PAIRED_ROLE.to_owned(),
            pairing: Some(self.id.clone()),
            public_key: self.public_key.clone(),
            created_at: now,
            updated_at: now,
            version,
        }
    }
}

impl NewKey {
    /// Whether an import of this key is the one that was made before.
    pub fn means(&self, existing: &ApiKey) -> bool {
        (&self.mesh, &self.peer, &self.role) == (&existing.mesh, &existing.peer, &existing.role)
    }

    /// The approved peer that comes to be with it, if there is none yet.
    pub fn peer_record(&self, now: UnixMillis, version: Version) -> PeerRecord {
        PeerRecord {
            mesh: self.mesh.clone(),
            peer: self.peer.clone(),
            name: self.name.clone(),
            state: PairingState::Approved,
            origin: Origin::Key,
            role: self.role.clone(),
            pairing: None,
            public_key: None,
            created_at: now,
            updated_at: now,
            version,
        }
    }

    /// The row that it becomes.
    pub fn into_key(self, now: UnixMillis) -> ApiKey {
        ApiKey {
            id: self.id,
            mesh: self.mesh,
            peer: self.peer,
            role: self.role,
            name: self.name,
            created_at: now,
            revoked_at: None,
        }
    }
}

impl LogEntry {
    /// The change of standing in this row, if it is one.
    pub fn standing_change(&self) -> Result<Option<StandingChange>> {
        let Some((peer, standing)) = &self.standing else { return Ok(None) };
        let mesh = MeshName::parse(&self.mesh).map_err(|error| {
            StoreError::Inconsistent(format!("mesh in row {} of the log: {error}", self.version))
        })?;
        Ok(Some(StandingChange { version: self.version, mesh, peer: peer.clone(), standing: *standing }))
    }
}
