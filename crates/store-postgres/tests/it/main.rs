//! The Postgres store keeps the promises of the traits, also among several nodes and over failures of the database,
//! and explains why it does not open.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use heliograph_store::testing::Fresh;

mod cluster;
mod described;
mod encryption;
mod failures;
mod network;
mod opening;
mod support;
mod triggers;
mod until;

async fn fresh() -> Fresh {
    let database = support::migrated().await;
    Fresh::keeping(support::store(&database).await, database)
}

mod conformance {
    heliograph_store::conformance!(super::fresh);
}
