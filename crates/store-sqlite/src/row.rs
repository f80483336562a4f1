//! Rows as they lie in the file, and the way from them to the domain: the one place that doubts what is stored.

use heliograph_core::authority::Standing;
use heliograph_core::chain::Hash;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::pairing::PairingState;
use heliograph_store::record::Head;
use heliograph_store::{
    ApiKey, Invite, LogEntry, Origin, Pairing, PeerRecord, Result, StandingChange, StoreError,
};
use sqlx::{FromRow, SqliteConnection, SqliteExecutor};

use crate::error::{inconsistent, refused};
use crate::list::Listed;

/// A version as SQLite's signed number. No counter comes near the bound; a cursor from outside may.
pub(crate) fn number(version: Version) -> i64 {
    i64::try_from(version.0).unwrap_or(i64::MAX)
}

/// The end of the log.
#[derive(FromRow)]
pub(crate) struct HeadRow {
    version: i64,
    hash: Vec<u8>,
}

impl HeadRow {
    pub(crate) async fn read(executor: impl SqliteExecutor<'_>) -> Result<Head> {
        let row = sqlx::query_as::<_, Self>("SELECT version, hash FROM head WHERE id = 1");
        row.fetch_one(executor).await.map_err(refused)?.try_into()
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

macro_rules! select_invites {
    ($rest:literal) => {
        concat!(
            "SELECT id, mesh, uses_left, expires_at, created_at, created_by, revoked, since FROM invites ",
            $rest
        )
    };
}
pub(crate) use select_invites;

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

    fn cursor(&self) -> String {
        self.since.to_string()
    }
}

/// A row of `pairings`.
#[derive(FromRow)]
pub(crate) struct PairingRow {
    id: String,
    mesh: String,
    peer: String,
    name: String,
    state: String,
    invite: String,
    public_key: Option<String>,
    address: Option<String>,
    token_issued: bool,
    created_at: i64,
    updated_at: i64,
    version: i64,
    since: i64,
}

macro_rules! select_pairings {
    ($rest:literal) => {
        concat!(
            "SELECT id, mesh, peer, name, state, invite, public_key, address, ",
            "device_token IS NOT NULL AS token_issued, created_at, updated_at, version, since FROM pairings ",
            $rest
        )
    };
}
pub(crate) use select_pairings;

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

    fn cursor(&self) -> String {
        self.since.to_string()
    }
}

/// A row of `peers`.
#[derive(FromRow)]
pub(crate) struct PeerRow {
    mesh: String,
    peer: String,
    name: String,
    state: String,
    origin: String,
    role: String,
    pairing: Option<String>,
    public_key: Option<String>,
    created_at: i64,
    updated_at: i64,
    version: i64,
}

macro_rules! select_peers {
    ($rest:literal) => {
        concat!(
            "SELECT mesh, peer, name, state, origin, role, pairing, public_key, created_at, updated_at, version ",
            "FROM peers ",
            $rest
        )
    };
}
pub(crate) use select_peers;

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

    fn cursor(&self) -> String {
        heliograph_store::page::peer_cursor(&self.mesh, &self.peer)
    }
}

/// A row of `api_keys`.
#[derive(FromRow)]
pub(crate) struct KeyRow {
    id: String,
    mesh: String,
    peer: String,
    role: String,
    name: String,
    created_at: i64,
    revoked_at: Option<i64>,
    since: i64,
}

macro_rules! select_keys {
    ($rest:literal) => {
        concat!("SELECT id, mesh, peer, role, name, created_at, revoked_at, since FROM api_keys ", $rest)
    };
}
pub(crate) use select_keys;

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

    fn cursor(&self) -> String {
        self.since.to_string()
    }
}

/// A row of `log`.
#[derive(FromRow)]
pub(crate) struct LogRow {
    version: i64,
    at: i64,
    actor: String,
    action: String,
    mesh: String,
    subject: String,
    detail: String,
    peer: Option<String>,
    standing: Option<String>,
    previous: Vec<u8>,
    hash: Vec<u8>,
}

macro_rules! select_log {
    ($rest:literal) => {
        concat!(
            "SELECT version, at, actor, action, mesh, subject, detail, peer, standing, previous, hash FROM log ",
            $rest
        )
    };
}
pub(crate) use select_log;

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

    fn cursor(&self) -> String {
        self.version.to_string()
    }
}

/// Appends a row to the log.
pub(crate) async fn insert_log(connection: &mut SqliteConnection, entry: &LogEntry) -> Result<()> {
    let (peer, standing) = match &entry.standing {
        Some((peer, standing)) => (Some(peer.as_str()), Some(standing_word(*standing)?)),
        None => (None, None),
    };
    sqlx::query(
        "INSERT INTO log (version, at, actor, action, mesh, subject, detail, peer, standing, previous, hash) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(number(entry.version))
    .bind(entry.at)
    .bind(&entry.actor)
    .bind(&entry.action)
    .bind(&entry.mesh)
    .bind(&entry.subject)
    .bind(&entry.detail)
    .bind(peer)
    .bind(standing)
    .bind(entry.previous.as_slice())
    .bind(entry.hash.as_slice())
    .execute(connection)
    .await
    .map_err(refused)?;
    Ok(())
}

/// What a gateway that renews its lease reads of the log.
#[derive(FromRow)]
pub(crate) struct StandingRow {
    version: i64,
    mesh: String,
    peer: String,
    standing: String,
}

impl TryFrom<StandingRow> for StandingChange {
    type Error = StoreError;

    fn try_from(row: StandingRow) -> Result<Self> {
        Ok(Self {
            version: version(row.version)?,
            mesh: mesh(&row.mesh)?,
            peer: peer(&row.peer)?,
            standing: state(&row.standing)?.standing(),
        })
    }
}

/// Reads what [`PairingState::as_str`] wrote.
pub(crate) fn state(word: &str) -> Result<PairingState> {
    PairingState::parse(word).ok_or_else(|| inconsistent(format!("unknown state {word:?}")))
}

/// A standing is stored as the state that it comes from.
fn standing_word(standing: Standing) -> Result<&'static str> {
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
