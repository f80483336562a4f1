//! For tests: nodes in this process or as processes, and clients that speak to them through real sockets.

#![expect(clippy::panic, reason = "a test fails by a panic, and what helps tests fails the same way")]

pub mod access;
pub mod agent;
pub mod client;
pub mod cluster;
pub mod flaky;
pub mod history;
pub mod http;
pub mod jwt;
pub mod process;
pub mod ring;
pub mod server;

pub use access::{ADMIN_KEY, Access, Paired, text};
pub use agent::{Agent, LocalProgram};
pub use client::{Closed, Dial, MeshClient, peers};
pub use cluster::{Cluster, ClusterServer, Node, Plan, RedisKind};
pub use flaky::FlakyStore;
pub use http::{Answer, Api};
pub use process::NodeProcess;
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

/// Waits for `future` for [`PATIENCE`] at most.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}
