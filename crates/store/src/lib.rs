//! What is kept: pairing, keys, leases and the audit log.
//!
//! Small traits, one per aggregate, with verbs of the domain; [`Store`] is all of them. Implementations:
//! [`memory`] (the reference), `heliograph-store-sqlite`, `heliograph-store-postgres`. To add one: implement them, pass
//! `testing::conformance` with a factory, and name it in `heliograph-server`'s `backends`.
//!
//! Promises that every implementation keeps, and the conformance suite checks:
//!
//! - Each state change takes the next [`Version`](heliograph_core::id::Version) of one gapless counter in the same
//!   transaction, and leaves one row in the hash-chained log ([`heliograph_core::chain`]) with that number. A change
//!   is all or nothing.
//! - A transition names the state it expects; of two that race, one succeeds and the other gets
//!   [`StoreError::Conflict`] with the state that the winner left.
//! - What was answered is durable, as far as the backend is durable at all.
//! - Secrets are never stored: callers hand in keyed hashes ([`SecretHash`]).
//! - The caller hands in the time (milliseconds since the Unix epoch) and all random values; a store has neither.
//! - A call that is refused changes nothing, takes no version and leaves no row in the log.
//!
//! What backends have in common and must do alike is here: the words of the log ([`record`]), pages ([`page`]),
//! leases that live in one process ([`local`]).

use async_trait::async_trait;
use heliograph_core::pairing::PairingState;

pub use keys::{ApiKey, ApiKeys, NewKey};
pub use leases::{Hint, LeaseRow, Leases, Renewal, StandingChange};
pub use log::{AuditLog, LogEntry, detail};
pub use pairings::{
    EXPIRED_INVITES_CLEARED, GROUP_STEP, Group, GroupStep, Invite, NewInvite, Origin, Pairing, Pairings,
    PeerRecord, Redemption,
};

mod keys;
mod leases;
pub mod local;
mod log;
pub mod memory;
pub mod page;
mod pairings;
pub mod record;
#[cfg(feature = "testing")]
pub mod testing;

/// Milliseconds since the Unix epoch. For records and expiry of invites only; leases never look at it.
pub type UnixMillis = i64;

/// A keyed hash of a secret (key, token, code). Equal secrets have equal hashes, so it can be looked up.
pub type SecretHash = [u8; 32];

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing has that id (or, for an invite: it is wrong, used, revoked or expired, which look the same).
    #[error("not found")]
    NotFound,
    /// The pairing or peer is in another state than the change expects; this is the state it is in.
    #[error("not possible: it is {}", .0.as_str())]
    Conflict(PairingState),
    /// The id, code, secret or peer exists already; nothing is overwritten.
    #[error("exists already")]
    Exists,
    /// A bound of the store is reached (pending devices or open invites of a mesh).
    #[error("limit reached")]
    Full,
    /// The backend cannot be reached or refused; the caller may try again.
    #[error("storage unavailable: {0}")]
    Unavailable(String),
    /// What is stored does not make sense (a damaged file, a foreign schema).
    #[error("storage inconsistent: {0}")]
    Inconsistent(String),
}

/// What stores answer.
pub type Result<T> = std::result::Result<T, StoreError>;

/// Who changes something, and when.
#[derive(Debug, Clone)]
pub struct By<'a> {
    /// A key id, or `system`.
    pub actor: &'a str,
    /// When.
    pub now: UnixMillis,
}

/// A page of a list: rows after `cursor`, at most `limit`. A cursor that no page of this list answered is
/// `NotFound`. Rows that come to be while one pages forward appear neither twice nor in place of others.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Where the previous page ended; `None`: from the start.
    pub cursor: Option<String>,
    /// At most so many rows; 0 stands for [`heliograph_core::limits::DEFAULT_PAGE`], and more than
    /// [`heliograph_core::limits::MAX_PAGE`] for that.
    pub limit: u32,
}

/// Rows and where the next page starts.
#[derive(Debug, Clone)]
pub struct Rows<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Set when there are more.
    pub next: Option<String>,
}

/// Small values that all nodes of an installation share (the key of the secret hashes).
#[async_trait]
pub trait Settings: Send + Sync {
    /// The value of `name`; the first caller's `initial` becomes it.
    async fn setting(&self, name: &str, initial: &[u8]) -> Result<Vec<u8>>;
    /// A cheap look whether the backend answers.
    async fn ping(&self) -> Result<()>;
}

/// All that a backend keeps.
pub trait Store: Pairings + ApiKeys + AuditLog + Leases + Settings {}

impl<T: Pairings + ApiKeys + AuditLog + Leases + Settings> Store for T {}
