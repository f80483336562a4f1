//! What the driver's errors mean: for a call ([`Refusal`], [`StoreError`]) and for the one who starts the program
//! ([`OpenError`]).
//!
//! Postgres repeats values and statements in its messages, so none of them is passed on: only its code is, with
//! words of ours.

use std::io;
use std::time::Duration;

use heliograph_store::StoreError;
use sqlx::error::DatabaseError;
use sqlx::migrate::MigrateError;

use crate::address::Address;

/// Why a database could not be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read.
    #[error(
        "the database URL cannot be used ({reason}): it has to be postgres://user:password@host:port/database, \
         with special characters percent-encoded"
    )]
    BadUrl {
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing answers there.
    #[error(
        "{server} cannot be reached ({reason}): check that PostgreSQL runs there and that host and port are right"
    )]
    Unreachable {
        /// Database, host and port.
        server: String,
        /// What the system said.
        reason: String,
    },
    /// The connection cannot be encrypted as asked.
    #[error(
        "no encrypted connection to {server} ({reason}): check sslmode and sslrootcert in the database URL"
    )]
    Encryption {
        /// Database, host and port.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// The password, or its user.
    #[error("{server} refuses the user {user:?}: check the user name and the password in the database URL")]
    WrongPassword {
        /// Database, host and port.
        server: String,
        /// The user.
        user: String,
    },
    /// The user does not exist, or may not come from here.
    #[error(
        "{server} does not let the user {user:?} in: create the role (CREATE ROLE … LOGIN PASSWORD …), or allow it \
         in pg_hba.conf"
    )]
    NotAdmitted {
        /// Database, host and port.
        server: String,
        /// The user.
        user: String,
    },
    /// The database is not there.
    #[error(
        "{server} does not exist: create it (CREATE DATABASE {database:?} OWNER {user:?}), or name another one"
    )]
    NoDatabase {
        /// Database, host and port.
        server: String,
        /// The database.
        database: String,
        /// The user.
        user: String,
    },
    /// The server has no connection left.
    #[error(
        "{server} has no connection left: raise max_connections there, or lower the number of connections here"
    )]
    TooManyConnections {
        /// Database, host and port.
        server: String,
    },
    /// The user lacks a right.
    #[error("the user {user:?} may not do that in {server}: make it the owner of the database")]
    NotAllowed {
        /// Database, host and port.
        server: String,
        /// The user.
        user: String,
    },
    /// It is a copy that only reads.
    #[error("{server} is a standby that takes no changes: name the primary")]
    Standby {
        /// Database, host and port.
        server: String,
    },
    /// It cannot hold all texts.
    #[error("{server} stores text as {encoding}: create a database with ENCODING 'UTF8' TEMPLATE template0")]
    Encoding {
        /// Database, host and port.
        server: String,
        /// Its encoding.
        encoding: String,
    },
    /// The schema is missing or of an earlier version.
    #[error(
        "{server} is not ready for this version (schema {found}, needed {needed}): run heliograph migrate first"
    )]
    Older {
        /// Database, host and port.
        server: String,
        /// Its schema version; 0 if it has none.
        found: i64,
        /// This program's schema version.
        needed: i64,
    },
    /// A newer program has migrated it.
    #[error(
        "{server} was migrated by a newer version (schema {found}, this program knows {known}): run that version, \
         or restore the backup from before the update"
    )]
    Newer {
        /// Database, host and port.
        server: String,
        /// Its schema version.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// Its schema came about by other migrations than this program's.
    #[error(
        "the schema of {server} is not the one that this program makes ({reason}): name a database of its own, or \
         restore a backup"
    )]
    ForeignSchema {
        /// Database, host and port.
        server: String,
        /// What differs.
        reason: String,
    },
    /// Migrating did not come to an end.
    #[error("{server} was not migrated within {} s: see in pg_stat_activity what holds it up, then run it again", waited.as_secs())]
    MigrationStuck {
        /// Database, host and port.
        server: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Anything else.
    #[error("{server} cannot be opened: {reason}")]
    Other {
        /// Database, host and port.
        server: String,
        /// What the system or the driver said.
        reason: String,
    },
}

