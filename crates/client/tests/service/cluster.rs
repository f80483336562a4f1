//! Several nodes: processes on one Postgres and one Redis.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use heliograph_client::{Address, Connector, Duplex, Event, Outcome, State};
use heliograph_sandbox::Proxy;
use heliograph_testkit::{Cluster, Plan, in_time};
use tokio::net::TcpStream;

use crate::program::{Program, Said, config, json, peer};

/// How many messages go each way while something happens.
const MESSAGES: usize = 200;

/// What a load balancer is to a client: each new connection goes to the next of these, the last one gets the rest.
struct OneAfterTheOther {
    addresses: Vec<SocketAddr>,
    opened: Arc<AtomicUsize>,
}

#[async_trait]
impl Connector for OneAfterTheOther {
    async fn connect(&self, _: &Address) -> std::io::Result<Box<dyn Duplex>> {
        let turn = self.opened.fetch_add(1, Ordering::SeqCst).min(self.addresses.len() - 1);
        Ok(Box::new(TcpStream::connect(self.addresses[turn]).await?))
    }
}

async fn two_nodes() -> Cluster {
    Plan::nodes(2).peers(2).settings(&[("MAX_MESSAGES_PER_SECOND", "0")]).start().await
}

/// `peer-0`, whose connections go there one after the other, and whose tokens come from the second node; and how many
/// connections it has opened.
async fn roaming(cluster: &Cluster, addresses: Vec<SocketAddr>) -> (Program, Arc<AtomicUsize>) {
    let opened = Arc::<AtomicUsize>::default();
    let connector = OneAfterTheOther { addresses, opened: Arc::clone(&opened) };
    let mut program = Program::start(config(cluster.node(1), "ak_test_peer-0").connector(connector));
    program.online().await;
    program.forget();
    (program, opened)
}

/// `peer-1`, on the second node.
async fn settled(cluster: &Cluster) -> Program {
    let mut program = Program::start(config(cluster.node(1), "ak_test_peer-1"));
    program.online().await;
    program
}

/// Sends so many numbered messages one after the other, as fast as their outcomes come.
fn count(program: &Program, target: &str) -> tokio::task::JoinHandle<()> {
    let (client, target) = (program.client.clone(), peer(target));
    tokio::spawn(async move {
        for n in 0..MESSAGES {
            let outcome = client.send("count", &target, &json(&n.to_string())).await;
            assert_eq!(outcome, Outcome::Delivered, "message {n} to {target}");
        }
    })
}

/// Both count to each other; `happens` is called when the first has heard a quarter.
async fn count_while(a: &mut Program, b: &mut Program, happens: impl AsyncFnOnce()) {
    let counting = [count(a, "peer-1"), count(b, "peer-0")];
    let mut happens = Some(happens);
    let there = async {
        for n in 0..MESSAGES {
            if n == MESSAGES / 4
                && let Some(happens) = happens.take()
            {
                happens().await;
            }
            assert_eq!(a.hear().await, Said::new("peer-1", "count", &n.to_string()));
        }
    };
    let here = async {
        for n in 0..MESSAGES {
            assert_eq!(b.hear().await, Said::new("peer-0", "count", &n.to_string()));
        }
    };
    tokio::join!(there, here);
    for counting in counting {
        in_time("all outcomes", counting).await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_moves_the_client_to_another_node_without_a_gap() {
    let cluster = two_nodes().await;
    let (mut a, opened) = roaming(&cluster, cluster.access().addresses().to_vec()).await;
    let mut b = settled(&cluster).await;
    count_while(&mut a, &mut b, async || cluster.node(0).drain().await).await;
    // The last word may come after the last message.
    a.moved().await;
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_cut_connection_is_resumed_on_the_other_node() {
    let cluster = two_nodes().await;
    let proxy = Proxy::to(cluster.node(0).address()).await.unwrap();
    let (mut a, opened) = roaming(&cluster, vec![proxy.address(), cluster.node(1).address()]).await;
    let mut b = settled(&cluster).await;
    assert_eq!(b.send("offer", "peer-0", "{}").await, Outcome::Delivered);
    assert_eq!(a.hear().await.kind, "offer");
    proxy.cut();
    assert_eq!(b.send("offer", "peer-0", "2").await, Outcome::Delivered);
    assert_eq!(a.hear().await.payload, "2");
    assert!(a.listed().await.1, "everybody who is there");
    assert_eq!(a.send("answer", "peer-1", "{}").await, Outcome::Delivered);
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn after_a_node_was_killed_its_clients_begin_anew_on_another() {
    let cluster = two_nodes().await;
    let (mut a, _) = roaming(&cluster, cluster.access().addresses().to_vec()).await;
    let b = settled(&cluster).await;
    cluster.node(0).kill();
    let waiting = |event: &Event| matches!(event, Event::State(State::Waiting { .. })).then_some(());
    a.until("to be lost", waiting).await;
    assert_eq!(a.resumed().await, (0, None), "nobody knows what was lost");
    let (peers, again) = a.listed().await;
    assert_eq!((peers.len(), again), (1, false), "introduced as a newcomer");
    drop(b);
}
