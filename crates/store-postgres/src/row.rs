//! Rows as they lie in the database, and the way from them to the domain: the one place that doubts what is stored.

use heliograph_core::authority::Standing;
use heliograph_core::chain::Hash;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::pairing::PairingState;
use heliograph_store::record::Head;
use heliograph_store::{
    ApiKey, Invite, LeaseRow, LogEntry, Origin, Pairing, PeerRecord, Result, StandingChange, StoreError,
};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::error::inconsistent;
use crate::list::Listed;

/// A version as Postgres's signed number. No counter comes near the bound; a cursor from outside may.
pub(crate) fn number(version: Version) -> i64 {
    i64::try_from(version.0).unwrap_or(i64::MAX)
}

/// The end of the log.
#[derive(FromRow)]
pub(crate) struct HeadRow {
    pub(crate) version: i64,
    pub(crate) hash: Vec<u8>,
}

impl HeadRow {
    pub(crate) fn of(row: &PgRow) -> sqlx::Result<Self> {
        Self::from_row(row)
    }
}

impl TryFrom<HeadRow> for Head {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self> {
        Ok(Self { version: version(row.version)?, hash: hash(&row.hash)? })
    }
}

/// A row of `invites`.
#[derive(FromRow)]
pub(crate) struct InviteRow {
    id: String,
    mesh: String,
    uses_left: i64,
    expires_at: i64,
    created_at: i64,
    created_by: String,
    revoked: bool,
    since: i64,
}

impl TryFrom<InviteRow> for Invite {
    type Error = StoreError;

    fn try_from(row: InviteRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            mesh: mesh(&row.mesh)?,
            uses_left: u32::try_from(row.uses_left).map_err(inconsistent)?,
            expires_at: row.expires_at,
            created_at: row.created_at,
            created_by: row.created_by,
            revoked: row.revoked,
        })
    }
}

impl Listed for InviteRow {
    type Item = Invite;

    const SELECT: &'static str =
        "SELECT id, mesh, uses_left, expires_at, created_at, created_by, revoked, since FROM invites";

    fn cursor(&self) -> String {
        self.since.to_string()
    }
}

/// A row of `pairings`.
#[derive(FromRow)]
pub(crate) struct PairingRow {
    pub(crate) id: String,
    pub(crate) mesh: String,
    pub(crate) peer: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) invite: String,
    pub(crate) public_key: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) token_issued: bool,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) version: i64,
    pub(crate) since: i64,
}

impl TryFrom<PairingRow> for Pairing {
    type Error = StoreError;

    fn try_from(row: PairingRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            mesh: mesh(&row.mesh)?,
            peer: peer(&row.peer)?,
            name: row.name,
            state: state(&row.state)?,
            invite: row.invite,
            public_key: row.public_key,
            address: row.address,
            token_issued: row.token_issued,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: version(row.version)?,
        })
    }
}

impl Listed for PairingRow {
    type Item = Pairing;

    const SELECT: &'static str = "SELECT id, mesh, peer, name, state, invite, public_key, address, \
        device_token IS NOT NULL AS token_issued, created_at, updated_at, version, since FROM pairings";

    fn cursor(&self) -> String {
        self.since.to_string()
    }
}

/// A row of `peers`.
#[derive(FromRow)]
pub(crate) struct PeerRow {
    pub(crate) mesh: String,
    pub(crate) peer: String,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) origin: String,
    pub(crate) role: String,
    pub(crate) pairing: Option<String>,
    pub(crate) public_key: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) version: i64,
}

impl TryFrom<PeerRow> for PeerRecord {
    type Error = StoreError;

    fn try_from(row: PeerRow) -> Result<Self> {
        Ok(Self {
            mesh: mesh(&row.mesh)?,
            peer: peer(&row.peer)?,
            name: row.name,
            state: state(&row.state)?,
            origin: origin(&row.origin)?,
            role: row.role,
            pairing: row.pairing,
            public_key: row.public_key,
            created_at: row.created_at,
            updated_at: row.updated_at,
            version: version(row.version)?,
        })
    }
}

impl Listed for PeerRow {
    type Item = PeerRecord;

    const SELECT: &'static str = "SELECT mesh, peer, name, state, origin, role, pairing, public_key, created_at, \
        updated_at, version FROM peers";

    fn cursor(&self) -> String {
        heliograph_store::page::peer_cursor(&self.mesh, &self.peer)
    }
}

/// A row of `api_keys`.
#[derive(FromRow)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) mesh: String,
    pub(crate) peer: String,
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) created_at: i64,
    pub(crate) revoked_at: Option<i64>,
    pub(crate) since: i64,
}

impl TryFrom<KeyRow> for ApiKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self> {
        Ok(Self {
            id: row.id,
            mesh: mesh(&row.mesh)?,
            peer: peer(&row.peer)?,
            role: row.role,
            name: row.name,
            created_at: row.created_at,
            revoked_at: row.revoked_at,
        })
    }
}

impl Listed for KeyRow {
    type Item = ApiKey;

    const SELECT: &'static str =
        "SELECT id, mesh, peer, role, name, created_at, revoked_at, since FROM api_keys";

    fn cursor(&self) -> String {
        self.since.to_string()
    }
}

/// A row of `log`.
#[derive(FromRow)]
pub(crate) struct LogRow {
    pub(crate) version: i64,
    pub(crate) at: i64,
    pub(crate) actor: String,
    pub(crate) action: String,
    pub(crate) mesh: String,
    pub(crate) subject: String,
    pub(crate) detail: String,
    pub(crate) peer: Option<String>,
    pub(crate) standing: Option<String>,
    pub(crate) previous: Vec<u8>,
    pub(crate) hash: Vec<u8>,
}