impl OpenError {
    /// A failure of the driver while opening the database.
    pub(crate) fn sql(address: &Address, error: &sqlx::Error) -> Self {
        let server = address.name.clone();
        match error {
            sqlx::Error::Database(error) => Self::of_postgres(address, error.as_ref()),
            // So rustls says what it does not like about a certificate.
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                Self::Encryption { server, reason: error.to_string() }
            }
            sqlx::Error::Io(error) => Self::Unreachable { server, reason: error.to_string() },
            sqlx::Error::Tls(error) => Self::Encryption { server, reason: error.to_string() },
            sqlx::Error::Configuration(error) => Self::BadUrl { reason: error.to_string() },
            other => Self::Other { server, reason: other.to_string() },
        }
    }

    /// Nothing came back in time.
    pub(crate) fn no_answer(address: &Address, waited: Duration) -> Self {
        let reason = format!("no answer within {} s", waited.as_secs());
        Self::Unreachable { server: address.name.clone(), reason }
    }

    /// A failure of the migrations.
    pub(crate) fn migration(address: &Address, error: &MigrateError) -> Self {
        match error {
            MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => {
                Self::sql(address, cause)
            }
            other => Self::ForeignSchema { server: address.name.clone(), reason: other.to_string() },
        }
    }

    fn of_postgres(address: &Address, error: &dyn DatabaseError) -> Self {
        let (server, user) = (address.name.clone(), address.user().to_owned());
        match error.code().as_deref().unwrap_or_default() {
            "28P01" => Self::WrongPassword { server, user },
            "28000" => Self::NotAdmitted { server, user },
            "3D000" => Self::NoDatabase { server, database: address.database().to_owned(), user },
            "53300" => Self::TooManyConnections { server },
            "42501" => Self::NotAllowed { server, user },
            "25006" => Self::Standby { server },
            // A table, function or index that is there already.
            "42P07" | "42723" | "42710" => Self::ForeignSchema { server, reason: error.message().to_owned() },
            "57P03" => Self::Unreachable { server, reason: "it is starting up or shutting down".to_owned() },
            _ => Self::Other { server, reason: error.message().to_owned() },
        }
    }
}

/// Why a try did not lead to an answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// This is the answer.
    Final(StoreError),
    /// The connection is of no use any more, and nothing was committed over it: another one may do.
    Broken(StoreError),
    /// Postgres took the transaction back for the sake of another: it may be tried again.
    Clash(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Final(error) | Refusal::Broken(error) | Refusal::Clash(error) => error,
        }
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => of_postgres(error.as_ref()),
            sqlx::Error::PoolTimedOut => Self::Final(unavailable("no connection to the database in time")),
            sqlx::Error::PoolClosed => Self::Final(unavailable("the store is closed")),
            sqlx::Error::Io(error) => {
                Self::Broken(unavailable(format!("connection to the database lost ({})", error.kind())))
            }
            sqlx::Error::Tls(_) => Self::Broken(unavailable("no encrypted connection to the database")),
            sqlx::Error::Protocol(_) => Self::Broken(unavailable("the database answered what nobody asked")),
            sqlx::Error::ColumnDecode { index, .. } => {
                Self::Final(inconsistent(format!("column {index} cannot be read")))
            }
            sqlx::Error::RowNotFound => Self::Final(inconsistent("a row that is always there is missing")),
            sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_) => {
                Self::Final(inconsistent("a row cannot be read"))
            }
            _ => Self::Final(unavailable("the database driver refused")),
        }
    }
}

/// What is stored does not make sense.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it in by value")]
pub(crate) fn inconsistent(what: impl ToString) -> StoreError {
    StoreError::Inconsistent(what.to_string())
}

/// The backend cannot be reached or refused.
pub(crate) fn unavailable(why: impl Into<String>) -> StoreError {
    StoreError::Unavailable(why.into())
}

/// The uniqueness that a caller's ids, codes and secrets can run into. Any other that fails is a mistake of ours.
const TAKEN: [&str; 7] = [
    "invites_pkey",
    "invites_open_code",
    "peers_pkey",
    "pairings_pkey",
    "pairings_device_token",
    "api_keys_pkey",
    "api_keys_secret",
];

/// By the code of the error: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_postgres(error: &dyn DatabaseError) -> Refusal {
    let code = error.code().unwrap_or_default();
    let constraint = error.constraint().unwrap_or("without a name");
    let class = code.get(..2).unwrap_or_default();
    let refused = |what: &str| unavailable(format!("{what} (Postgres error {code})"));
    match (class, &*code) {
        (_, "23505") if TAKEN.contains(&constraint) => Refusal::Final(StoreError::Exists),
        ("23", _) => Refusal::Final(inconsistent(format!("a row breaks the constraint {constraint}"))),
        // A text with a zero byte: Postgres cannot have it, so nothing is called that.
        (_, "22021") => Refusal::Final(StoreError::NotFound),
        (_, "40001" | "40P01") => Refusal::Clash(refused("the database chose another transaction")),
        (_, "25006") => Refusal::Broken(refused("the database takes no changes at the moment")),
        (_, "25P03") => Refusal::Broken(refused("a change stood still for too long and was taken back")),
        ("08", _) | (_, "57P01" | "57P02" | "57P03" | "57P04" | "57P05") => {
            Refusal::Broken(refused("the database ended the connection"))
        }
        (_, "55P03") => Refusal::Final(refused("other changes held the database up for too long")),
        (_, "57014") => Refusal::Final(refused("the database did not answer in time")),
        (_, "53100") => Refusal::Final(refused("no room on the disk of the database")),
        ("53", _) => Refusal::Final(refused("the database is out of resources")),
        (_, "42501") => Refusal::Final(refused("the database user lacks a right")),
        ("42" | "XX", _) => {
            Refusal::Final(inconsistent(format!("the database is not as it should be (error {code})")))
        }
        _ => Refusal::Final(refused("the database refused")),
    }
}
