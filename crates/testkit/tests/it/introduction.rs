//! Who is introduced to whom when many come at the same moment.

use std::collections::HashSet;
use std::sync::Arc;

use heliograph_testkit::jwt::{SECRET, hand_signed};
use heliograph_testkit::{Access, MeshClient};
use serde_json::Value;
use tokio::sync::Barrier;

use crate::TestServer;

/// Limits of a single address off: here all clients have one.
pub(crate) const NO_LIMITS: [(&str, &str); 5] = [
    ("SIGNING_SECRET", SECRET),
    ("MAX_UPGRADES_PER_SECOND", "0"),
    ("MAX_OPENING", "0"),
    ("MAX_SOCKETS_PER_ADDRESS", "0"),
    ("REGISTER_DEADLINE", "60s"),
];

/// Opens a socket for `peer-{i}` and waits until its session stands: an older one of this peer is out of all lists.
pub(crate) async fn stand_ready(access: &Access, i: usize, token: &str) -> MeshClient {
    let mut client = access.dial(token).reset_on_drop().open(&format!("peer-{i}")).await.unwrap();
    client.expect_silence().await;
    client
}

/// The numbers of the peers in a first list.
pub(crate) async fn first_list(client: &mut MeshClient) -> Vec<usize> {
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
        let (access, barrier, token) =
            (server.clone(), Arc::clone(&barrier), hand_signed(&format!("peer-{i}")));
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
        let (access, barrier, token) =
            (server.clone(), Arc::clone(&barrier), hand_signed(&format!("peer-{i}")));
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
