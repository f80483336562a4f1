//! A crowd that comes and goes: everybody gets a list, and the node gets its memory back.

use std::sync::Arc;

use heliograph_testkit::jwt::hand_signed;
use heliograph_testkit::server::write_keys;
use heliograph_testkit::{Access, NodeProcess, eventually};
use tempfile::TempDir;
use tokio::sync::Barrier;

use crate::introduction::{NO_LIMITS, first_list, stand_ready};

/// All peers join at once and leave again; how many introductions there were.
async fn come_and_go(node: &Access, peers: usize) -> usize {
    let barrier = Arc::new(Barrier::new(peers));
    let tasks: Vec<_> = (0..peers)
        .map(|i| {
            let (access, barrier, token) =
                (node.clone(), Arc::clone(&barrier), hand_signed(&format!("peer-{i}")));
            tokio::spawn(async move {
                let mut client = stand_ready(&access, i, &token).await;
                barrier.wait().await;
                let list = first_list(&mut client).await;
                barrier.wait().await;
                client.close().await;
                list.len()
            })
        })
        .collect();
    let mut introduced = 0;
    for task in tasks {
        introduced += task.await.unwrap();
    }
    introduced
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_all_get_their_lists_and_leave_nothing_behind() {
    const PEERS: usize = 1_000;
    let data = TempDir::new().unwrap();
    let keys = write_keys(data.path(), PEERS);
    let settings = [&NO_LIMITS[..], &[("API_KEYS_FILE", &keys)]].concat();
    let node = NodeProcess::start(env!("CARGO_BIN_EXE_heliograph-testnode"), data.path(), &settings).await;
    let mut afterwards = vec![];
    for _ in 0..5 {
        let introduced = come_and_go(&node, PEERS).await;
        assert_eq!(introduced, PEERS * (PEERS - 1) / 2);
        eventually("all sessions are over", async || {
            let sessions = node.metric(r#"heliograph_sessions{dialect="mesh"}"#).await;
            let connections = node.metric("heliograph_connections").await;
            (sessions == 0 && connections <= 1).then_some(())
        })
        .await;
        afterwards.push(node.resident_bytes().await);
    }
    // The allocator keeps some of what the first ones needed, and uses it again. 8 KB for each session that was
    // would be 24 MB more after three further rounds.
    let growth = afterwards[4] - afterwards[1];
    assert!(growth < 16_000_000, "{afterwards:?}");
}
