//! Leases.

use async_trait::async_trait;
use heliograph_core::id::{GatewayId, Version};
use heliograph_store::{Hint, LeaseRow, Leases, Renewal, Result};
use tokio::sync::watch;

use crate::PostgresStore;
use crate::calls::call;
use crate::error::inconsistent;
use crate::row::{RenewalRow, StoredLease, number};

#[async_trait]
impl Leases for PostgresStore {
    async fn renew(&self, gateway: &GatewayId, applied: Version, acknowledged: Version) -> Result<Renewal> {
        let rows = call!(self.lease_calls, |connection| {
            let rows = sqlx::query_as!(
                RenewalRow,
                r#"SELECT newest AS "newest!", version, mesh, peer, standing FROM renew_lease($1, $2, $3)"#,
                gateway.as_str(),
                number(applied),
                number(acknowledged),
            );
            Ok(rows.fetch_all(connection).await?)
        });
        let rows = rows?;
        let newest = rows.first().ok_or_else(|| inconsistent("a renewal without a version"))?.newest()?;
        let changes = rows.into_iter().filter_map(|row| row.change().transpose());
        Ok(Renewal { version: newest, changes: changes.collect::<Result<_>>()? })
    }

    async fn leases(&self) -> Result<Vec<LeaseRow>> {
        let rows = call!(self.lease_calls, |connection| {
            let rows = sqlx::query_as!(
                StoredLease,
                "SELECT gateway, acknowledged, beat FROM leases ORDER BY gateway"
            );
            Ok(rows.fetch_all(connection).await?)
        });
        rows?.into_iter().map(LeaseRow::try_from).collect()
    }

    /// Removed over a connection that then broke: the second try answers that there is nothing to remove.
    async fn remove_lease(&self, gateway: &GatewayId, beat: Option<u64>) -> Result<bool> {
        let beat = beat.map(|beat| number(Version(beat)));
        let removed = call!(self.lease_calls, |connection| {
            let remove = sqlx::query!(
                "WITH removed AS (
                    DELETE FROM leases WHERE gateway = $1 AND ($2::BIGINT IS NULL OR beat = $2) RETURNING gateway
                )
                SELECT pg_notify('heliograph', 'lease') FROM removed",
                gateway.as_str(),
                beat,
            );
            Ok(remove.execute(connection).await?.rows_affected())
        });
        Ok(removed? == 1)
    }

    fn hints(&self, of: Hint) -> watch::Receiver<u64> {
        self.hints.subscribe(of)
    }

    fn hint(&self) {
        self.hints.spread();
    }
}
