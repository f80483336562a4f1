//! One session per peer, in the whole cluster.

use heliograph_testkit::client::{ALL, Closed};
use heliograph_testkit::{MeshClient, Node, eventually};
use serde_json::json;

use crate::scene::{alone, name, plan, token};

const PEER: usize = 0;
const WITNESS: usize = 1;

/// Reads until a message comes (`None`), or to the end of the socket.
async fn outcome(client: &mut MeshClient) -> Option<Closed> {
    loop {
        match client.next().await {
            Ok(message) if message["type"] == "offer" => return None,
            Ok(_) => {}
            Err(closed) => return Some(closed),
        }
    }
}

/// A socket of the peer that asked to be registered; it may hear that it is superseded before its list.
async fn come(node: &Node) -> MeshClient {
    let mut client = node.open(&name(PEER), &token(PEER)).await;
    let register = json!({ "version": 1, "capabilities": ALL });
    client
        .try_send(&json!({ "type": "register", "peer_id": name(PEER), "payload": register }).to_string())
        .await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sockets_of_a_peer_at_one_moment_on_two_nodes_exactly_one_stays() {
    const ROUNDS: usize = 100;
    let _alone = alone().await;
    let cluster = plan(2).start().await;
    let mut witness = cluster.node(2).open(&name(WITNESS), &token(WITNESS)).await;
    witness.register().await;
    let mut expected = 1;
    for round in 0..ROUNDS {
        expected += 2;
        let (here, there) = (cluster.node(round % 3), cluster.node((round + 1) % 3));
        let (mut one, mut other) = tokio::join!(come(here), come(there));
        let call = async {
            eventually("both came, and one is registered", async || {
                let peer = cluster.node(round % 3).admin().get(&format!("/api/peers/{}", name(PEER))).await;
                let sessions = peer.expect(200)["sessions"].clone();
                let came = cluster.access().metric(r#"heliograph_sessions_total{dialect="mesh"}"#).await;
                let here = cluster.access().metric(r#"heliograph_sessions{dialect="mesh"}"#).await;
                (came == expected && here == 2 && sessions[0]["placed"] == true).then_some(())
            })
            .await;
            witness.send("offer", Some(&name(PEER)), json!(round)).await;
        };
        let (first, second, ()) = tokio::join!(outcome(&mut one), outcome(&mut other), call);
        let ends = [first, second];
        assert!(ends.contains(&None) && ends.contains(&Some(Some(4409))), "round {round}: {ends:?}");
    }
}
