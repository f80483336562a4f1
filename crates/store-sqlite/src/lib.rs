//! The store over one SQLite file: the durable default of a single node.
//!
//! One process has the file at a time. Changes go one after another over one connection, each in a transaction of
//! its own that reads the end of the log first and writes it last (`change.rs`); what was answered is on the disk
//! (`synchronous = FULL`). Reads go over a few read-only connections, which in WAL mode never wait for a change.
//! Leases live in memory, as only this process could hold one; a renewal and a change exclude each other by the
//! lock around the writing connection.
//!
//! To add a column: a migration (`migrations/README.md`), the row struct in `row.rs`, the verb that needs it. To
//! add a verb: the conformance suite of `heliograph-store` first.

use std::fs::File;
use std::path::Path;

use heliograph_store::local::LocalLeases;
use sqlx::SqlitePool;
use tokio::sync::RwLock;

use crate::change::Writer;

mod change;
mod error;
mod group;
mod invites;
mod keys;
mod leases;
mod list;
mod log;
mod open;
mod pairings;
mod row;
mod settings;
#[cfg(test)]
mod tests;

pub use error::OpenError;

/// A store in one file.
#[derive(Debug)]
pub struct SqliteStore {
    /// Taken exclusively for a change, shared for a renewal.
    writer: RwLock<Writer>,
    readers: SqlitePool,
    leases: LocalLeases,
    /// Says "in use" to other processes for as long as it is open.
    _claim: File,
}

impl SqliteStore {
    /// Opens the file, makes it if it does not exist, and brings it to this version.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        open::open(path.as_ref()).await
    }

    /// Writes everything back into the one file, so that it can be copied. Later calls are refused.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.write().await.close().await;
    }
}
