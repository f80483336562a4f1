//! Two bridges that are linked without a network.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use heliograph_core::id::PeerId;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{FakeMesh, Hub, Local, Mesh, Notice, Refusal, World, peer, unknown};

/// Agents of two, whose channel is a function call.
struct Linked {
    own: PeerId,
    other: PeerId,
    hub: OnceLock<Arc<Hub>>,
}

impl Linked {
    fn new(own: &str, other: &str) -> Arc<Self> {
        Arc::new(Self { own: peer(own), other: peer(other), hub: OnceLock::new() })
    }
}

#[async_trait]
impl Mesh for Linked {
    async fn send(&self, target: &str, message: &RawValue) -> Result<(), Refusal> {
        if target != self.other.as_str() {
            return Err(unknown(target));
        }
        let notice = Notice::Message { from: self.own.clone(), message: message.to_owned() };
        self.hub.get().unwrap().tell(notice).await;
        Ok(())
    }

    async fn broadcast(&self, message: &RawValue) -> Result<usize, Refusal> {
        self.send(self.other.as_str(), message).await.map(|()| 1)
    }

    async fn connect(&self, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn peers(&self) -> Vec<PeerId> {
        vec![self.other.clone()]
    }

    fn status(&self) -> Value {
        json!({ "state": "online", "peer_id": self.own.as_str() })
    }
}

/// Two agents, `agent-a` and `agent-b`, with an open channel between them.
pub(super) async fn pair() -> (World, World) {
    let (hub_a, hub_b) = (Hub::new(), Hub::new());
    let (mesh_a, mesh_b) = (Linked::new("agent-a", "agent-b"), Linked::new("agent-b", "agent-a"));
    mesh_a.hub.set(Arc::clone(&hub_b)).unwrap();
    mesh_b.hub.set(Arc::clone(&hub_a)).unwrap();
    hub_a.tell(Notice::PeerConnected(peer("agent-b"))).await;
    hub_b.tell(Notice::PeerConnected(peer("agent-a"))).await;
    let unused = || Arc::new(FakeMesh::default());
    (World::serving(hub_a, mesh_a, unused()).await, World::serving(hub_b, mesh_b, unused()).await)
}

/// The simplest program there is writes all it has to say before it listens. Both ends of a channel may be such.
#[tokio::test]
async fn two_programs_that_write_before_they_read_get_everything() {
    const COUNT: usize = 10_000;
    let (a, b) = pair().await;
    let write_then_read = async |world: &World, to: &str| {
        let mut local = world.program().await;
        assert_eq!(local.hear().await["type"], "peer_connected");
        for n in 0..COUNT {
            let message = format!(r#"{{"type":"n","n":{n},"text":"{}"}}"#, "x".repeat(100));
            local
                .say(&format!(r#"{{"type":"send","payload":{{"target_peer":"{to}","message":{message}}}}}"#))
                .await;
        }
        hears_all(&mut local, COUNT).await;
    };
    tokio::join!(write_then_read(&a, "agent-b"), write_then_read(&b, "agent-a"));
}

async fn hears_all(local: &mut Local, count: usize) {
    for n in 0..count {
        assert_eq!(local.hear().await["payload"]["message"]["n"], n);
    }
}
