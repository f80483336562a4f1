//! Introduced once (DESIGN G9), on three nodes at the same moment, right after something broke.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use heliograph_testkit::client::Closed;
use heliograph_testkit::{Access, Cluster, MeshClient, Node, RedisKind, eventually, in_time, peers};
use serde_json::Value;
use tokio::sync::{Barrier, MutexGuard};

use crate::scene::{NODES, alone, name, plan, token};

/// They register at the same moment.
const PEERS: usize = 60;
const ROUNDS: usize = 20;
/// They are there already, some on each node.
const RESIDENTS: usize = 3 * NODES;
/// Between two attempts of a client that is told to come back.
const PAUSE: Duration = Duration::from_millis(50);

/// A peer's socket and its first list.
type Arrival = (MeshClient, Vec<usize>);

/// Asks to be registered; the first list, or how the socket ended.
async fn register(client: &mut MeshClient) -> Result<Vec<usize>, Closed> {
    client.send("register", None, Value::Null).await;
    loop {
        let message = client.next().await?;
        if message["type"] == "peer_list" {
            return Ok(peers(&message).iter().map(|peer| number(peer)).collect());
        }
    }
}

fn number(peer: &str) -> usize {
    peer.trim_start_matches("peer-").parse().unwrap()
}

/// A socket, however often the node says that it takes none now.
async fn knock(node: &Access, peer: usize) -> MeshClient {
    loop {
        match node.dial(&token(peer)).reset_on_drop().open(&name(peer)).await {
            Ok(client) => return client,
            Err(status) => assert_eq!(status, 503, "{peer}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits for the others, and takes the first list that there is: while presence is away a node asks to come back later.
async fn arrive(node: Access, peer: usize, moments: Option<[Arc<Barrier>; 2]>) -> Arrival {
    let mut client = knock(&node, peer).await;
    for moment in moments.into_iter().flatten() {
        moment.wait().await;
    }
    loop {
        match register(&mut client).await {
            Ok(list) => return (client, list),
            Err(closed) => assert_eq!(closed, Some(4503), "{peer}"),
        }
        tokio::time::sleep(PAUSE).await;
        client = knock(&node, peer).await;
    }
}

/// Who is there.
#[derive(Default)]
struct Mesh(BTreeMap<usize, Arrival>);

impl Mesh {
    /// These peers come one after the other.
    async fn settle(&mut self, node: &Node, residents: impl IntoIterator<Item = usize>) {
        for resident in residents {
            let arrival = arrive((**node).clone(), resident, None).await;
            // Whoever came just before may have been shown its ghost.
            self.forget([resident]);
            self.0.insert(resident, arrival);
        }
    }

    /// The newcomers come, on these nodes in turn.
    async fn come_at_once<'a>(&mut self, nodes: impl IntoIterator<Item = &'a Node>) {
        self.come_and_register_after(nodes, async {}).await;
    }

    /// The newcomers connect, on these nodes in turn; something happens; they register.
    async fn come_and_register_after<'a>(
        &mut self,
        nodes: impl IntoIterator<Item = &'a Node>,
        happens: impl Future<Output = ()>,
    ) {
        let nodes: Vec<_> = nodes.into_iter().collect();
        let (connected, barrier) = (Arc::new(Barrier::new(PEERS + 1)), Arc::new(Barrier::new(PEERS + 1)));
        let tasks: Vec<_> = (RESIDENTS..RESIDENTS + PEERS)
            .map(|peer| {
                let node = (**nodes[peer % nodes.len()]).clone();
                let moments = [Arc::clone(&connected), Arc::clone(&barrier)];
                (peer, tokio::spawn(arrive(node, peer, Some(moments))))
            })
            .collect();
        in_time("all are connected", connected.wait()).await;
        happens.await;
        in_time("all are ready", barrier.wait()).await;
        for (peer, task) in tasks {
            let arrival = in_time("a first list", task).await.unwrap();
            self.0.insert(peer, arrival);
        }
    }

    /// Of every pair exactly one has the other in its first list.
    async fn check(&mut self, round: usize) {
        for (peer, (client, list)) in &mut self.0 {
            for message in client.so_far().await {
                // A list that nobody asked for: its node had been given up for lost.
                println!("round {round}: {peer} heard {message}, its list was {list:?}");
            }
        }
        let has = |one: usize, other: usize| self.0[&one].1.contains(&other);
        let mut wrong = vec![];
        for &one in self.0.keys() {
            for &other in self.0.keys().filter(|other| **other > one) {
                if has(one, other) == has(other, one) {
                    wrong.push((one, other, if has(one, other) { "twice" } else { "never" }));
                }
            }
        }
        assert!(
            wrong.is_empty(),
            "round {round}: {} pairs, such as {:?}",
            wrong.len(),
            &wrong[..wrong.len().min(10)]
        );
    }

    /// These are gone; when they come back it is to be introduced anew.
    fn forget(&mut self, gone: impl IntoIterator<Item = usize>) {
        for gone in gone {
            self.0.remove(&gone);
            self.0.values_mut().for_each(|(_, list)| list.retain(|other| *other != gone));
        }
    }

    /// The newcomers leave.
    async fn newcomers_leave(&mut self, cluster: &Cluster) {
        let newcomers = self.0.split_off(&RESIDENTS);
        self.forget(RESIDENTS..RESIDENTS + PEERS);
        let leave = newcomers.into_values().map(|(client, _)| client.close());
        futures_util::future::join_all(leave).await;
        let residents = i64::try_from(self.0.len()).unwrap();
        let access = cluster.access();
        eventually("they are gone", async || {
            (access.metric(r#"heliograph_sessions{dialect="mesh"}"#).await == residents).then_some(())
        })
        .await;
    }
}

/// The residents of a node.
fn residents(node: usize) -> impl Iterator<Item = usize> {
    (0..RESIDENTS).filter(move |resident| resident % NODES == node)
}

/// A cluster with its residents.
async fn inhabited(kind: Option<RedisKind>) -> (Cluster, Mesh, MutexGuard<'static, ()>) {
    let alone = alone().await;
    let plan = plan(RESIDENTS + PEERS);
    let cluster = kind.map_or(plan.clone(), |kind| plan.own_redis(kind)).start().await;
    let mut mesh = Mesh::default();
    for (number, node) in cluster.nodes().iter().enumerate() {
        mesh.settle(node, residents(number)).await;
    }
    (cluster, mesh, alone)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_after_a_fresh_start() {
    let _alone = alone().await;
    for round in 0..ROUNDS {
        // Clients are there before the nodes have found each other.
        let cluster = plan(RESIDENTS + PEERS).launch().await;
        let mut mesh = Mesh::default();
        mesh.come_at_once(cluster.nodes()).await;
        mesh.check(round).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_after_redis_was_emptied() {
    let (mut cluster, mut mesh, _alone) = inhabited(Some(RedisKind::Standalone)).await;
    for round in 0..ROUNDS {
        // In every other round the newcomers are connected already.
        let (nodes, redis) = cluster.nodes_and_redis();
        let empty = async {
            redis.kill().unwrap();
            redis.start_empty().await.unwrap();
        };
        if round % 2 == 0 {
            empty.await;
            mesh.come_at_once(nodes).await;
        } else {
            mesh.come_and_register_after(nodes, empty).await;
        }
        mesh.check(round).await;
        mesh.newcomers_leave(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn right_after_a_node_was_killed() {
    let (mut cluster, mut mesh, _alone) = inhabited(None).await;
    for round in 0..ROUNDS {
        let killed = round % NODES;
        cluster.node(killed).kill();
        mesh.forget(residents(killed));
        let living = (0..NODES).filter(|node| *node != killed);
        mesh.come_at_once(living.map(|node| cluster.node(node))).await;
        mesh.check(round).await;
        cluster.replace(killed).await;
        mesh.newcomers_leave(&cluster).await;
        mesh.settle(cluster.node(killed), residents(killed)).await;
    }
}
