//! Who is introduced to whom when many come at the same moment.

use std::collections::HashSet;
use std::sync::Arc;

use heliograph_testkit::jwt::{SECRET, hand_signed};
use heliograph_testkit::server::write_keys;
use heliograph_testkit::{Access, MeshClient, NodeProcess, TestServer, eventually};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Barrier;

/// Limits of a single address off: here all clients have one.
const NO_LIMITS: [(&str, &str); 4] = [
    ("SIGNING_SECRET", SECRET),
    ("MAX_UPGRADES_PER_SECOND", "0"),
    ("MAX_SOCKETS_PER_ADDRESS", "0"),
    ("REGISTER_DEADLINE", "60s"),
];

/// Opens a socket for `peer-{i}` and waits until its session stands: an older one of this peer is out of all lists.
async fn stand_ready(access: &Access, i: usize, token: &str) -> MeshClient {
    let mut client = access.dial(token).reset_on_drop().open(&format!("peer-{i}")).await.unwrap();
    client.expect_silence().await;
    client
}

/// The numbers of the peers in a first list.
async fn first_list(client: &mut MeshClient) -> Vec<usize> {
    let number = |id: &String| id.trim_start_matches("peer-").parse().unwrap();
    client.register().await.iter().map(number).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_every_pair_exactly_one_has_the_other_in_its_first_list() {
    const PEERS: usize = 200;
    const ROUNDS: usize = 50;
    let server = TestServer::start_with_peers(PEERS, &NO_LIMITS).await;
    let barrier = Arc::new(Barrier::new(PEERS));
    let peers = (0..PEERS).map(|i| {
        let (access, barrier, token) = (*server, Arc::clone(&barrier), hand_signed(&format!("peer-{i}")));
        tokio::spawn(async move {
            let mut lists = vec![];
            for _ in 0..ROUNDS {
                let mut client = stand_ready(&access, i, &token).await;
                barrier.wait().await;
                lists.push(first_list(&mut client).await);
                barrier.wait().await;
            }
            lists
        })
    });
    let mut lists = vec![];
    for peer in peers.collect::<Vec<_>>() {
        lists.push(peer.await.unwrap());
    }
    for round in 0..ROUNDS {
        let of_round =
            lists.iter().enumerate().flat_map(|(i, lists)| lists[round].iter().map(move |&j| (i, j)));
        let introduced: Vec<_> = of_round.map(|(i, j)| (i.min(j), i.max(j))).collect();
        let pairs: HashSet<_> = introduced.iter().collect();
        assert_eq!(introduced.len(), pairs.len(), "round {round}: a pair was introduced twice");
        assert_eq!(pairs.len(), PEERS * (PEERS - 1) / 2, "round {round}: a pair was not introduced");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_and_first_lists_together_introduce_each_pair_once_to_each_side() {
    const PEERS: usize = 60;
    let server = TestServer::start_with_peers(PEERS, &NO_LIMITS).await;
    let barrier = Arc::new(Barrier::new(PEERS));
    let peers = (0..PEERS).map(|i| {
        let (access, barrier, token) = (*server, Arc::clone(&barrier), hand_signed(&format!("peer-{i}")));
        tokio::spawn(async move {
            let mut client = stand_ready(&access, i, &token).await;
            barrier.wait().await;
            let list = client.register_with(&["events", "roles"]).await;
            let mut known: Vec<(String, Value)> = list["roles"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(peer, role)| (peer.clone(), role.clone()))
                .collect();
            while known.len() < PEERS - 1 {
                let joined = client.expect("peer_joined").await["payload"].clone();
                known.push((joined["peer"].as_str().unwrap().to_owned(), joined["role"].clone()));
            }
            barrier.wait().await;
            client.expect_silence().await;
            barrier.wait().await;
            known
        })
    });
    let mut roles = std::collections::HashMap::new();
    for (i, peer) in peers.collect::<Vec<_>>().into_iter().enumerate() {
        for (other, role) in peer.await.unwrap() {
            let known_before = roles.insert((format!("peer-{i}"), other.clone()), role);
            assert_eq!(known_before, None, "peer-{i} heard of {other} twice");
        }
    }
    for ((one, other), role) in &roles {
        assert_ne!(Some(role), roles.get(&(other.clone(), one.clone())), "{one} and {other}");
    }
}

/// All peers join at once and leave again; how many introductions there were.
async fn come_and_go(node: &Access, peers: usize) -> usize {
    let barrier = Arc::new(Barrier::new(peers));
    let tasks: Vec<_> = (0..peers)
        .map(|i| {
            let (access, barrier, token) = (*node, Arc::clone(&barrier), hand_signed(&format!("peer-{i}")));
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
