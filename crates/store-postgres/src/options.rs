//! What may be set about a store, and what that means for Postgres.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;

/// How a store uses its database. The defaults suit a lease term of 3 s.
#[derive(Debug, Clone)]
pub struct Options {
    /// Brings the database to this version when it is opened, instead of refusing an older one.
    pub auto_migrate: bool,
    /// Connections for calls at most. Leases have two more to themselves, and one listens for notifications.
    pub max_connections: u32,
    /// How long a call waits for a connection, and how long connecting may take.
    pub acquire_timeout: Duration,
    /// How long a call may take altogether, tries included.
    pub call_timeout: Duration,
    /// How long Postgres may work on one statement.
    pub statement_timeout: Duration,
    /// How long a statement waits for others: changes and renewals for the change in progress.
    pub lock_timeout: Duration,
    /// How long a change that was begun may say nothing before Postgres takes it back. It holds up the changes and
    /// renewals of all nodes, so this is shorter than a lease and than `lock_timeout`: a node that is frozen in
    /// the middle of a change costs the others no lease.
    pub idle_in_transaction_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            auto_migrate: false,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(3),
            call_timeout: Duration::from_secs(8),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            idle_in_transaction_timeout: Duration::from_secs(1),
        }
    }
}

impl Options {
    /// The settings of each connection that serves calls.
    pub(crate) fn apply(&self, connect: PgConnectOptions) -> PgConnectOptions {
        connect.options([
            ("statement_timeout", self.statement_timeout.as_millis()),
            ("lock_timeout", self.lock_timeout.as_millis()),
            ("idle_in_transaction_session_timeout", self.idle_in_transaction_timeout.as_millis()),
        ])
    }
}
