//! Small shared values, and the end of the log.

use async_trait::async_trait;
use heliograph_store::record::Head;
use heliograph_store::{Result, Settings};

use crate::PostgresStore;
use crate::calls::call;
use crate::row::HeadRow;

#[async_trait]
impl Settings for PostgresStore {
    async fn setting(&self, name: &str, initial: &[u8]) -> Result<Vec<u8>> {
        // The update that changes nothing is what makes an existing row come back.
        call!(self.calls, |connection| {
            let value = sqlx::query_scalar!(
                "INSERT INTO settings (name, value) VALUES ($1, $2)
                ON CONFLICT (name) DO UPDATE SET value = settings.value RETURNING value",
                name,
                initial,
            );
            Ok(value.fetch_one(connection).await?)
        })
    }

    async fn ping(&self) -> Result<()> {
        self.head().await.map(drop)
    }
}

impl PostgresStore {
    pub(crate) async fn head(&self) -> Result<Head> {
        let row = call!(self.calls, |connection| {
            let row = sqlx::query_as!(HeadRow, "SELECT version, hash FROM head WHERE id = 1");
            Ok(row.fetch_one(connection).await?)
        });
        row?.try_into()
    }
}
