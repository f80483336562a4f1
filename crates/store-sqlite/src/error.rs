//! What the driver's errors mean: for a call ([`StoreError`]) and for the one who starts the program
//! ([`OpenError`]).

use std::io;
use std::path::{Path, PathBuf};

use heliograph_store::StoreError;
use sqlx::migrate::MigrateError;

/// Why a database could not be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not there.
    #[error("the directory {} does not exist: create it, or name another place for the database", .0.display())]
    NoDirectory(PathBuf),
    /// The directory or file may not be written.
    #[error("{} cannot be written ({reason}): let this user write there, or name another place for the database", path.display())]
    NotWritable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The file is something else.
    #[error("{} is not a database of this program ({reason}): name another file, or move this one away", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A newer program has written the file.
    #[error(
        "{} was written by a newer version (schema {found}, this program knows {known}): \
         run that version, or restore the copy from before the update",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version that this program knows.
        known: i64,
    },
    /// Its schema came about by other migrations than this program's.
    #[error("the schema of {} is not the one that this program makes ({reason}): restore a copy of the file", path.display())]
    ForeignSchema {
        /// The file.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// Another process, or another store of this one, has the file.
    #[error("{} is in use by another process: stop that one first, only one at a time may have the file", .0.display())]
    Locked(PathBuf),
    /// There is no room.
    #[error("no room on the disk of {}: make some, then start again; nothing was lost", .0.display())]
    DiskFull(PathBuf),
    /// Anything else.
    #[error("{} cannot be opened: {reason}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What the system or the driver said.
        reason: String,
    },
}

impl OpenError {
    /// A failure of the driver while opening `path`.
    pub(crate) fn sql(path: &Path, error: &sqlx::Error) -> Self {
        let (path, reason) = (path.to_owned(), error.to_string());
        match Failure::of(error) {
            Failure::Busy => Self::Locked(path),
            Failure::ReadOnly | Failure::CannotOpen => Self::NotWritable { path, reason },
            Failure::Damaged => Self::NotADatabase { path, reason },
            Failure::Full => Self::DiskFull(path),
            Failure::Taken | Failure::Unreadable | Failure::Other => Self::Other { path, reason },
        }
    }

    /// A failure of the system at `place` while opening `path`.
    pub(crate) fn io(path: &Path, place: &Path, error: &io::Error) -> Self {
        let reason = error.to_string();
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoDirectory(place.to_owned()),
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory => Self::NotWritable { path: place.to_owned(), reason },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path.to_owned()),
            _ => Self::Other { path: path.to_owned(), reason },
        }
    }

    /// A failure of the migrations of `path`.
    pub(crate) fn migration(path: &Path, error: &MigrateError) -> Self {
        match error {
            MigrateError::Execute(cause) | MigrateError::ExecuteMigration(cause, _) => Self::sql(path, cause),
            other => Self::ForeignSchema { path: path.to_owned(), reason: other.to_string() },
        }
    }
}

/// What a call answers when the driver refused.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it in by value")]
pub(crate) fn refused(error: sqlx::Error) -> StoreError {
    match Failure::of(&error) {
        Failure::Taken => StoreError::Exists,
        Failure::Damaged | Failure::Unreadable => StoreError::Inconsistent(error.to_string()),
        Failure::Full => StoreError::Unavailable("no room on the disk".to_owned()),
        Failure::Busy | Failure::ReadOnly | Failure::CannotOpen | Failure::Other => {
            StoreError::Unavailable(error.to_string())
        }
    }
}

/// What is stored does not make sense.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it in by value")]
pub(crate) fn inconsistent(what: impl ToString) -> StoreError {
    StoreError::Inconsistent(what.to_string())
}

/// The uniqueness that a caller's ids, codes and secrets can run into. Any other that fails is a mistake of ours.
const TAKEN: [&str; 7] = [
    "invites.id",
    "invites.code",
    "peers.mesh, peers.peer",
    "pairings.id",
    "pairings.device_token",
    "api_keys.id",
    "api_keys.secret",
];

/// The kinds of failures that make a difference to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Taken,
    Busy,
    ReadOnly,
    CannotOpen,
    Damaged,
    Full,
    /// A row that does not fit our types or constraints.
    Unreadable,
    Other,
}

impl Failure {
    fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => Self::of_sqlite(error.as_ref()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::RowNotFound => {
                Self::Unreadable
            }
            _ => Self::Other,
        }
    }

    /// By the primary result code, the low byte of the extended one.
    fn of_sqlite(error: &dyn sqlx::error::DatabaseError) -> Self {
        let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or_default();
        match code & 0xff {
            5 | 6 => Self::Busy,
            8 => Self::ReadOnly,
            11 | 26 => Self::Damaged,
            13 => Self::Full,
            14 => Self::CannotOpen,
            19 if is_taken(error.message()) => Self::Taken,
            19 => Self::Unreadable,
            _ => Self::Other,
        }
    }
}

/// The message is the only place where SQLite names the constraint: "UNIQUE constraint failed: invites.id".
fn is_taken(message: &str) -> bool {
    message.rsplit_once(": ").is_some_and(|(_, columns)| TAKEN.contains(&columns))
}
