//! Small shared values.

use async_trait::async_trait;
use heliograph_store::{Result, Settings};

use crate::SqliteStore;
use crate::error::refused;
use crate::row::HeadRow;

#[async_trait]
impl Settings for SqliteStore {
    async fn setting(&self, name: &str, initial: &[u8]) -> Result<Vec<u8>> {
        let mut writer = self.writer.write().await;
        // The update that changes nothing is what makes an existing row come back; one statement is a
        // transaction of its own.
        sqlx::query_scalar(
            "INSERT INTO settings (name, value) VALUES (?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = value RETURNING value",
        )
        .bind(name)
        .bind(initial)
        .fetch_one(writer.idle().await?)
        .await
        .map_err(refused)
    }

    async fn ping(&self) -> Result<()> {
        HeadRow::read(&self.readers).await.map(drop)
    }
}