impl TryFrom<LogRow> for LogEntry {
    type Error = StoreError;

    fn try_from(row: LogRow) -> Result<Self> {
        let standing = match (row.peer, row.standing) {
            (Some(of), Some(word)) => Some((peer(&of)?, state(&word)?.standing())),
            _ => None,
        };
        Ok(Self {
            version: version(row.version)?,
            at: row.at,
            actor: row.actor,
            action: row.action,
            mesh: row.mesh,
            subject: row.subject,
            detail: row.detail,
            standing,
            previous: hash(&row.previous)?,
            hash: hash(&row.hash)?,
        })
    }
}

impl Listed for LogRow {
    type Item = LogEntry;

    const SELECT: &'static str = "SELECT version, at, actor, action, mesh, subject, detail, peer, standing, \
        previous, hash FROM log";

    fn cursor(&self) -> String {
        self.version.to_string()
    }
}

/// What a gateway that renews its lease reads: the newest version, and a change or none.
pub(crate) struct RenewalRow {
    pub(crate) newest: i64,
    pub(crate) version: Option<i64>,
    pub(crate) mesh: Option<String>,
    pub(crate) peer: Option<String>,
    pub(crate) standing: Option<String>,
}

impl RenewalRow {
    pub(crate) fn newest(&self) -> Result<Version> {
        version(self.newest)
    }

    pub(crate) fn change(self) -> Result<Option<StandingChange>> {
        let (Some(number), Some(of), Some(who), Some(word)) =
            (self.version, self.mesh, self.peer, self.standing)
        else {
            return Ok(None);
        };
        let (version, standing) = (version(number)?, state(&word)?.standing());
        Ok(Some(StandingChange { version, mesh: mesh(&of)?, peer: peer(&who)?, standing }))
    }
}

/// A row of `leases`.
pub(crate) struct StoredLease {
    pub(crate) gateway: String,
    pub(crate) acknowledged: i64,
    pub(crate) beat: i64,
}

impl TryFrom<StoredLease> for LeaseRow {
    type Error = StoreError;

    fn try_from(row: StoredLease) -> Result<Self> {
        let gateway = GatewayId::parse(&row.gateway);
        Ok(Self {
            gateway: gateway.map_err(|error| inconsistent(format!("gateway {:?} {error}", row.gateway)))?,
            acknowledged: version(row.acknowledged)?,
            beat: u64::try_from(row.beat).map_err(inconsistent)?,
        })
    }
}

/// Reads what [`PairingState::as_str`] wrote.
pub(crate) fn state(word: &str) -> Result<PairingState> {
    PairingState::parse(word).ok_or_else(|| inconsistent(format!("unknown state {word:?}")))
}

/// A standing is stored as the state that it comes from.
pub(crate) fn standing_word(standing: Standing) -> Result<&'static str> {
    match standing {
        Standing::Pending => Ok(PairingState::PendingApproval.as_str()),
        Standing::Approved => Ok(PairingState::Approved.as_str()),
        Standing::Rejected => Ok(PairingState::Rejected.as_str()),
        Standing::Revoked => Ok(PairingState::Revoked.as_str()),
        Standing::Unknown => Err(inconsistent("no change leads to an unknown standing")),
    }
}

fn origin(word: &str) -> Result<Origin> {
    let origins = [Origin::Pairing, Origin::Key];
    let found = origins.into_iter().find(|origin| origin.as_str() == word);
    found.ok_or_else(|| inconsistent(format!("unknown origin {word:?}")))
}

pub(crate) fn mesh(text: &str) -> Result<MeshName> {
    MeshName::parse(text).map_err(|error| inconsistent(format!("mesh {text:?} {error}")))
}

pub(crate) fn peer(text: &str) -> Result<PeerId> {
    PeerId::parse(text).map_err(|error| inconsistent(format!("peer {text:?} {error}")))
}

fn version(number: i64) -> Result<Version> {
    u64::try_from(number).map(Version).map_err(|_| inconsistent(format!("version {number}")))
}

fn hash(bytes: &[u8]) -> Result<Hash> {
    bytes.try_into().map_err(|_| inconsistent(format!("a hash of {} bytes", bytes.len())))
}

/// Rows of `log` as columns, for one statement that inserts all of them.
#[derive(Default)]
pub(crate) struct LogColumns<'a> {
    pub(crate) version: Vec<i64>,
    pub(crate) at: Vec<i64>,
    pub(crate) actor: Vec<&'a str>,
    pub(crate) action: Vec<&'a str>,
    pub(crate) mesh: Vec<&'a str>,
    pub(crate) subject: Vec<&'a str>,
    pub(crate) detail: Vec<&'a str>,
    pub(crate) peer: Vec<Option<&'a str>>,
    pub(crate) standing: Vec<Option<&'a str>>,
    pub(crate) previous: Vec<&'a [u8]>,
    pub(crate) hash: Vec<&'a [u8]>,
}

impl<'a> LogColumns<'a> {
    pub(crate) fn of(entries: &'a [LogEntry]) -> Result<Self> {
        let mut columns = Self::default();
        for entry in entries {
            let (peer, standing) = match &entry.standing {
                Some((peer, standing)) => (Some(peer.as_str()), Some(standing_word(*standing)?)),
                None => (None, None),
            };
            columns.version.push(number(entry.version));
            columns.at.push(entry.at);
            columns.actor.push(&entry.actor);
            columns.action.push(&entry.action);
            columns.mesh.push(&entry.mesh);
            columns.subject.push(&entry.subject);
            columns.detail.push(&entry.detail);
            columns.peer.push(peer);
            columns.standing.push(standing);
            columns.previous.push(&entry.previous);
            columns.hash.push(&entry.hash);
        }
        Ok(columns)
    }
}
