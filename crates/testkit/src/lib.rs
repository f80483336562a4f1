//! For tests: nodes in this process, and clients that speak to them through real sockets.

pub mod client;
pub mod http;
pub mod server;

pub use client::{Closed, MeshClient};
pub use http::{Answer, Api};
pub use server::TestServer;

use std::time::Duration;

/// How long a test waits for a state before it fails. Generous: the bound is there so that nothing hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value; panics with `what` after [`PATIENCE`].
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < give_up, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
