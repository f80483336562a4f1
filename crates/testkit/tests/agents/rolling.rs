//! Channels do not need the service: gateways are replaced one by one, and nobody at a bridge notices.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use heliograph_testkit::{Agent, Cluster, LocalProgram, Plan, eventually};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::{all_connected, key, peer};

/// More than the drain window of test nodes, and what they do afterwards.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
const AGENTS: usize = 3;

/// What a load balancer is to agents: one address, behind which any node that takes connections is as good as another.
struct Door {
    address: SocketAddr,
    nodes: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Door {
    async fn before(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let door = Self { address: listener.local_addr().unwrap(), nodes: Arc::default() };
        door.lead_to(cluster);
        let nodes = Arc::clone(&door.nodes);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let nodes = nodes.lock().unwrap().clone();
                tokio::spawn(async move {
                    for node in nodes {
                        if let Ok(mut server) = TcpStream::connect(node).await {
                            let _either_end = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        door
    }

    /// To the nodes that there are now.
    fn lead_to(&self, cluster: &Cluster) {
        *self.nodes.lock().unwrap() = cluster.nodes().iter().map(|node| node.address()).collect();
    }

    /// To one node first.
    fn prefer(&self, node: SocketAddr) {
        self.nodes.lock().unwrap().sort_by_key(|address| *address != node);
    }
}

#[tokio::test]
async fn a_rolling_restart_interrupts_no_channel() {
    let mut cluster = Plan::nodes(2).peers(AGENTS).start().await;
    let door = Door::before(&cluster).await;
    let server = format!("http://{}", door.address);
    let mut agents = vec![];
    for number in 0..AGENTS {
        door.prefer(cluster.node(number % 2).address());
        let agent = Agent::start(&peer(number), &server, &key(number)).await;
        let program = agent.attach().await;
        agents.push((agent, program));
    }
    for (number, (_, program)) in agents.iter_mut().enumerate() {
        all_connected(program, number, AGENTS).await;
    }

    let over = Arc::new(AtomicBool::new(false));
    let (_kept, programs): (Vec<_>, Vec<_>) = agents.into_iter().unzip();
    let talks: Vec<_> = (0..AGENTS)
        .zip(programs)
        .map(|(number, program)| tokio::spawn(talk(number, program, Arc::clone(&over))))
        .collect();
    for number in 0..2 {
        cluster.node(number).terminate();
        cluster.node(number).ended(STOPPED_WITHIN).await;
        cluster.replace(number).await;
        door.lead_to(&cluster);
        all_online(&cluster).await;
    }
    over.store(true, Ordering::Relaxed);
    for talk in talks {
        talk.await.unwrap();
    }
}

/// Nobody was away for long, and everybody is there again.
async fn all_online(cluster: &Cluster) {
    eventually("all agents are on the new nodes", async || {
        let sessions: i64 =
            cluster.access().metric_of_each("heliograph_sessions{dialect=\"mesh\"}").await.iter().sum();
        (sessions == i64::try_from(AGENTS).unwrap()).then_some(())
    })
    .await;
}

/// Sends to the next one for as long as gateways are replaced, and hears the one before without a gap; nothing else but
/// the state of the signaling is told.
async fn talk(number: usize, mut program: LocalProgram, over: Arc<AtomicBool>) {
    let (next, before) = (peer((number + 1) % AGENTS), peer((number + AGENTS - 1) % AGENTS));
    let (mut sent, mut heard) = (0, 0);
    while !over.load(Ordering::Relaxed) {
        program.send(&next, &json!({"type": "ping", "request_id": sent.to_string()})).await;
        sent += 1;
        let (kind, payload) = loop {
            let (kind, payload) = program.next().await;
            if kind != "status" {
                break (kind, payload);
            }
        };
        assert_eq!((kind.as_str(), &payload["from_peer"]), ("message", &json!(before)), "{payload}");
        assert_eq!(payload["message"]["request_id"], heard.to_string());
        heard += 1;
    }
    assert!(heard > 0);
    // The one behind may still wait for a message of ours.
    program.send(&next, &json!({"type": "ping", "request_id": sent.to_string()})).await;
}
