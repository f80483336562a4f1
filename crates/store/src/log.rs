//! The hash-chained log: each change of state is a row of it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use heliograph_core::authority::Standing;
use heliograph_core::chain::Hash;
use heliograph_core::id::{MeshName, PeerId, Version};

use crate::{Page, Result, Rows, UnixMillis};

/// A row of the log: a change of state, and the audit entry of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Its number.
    pub version: Version,
    /// When.
    pub at: UnixMillis,
    /// Who did it.
    pub actor: String,
    /// What was done: `invite.create`, `invite.revoke`, `pair`, `approve`, `reject`, `revoke`, `token.issue`,
    /// `key.create`, `key.revoke`.
    pub action: String,
    /// The mesh.
    pub mesh: String,
    /// What it was done to.
    pub subject: String,
    /// More, as a JSON object in text, keys sorted.
    pub detail: String,
    /// The peer whose standing changed, and to what. The chain covers it by what it follows from: `pair`,
    /// `approve`, `reject` and `revoke` always change it, key actions where the detail has a `standing`.
    pub standing: Option<(PeerId, Standing)>,
    /// Hash of the row before.
    pub previous: Hash,
    /// Hash of this row.
    pub hash: Hash,
}

impl LogEntry {
    /// The part of the row that the hash chain covers.
    pub fn link(&self) -> heliograph_core::chain::Link<'_> {
        heliograph_core::chain::Link {
            version: self.version,
            at_unix_ms: self.at,
            actor: &self.actor,
            action: &self.action,
            mesh: &self.mesh,
            subject: &self.subject,
            detail: &self.detail,
        }
    }
}

/// Builds the `detail` of a [`LogEntry`]: a JSON object with sorted keys, so that equal details have equal bytes.
pub fn detail(pairs: &[(&str, &str)]) -> String {
    let map: BTreeMap<_, _> = pairs.iter().copied().collect();
    serde_json::to_string(&map).unwrap_or_default()
}

/// The log.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Newest first; the cursor is the version below which to go on.
    async fn log(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<LogEntry>>;
    /// Ascending from `after`, at most `limit`: what a check of the chain reads.
    async fn log_after(&self, after: Version, limit: u32) -> Result<Vec<LogEntry>>;
    /// The newest version; 0 before the first change.
    async fn version(&self) -> Result<Version>;
}
