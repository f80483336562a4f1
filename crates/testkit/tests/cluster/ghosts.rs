//! What a dead node leaves behind is gone within ten seconds, and told once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use heliograph_testkit::client::ALL;
use heliograph_testkit::{MeshClient, Node, eventually};
use serde_json::Value;

use crate::scene::{alone, name, plan, token};

/// The promise.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// Peers on the node that dies.
const GHOSTS: usize = 12;
const WITNESS: usize = GHOSTS;
const NEWCOMER: usize = GHOSTS + 1;

/// A peer that registered on a node with all capabilities, and its first list.
pub(crate) async fn join(node: &Node, number: usize) -> (MeshClient, Vec<String>) {
    let mut client = node.open(&name(number), &token(number)).await;
    let list = client.register_with(&ALL).await;
    (client, heliograph_testkit::peers(&list))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ghosts_of_a_killed_node_are_gone_in_time_and_told_once() {
    let _alone = alone().await;
    let cluster = plan(GHOSTS + 2).start().await;
    let (killed, other) = (cluster.node(0), cluster.node(1));
    let (mut witness, _) = join(other, WITNESS).await;
    let mut ghosts = vec![];
    for number in 0..GHOSTS {
        ghosts.push(join(killed, number).await.0);
    }
    let mut news = News::default();
    news.read_until(&mut witness, |news| (0..GHOSTS).all(|ghost| news.of(ghost) == ["peer_joined"])).await;

    killed.kill();
    let since = Instant::now();
    // One of them comes back at once: it is no ghost when the others are found to be some.
    let (_back, _) = join(cluster.node(2), 0).await;
    news.read_until(&mut witness, |news| {
        (1..GHOSTS).all(|ghost| news.of(ghost).last() == Some(&"peer_left")) && news.of(0).len() >= 3
    })
    .await;
    let taken = since.elapsed();
    assert!(taken <= GONE_WITHIN, "after {taken:?}");

    let (_newcomer, list) = join(cluster.node(2), NEWCOMER).await;
    assert_eq!(list, [name(0), name(WITNESS)]);
    let living = crate::scene::access([cluster.node(1), cluster.node(2)]);
    eventually("all are counted", async || {
        let reaped = living.metric("heliograph_ghosts_reaped_total").await;
        (usize::try_from(reaped) == Ok(GHOSTS - 1)).then_some(())
    })
    .await;
    news.read_until(&mut witness, |news| news.of(NEWCOMER) == ["peer_joined"]).await;
    for ghost in 1..GHOSTS {
        assert_eq!(news.of(ghost), ["peer_joined", "peer_left"], "{ghost}");
    }
    assert_eq!(news.of(0), ["peer_joined", "peer_left", "peer_joined"]);
}

/// What a witness heard of each peer, in order.
#[derive(Default)]
struct News(BTreeMap<String, Vec<String>>);

impl News {
    fn of(&self, number: usize) -> Vec<&str> {
        self.0.get(&name(number)).into_iter().flatten().map(String::as_str).collect()
    }

    async fn read_until(&mut self, witness: &mut MeshClient, enough: impl Fn(&Self) -> bool) {
        while !enough(self) {
            let message =
                witness.next().await.unwrap_or_else(|end| panic!("the witness was closed: {end:?}"));
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        let kind = message["type"].as_str().unwrap_or_default();
        if let Some(peer) = message["payload"]["peer"].as_str() {
            self.0.entry(peer.to_owned()).or_default().push(kind.to_owned());
        }
    }
}
