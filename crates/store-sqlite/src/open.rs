//! Opening the file: claim it, look at what it is, bring it to this version.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use heliograph_store::local::LocalLeases;
use sqlx::migrate::Migrator;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool};
use tokio::sync::RwLock;

use crate::SqliteStore;
use crate::change::Writer;
use crate::error::OpenError;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// "HELI", set by the first migration.
const APPLICATION_ID: i64 = 0x4845_4C49;
/// Connections that read. Point reads take microseconds, so a few serve many.
const READERS: u32 = 4;
/// How long to wait for a foreign tool that has the file locked. Our own calls never wait for each other here.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a read waits for a free connection before it says "unavailable".
const READER_TIMEOUT: Duration = Duration::from_secs(5);
/// After a burst the write-ahead log is cut back to this many bytes.
const WAL_BYTES_KEPT: &str = "16777216";

type Result<T> = std::result::Result<T, OpenError>;

pub(crate) async fn open(path: &Path) -> Result<SqliteStore> {
    let claim = claim(path)?;
    let failed = |error: sqlx::Error| OpenError::sql(path, &error);
    let mut connection = options(path).create_if_missing(true).connect().await.map_err(failed)?;
    check_that_it_is_ours(&mut connection, path).await?;
    use_wal(&mut connection, path).await?;
    MIGRATIONS.run_direct(None, &mut connection, false).await.map_err(|e| OpenError::migration(path, &e))?;
    let readers = readers(path).await.map_err(failed)?;
    Ok(SqliteStore {
        writer: RwLock::new(Writer::new(connection)),
        readers,
        leases: LocalLeases::default(),
        _claim: claim,
    })
}

/// Locks a file beside the database. Not the database itself: SQLite holds locks of its own on it, which a second
/// file handle of the same process would drop. The system drops ours when the process ends, however it ends.
fn claim(path: &Path) -> Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| OpenError::io(path, directory, &error);
    let file = File::options().create(true).truncate(false).write(true).open(&beside).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// Half a megabyte per connection (negative: kibibytes) instead of two: what is read is a handful of rows by index,
/// and the kernel caches the file as well.
const CACHE: &str = "-512";

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .foreign_keys(true)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("journal_size_limit", WAL_BYTES_KEPT)
        .pragma("cache_size", CACHE)
        .disable_statement_logging()
}

/// Before anything is written: an empty file, or one of ours that is not newer than this program.
async fn check_that_it_is_ours(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let failed = |error: sqlx::Error| OpenError::sql(path, &error);
    let tables: i64 = scalar(connection, "SELECT count(*) FROM sqlite_schema").await.map_err(failed)?;
    if tables == 0 {
        return Ok(());
    }
    if scalar(connection, "PRAGMA application_id").await.map_err(failed)? != APPLICATION_ID {
        let reason = "it belongs to another program".to_owned();
        return Err(OpenError::NotADatabase { path: path.to_owned(), reason });
    }
    let found = scalar(connection, "SELECT coalesce(max(version), 0) FROM _sqlx_migrations").await;
    let found = found.map_err(failed)?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// Asked for by hand, because SQLite answers the mode that it could get rather than an error.
async fn use_wal(connection: &mut SqliteConnection, path: &Path) -> Result<()> {
    let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(connection).await;
    let mode = mode.map_err(|error| OpenError::sql(path, &error))?;
    if mode != "wal" {
        let reason =
            format!("its file system allows no write-ahead log (journal mode {mode}); use a local disk");
        return Err(OpenError::Other { path: path.to_owned(), reason });
    }
    Ok(())
}

async fn readers(path: &Path) -> sqlx::Result<SqlitePool> {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(READER_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false) // a local file does not hang up, and the test would double the time of a read
        .connect_with(options(path).read_only(true))
        .await
}

async fn scalar(connection: &mut SqliteConnection, sql: &'static str) -> sqlx::Result<i64> {
    sqlx::query_scalar(sql).fetch_one(connection).await
}
