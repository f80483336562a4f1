//! The SQLite store keeps the promises of the traits, survives being killed, and explains why it does not open.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

use heliograph_store::testing::Fresh;
use heliograph_store_sqlite::SqliteStore;

mod crash;
mod opening;

async fn fresh() -> Fresh {
    let directory = tempfile::tempdir().expect("a directory for the test");
    let store = SqliteStore::open(directory.path().join("store.db")).await.expect("a new store");
    Fresh::keeping(store, directory)
}

mod conformance {
    heliograph_store::conformance!(super::fresh);
}
