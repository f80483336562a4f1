//! The log, as it is read.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, Version};
use heliograph_store::{AuditLog, LogEntry, Page, Result, Rows};

use crate::SqliteStore;
use crate::error::refused;
use crate::list::{fetch, newest_first};
use crate::row::{HeadRow, LogRow, number, select_log};

#[async_trait]
impl AuditLog for SqliteStore {
    async fn log(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<LogEntry>> {
        let query = newest_first(select_log!(""), "version", mesh, &page)?;
        fetch::<LogRow>(&self.readers, query, "version DESC", &page).await
    }

    async fn log_after(&self, after: Version, limit: u32) -> Result<Vec<LogEntry>> {
        let rows = sqlx::query_as::<_, LogRow>(select_log!("WHERE version > ? ORDER BY version LIMIT ?"))
            .bind(number(after))
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .map_err(refused)?;
        rows.into_iter().map(LogEntry::try_from).collect()
    }

    async fn version(&self) -> Result<Version> {
        Ok(HeadRow::read(&self.readers).await?.version)
    }
}
