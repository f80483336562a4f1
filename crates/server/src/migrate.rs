//! `heliograph migrate`: brings the database to this version, and ends.

use anyhow::{Context, Result};

use crate::backends;
use crate::config::MigrationConfig;
use crate::telemetry;

/// Brings the database to this version. Blocks, with a runtime of its own.
pub fn migrate(config: &MigrationConfig) -> Result<()> {
    let _guard = telemetry::init(&config.logging)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(backends::migrate(&config.storage))
}
