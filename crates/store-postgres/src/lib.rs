//! The store over PostgreSQL 15 or newer, which the nodes of a cluster share.
//!
//! - A change locks the one row of `head` `FOR UPDATE` before it looks at anything, and writes that row and its row
//!   of the log last, all in one transaction (`change.rs`): versions have no gaps, and changes of all nodes go one
//!   after another.
//! - A renewal takes that row `FOR SHARE` and reads what changed afterwards, in one round trip (`renew_lease` in the
//!   migrations, `leases.rs`). Renewals do not wait for each other.
//! - Changes, acknowledgements that go further and removed leases notify; every store listens on a connection of its
//!   own (`hints.rs`). A lost notification costs time, never correctness.
//! - No clock of the database is looked at.
//! - Each call has a connection of the pool to itself, a bound, and another try if the connection turns out to be
//!   broken (`calls.rs`). Only a `COMMIT` that got no answer is never tried again: the caller is told
//!   [`Unavailable`](heliograph_store::StoreError::Unavailable), and it may have happened.
//!
//! A pooler that gives each transaction another connection (PgBouncer's transaction mode) must not stand in between:
//! prepared statements, `LISTEN` and the lock of migrations belong to a connection.
//!
//! Fixed statements are checked when the crate is compiled, against descriptions in `.sqlx`. After changing one, or
//! a migration, run `crates/store-postgres/prepare.sh`: it starts a private PostgreSQL, migrates it and writes the
//! descriptions anew; a test compares them with the schema.
//!
//! To add a column: a migration (`migrations/README.md`), the row struct in `row.rs`, the verb that needs it. To
//! add a verb: the conformance suite of `heliograph-store` first.

#[cfg(test)]
extern crate self as heliograph_store_postgres; // what tests share names it so

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::calls::Calls;
use crate::hints::Hints;

mod address;
mod calls;
mod change;
mod error;
mod group;
mod hints;
mod invites;
mod keys;
mod leases;
mod list;
mod log;
mod open;
mod options;
mod pairings;
mod row;
mod schema;
mod settings;
#[cfg(test)]
mod tests;

pub use error::OpenError;
pub use options::Options;

/// How long a store that is closed waits for calls that are under way.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// A store in one database.
#[derive(Debug)]
pub struct PostgresStore {
    calls: Calls,
    /// For leases alone: a storm of logins that wants all connections costs no lease.
    lease_calls: Calls,
    hints: Arc<Hints>,
}

impl PostgresStore {
    /// Connects to the database at `url` (`postgres://user:password@host:port/database`, with the parameters of
    /// libpq such as `sslmode`), and refuses one whose schema is not this version's, unless `auto_migrate` brings it
    /// there first.
    pub async fn connect(url: &str, options: Options) -> Result<Self, OpenError> {
        open::connect(url, options).await
    }

    /// Brings the database at `url` to this version. Safe to run from several places at once: the others wait, and
    /// find nothing left to do.
    pub async fn migrate(url: &str) -> Result<(), OpenError> {
        open::migrate(url).await
    }

    /// Closes all connections, after calls that are under way (for a few seconds at most). Later calls are refused.
    pub async fn close(&self) {
        self.hints.stop();
        let both = async { tokio::join!(self.calls.close(), self.lease_calls.close()) };
        if timeout(CLOSE_PATIENCE, both).await.is_err() {
            tracing::warn!("calls to the database did not end in time; their connections are dropped");
        }
    }
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        self.hints.stop();
    }
}
