//! The log, as it is read.

use async_trait::async_trait;
use heliograph_core::id::{MeshName, Version};
use heliograph_store::{AuditLog, LogEntry, Page, Result, Rows};

use crate::PostgresStore;
use crate::calls::call;
use crate::list::newest_first;
use crate::row::{LogRow, number};

#[async_trait]
impl AuditLog for PostgresStore {
    async fn log(&self, mesh: Option<&MeshName>, page: Page) -> Result<Rows<LogEntry>> {
        let below = page.below()?;
        self.list::<LogRow>(&page, "version DESC", || newest_first::<LogRow>("version", below, mesh)).await
    }

    async fn log_after(&self, after: Version, limit: u32) -> Result<Vec<LogEntry>> {
        let rows = call!(self.calls, |connection| {
            let rows = sqlx::query_as!(
                LogRow,
                "SELECT version, at, actor, action, mesh, subject, detail, peer, standing, previous, hash
                FROM log WHERE version > $1 ORDER BY version LIMIT $2",
                number(after),
                i64::from(limit),
            );
            Ok(rows.fetch_all(connection).await?)
        });
        rows?.into_iter().map(LogEntry::try_from).collect()
    }

    async fn version(&self) -> Result<Version> {
        Ok(self.head().await?.version)
    }
}
