//! `heliograph migrate`: brings the database to this version, and ends.

use anyhow::{Context, Result, bail};
use heliograph_store_sqlite::SqliteStore;

use crate::config::MigrationConfig;
use crate::telemetry;

/// Opens the database, which brings it to this version, and closes it. Blocks, with a runtime of its own.
pub fn migrate(config: &MigrationConfig) -> Result<()> {
    let Some(path) = config.storage.sqlite_file() else {
        bail!("this build supports sqlite:// only: set database_url to sqlite://PATH");
    };
    let _guard = telemetry::init(&config.logging)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        let store = SqliteStore::open(path).await?;
        store.close().await;
        Ok(())
    })
}
