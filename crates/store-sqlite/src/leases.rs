//! Leases, in memory beside the file.

use async_trait::async_trait;
use heliograph_core::id::{GatewayId, Version};
use heliograph_store::{Hint, LeaseRow, Leases, Renewal, Result, StandingChange};
use tokio::sync::watch;

use crate::SqliteStore;
use crate::error::refused;
use crate::row::{HeadRow, StandingRow, number};

#[async_trait]
impl Leases for SqliteStore {
    async fn renew(&self, gateway: &GatewayId, applied: Version, acknowledged: Version) -> Result<Renewal> {
        // No change begins or ends while this is held. Should one commit after its caller went away (and with it
        // its own hold), it still finds the lease: the row comes before the look at the version.
        let _no_change = self.writer.read().await;
        self.leases.renew(gateway, acknowledged);
        let version = HeadRow::read(&self.readers).await?.version;
        let changes = if version > applied { self.standing_changes(applied, version).await? } else { vec![] };
        Ok(Renewal { version, changes })
    }

    async fn leases(&self) -> Result<Vec<LeaseRow>> {
        Ok(self.leases.rows())
    }

    async fn remove_lease(&self, gateway: &GatewayId, beat: Option<u64>) -> Result<bool> {
        Ok(self.leases.remove(gateway, beat))
    }

    fn hints(&self, of: Hint) -> watch::Receiver<u64> {
        self.leases.waiters().subscribe(of)
    }

    fn hint(&self) {
        self.leases.waiters().wake_all();
    }
}

impl SqliteStore {
    async fn standing_changes(&self, after: Version, up_to: Version) -> Result<Vec<StandingChange>> {
        let rows = sqlx::query_as::<_, StandingRow>(
            "SELECT version, mesh, peer, standing FROM log \
             WHERE peer IS NOT NULL AND version > ? AND version <= ? ORDER BY version",
        )
        .bind(number(after))
        .bind(number(up_to))
        .fetch_all(&self.readers)
        .await
        .map_err(refused)?;
        rows.into_iter().map(StandingChange::try_from).collect()
    }
}
