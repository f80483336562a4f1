//! The schema: bringing it to this version, and refusing another one.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection};
use tokio::time::{sleep, timeout};

use crate::address::Address;
use crate::error::OpenError;

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrations = sqlx::migrate!("../../migrations/postgres");
    migrations.set_locking(false); // see `lock`
    migrations
});

/// The advisory lock of whoever migrates: "HELIOGRA".
pub(crate) const LOCK: i64 = 0x4845_4C49_4F47_5241;
/// How often those who wait for it ask.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long migrating may take, with the wait for others who do the same.
const MIGRATION_PATIENCE: Duration = Duration::from_mins(10);

type Result<T> = std::result::Result<T, OpenError>;

/// Brings the schema to this version, one at a time. The lock ends with the connection, which is therefore not used
/// for anything else.
pub(crate) async fn migrate(address: &Address, mut connection: PgConnection) -> Result<()> {
    let run = async {
        lock(&mut connection).await.map_err(|error| OpenError::sql(address, &error))?;
        refuse_newer(address, &applied(address, &mut connection).await?)?;
        let run = MIGRATIONS.run_direct(None, &mut connection, false).await;
        run.map_err(|error| OpenError::migration(address, &error))
    };
    let stuck = |_| OpenError::MigrationStuck { server: address.name.clone(), waited: MIGRATION_PATIENCE };
    timeout(MIGRATION_PATIENCE, run).await.map_err(stuck)??;
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the connection of the migration was not closed cleanly");
    }
    Ok(())
}

/// Asks again and again instead of waiting in the database, as the driver would: an index that is built concurrently
/// waits for every statement that is under way, so the two would wait for each other.
async fn lock(connection: &mut PgConnection) -> sqlx::Result<()> {
    loop {
        let lock = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK);
        if lock.fetch_one(&mut *connection).await? {
            return Ok(());
        }
        sleep(ASK_EVERY).await;
    }
}

/// Refuses every schema but this program's.
pub(crate) async fn check(address: &Address, connection: &mut PgConnection) -> Result<()> {
    let applied = applied(address, connection).await?;
    refuse_newer(address, &applied)?;
    let server = || address.name.clone();
    let (found, needed) = (newest(&applied), known());
    if found < needed {
        return Err(OpenError::Older { server: server(), found, needed });
    }
    for migration in MIGRATIONS.iter() {
        let same = |row: &Applied| row.version == migration.version && row.checksum == *migration.checksum;
        if !applied.iter().any(same) {
            let reason = format!("migration {} is another one", migration.version);
            return Err(OpenError::ForeignSchema { server: server(), reason });
        }
    }
    Ok(())
}

/// A migration that the database has.
#[derive(sqlx::FromRow)]
struct Applied {
    version: i64,
    checksum: Vec<u8>,
}

async fn applied(address: &Address, connection: &mut PgConnection) -> Result<Vec<Applied>> {
    let failed = |error: sqlx::Error| OpenError::sql(address, &error);
    let exists = sqlx::query_scalar::<_, bool>("SELECT to_regclass('_sqlx_migrations') IS NOT NULL");
    if !exists.fetch_one(&mut *connection).await.map_err(failed)? {
        return Ok(vec![]);
    }
    let rows =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version");
    rows.fetch_all(connection).await.map_err(failed)
}

fn refuse_newer(address: &Address, applied: &[Applied]) -> Result<()> {
    let (found, known) = (newest(applied), known());
    if found > known {
        return Err(OpenError::Newer { server: address.name.clone(), found, known });
    }
    Ok(())
}

fn newest(applied: &[Applied]) -> i64 {
    applied.iter().map(|row| row.version).max().unwrap_or_default()
}

fn known() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}
