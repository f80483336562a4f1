//! The actor over pipes in memory, with the clock stopped: deadlines are exact and take no time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use heliograph_auth::secret::{Hasher, Secret};
use heliograph_auth::token::{KeySet, SecretRule, SigningKey};
use heliograph_bus::Link;
use heliograph_bus::local::{Hub, Node};
use heliograph_core::authority::Standing;
use heliograph_core::close::CloseCode;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::limits::Limits;
use heliograph_core::manners::{RoomPolicies, RoomPolicy};
use heliograph_store::memory::MemoryStore;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Connection, websocket_config};
use crate::entry::Entry;
use crate::gateway::{Config, Gateway, Parts};
use crate::metrics::Metrics;
use heliograph_wire::Dialect;

mod reaching;

type Client = WebSocketStream<DuplexStream>;

/// A gateway with a lease, on a bus and a store in memory.
pub(crate) struct World {
    pub(crate) gateway: Arc<Gateway>,
    _bus: Arc<Node>,
}

impl World {
    pub(crate) fn new(limits: Limits) -> Self {
        Self::over(limits, |link| link)
    }

    /// As [`Self::new`]; `change` may put something between the gateway and its bus.
    fn over(limits: Limits, change: impl FnOnce(Link) -> Link) -> Self {
        let id = GatewayId::parse("gw-test").unwrap();
        let bus = Hub::new().join(id.clone());
        let secret = Secret::new("a secret of tests, long enough for HS256");
        let signer = SigningKey::from_secret(&secret, SecretRule::Strong).unwrap();
        let gateway = Gateway::new(Parts {
            id,
            config: Config {
                resume_window: Duration::from_mins(1),
                drain_window: Duration::from_secs(5),
                limits,
                lease_term: Duration::from_hours(1),
                allowed_origins: vec![],
                trusted_proxies: heliograph_http::TrustedProxies::default(),
                ice: heliograph_auth::turn::IceConfig::default(),
                rooms: RoomPolicies::everywhere(RoomPolicy::Open),
            },
            link: change(bus.link()),
            store: Arc::new(MemoryStore::new()),
            tokens: KeySet::new(signer, vec![]).unwrap(),
            hasher: Arc::new(Hasher::new([7; 32])),
            metrics: Metrics::register(&prometheus::Registry::new()).unwrap(),
        });
        bus.attach(gateway.inbox());
        gateway.authority.renewed(std::time::Instant::now(), Duration::from_hours(1));
        Self { gateway, _bus: bus }
    }

    /// A client of an approved peer, and the actor that serves it.
    async fn connect(&self, name: &str, pipe_bytes: usize) -> (Client, Box<Connection<DuplexStream>>) {
        let (here, there) = tokio::io::duplex(pipe_bytes);
        let client = WebSocketStream::from_raw_socket(here, Role::Client, None).await;
        let config = websocket_config(64 * 1024);
        let socket = WebSocketStream::from_raw_socket(there, Role::Server, Some(config)).await;
        let peer =
            self.gateway.directory.mesh(&MeshName::default_mesh()).intern(&PeerId::parse(name).unwrap());
        peer.right.apply(Version(1), Standing::Approved);
        let opened =
            Connection::open(Arc::clone(&self.gateway), socket, Entry { peer, profile: None }, Dialect::Mesh)
                .await;
        (client, opened.unwrap_or_else(|(_, error)| panic!("{error}")))
    }

    async fn join(&self, name: &str, pipe_bytes: usize) -> Client {
        self.join_with(name, pipe_bytes, "null").await
    }

    async fn join_with(&self, name: &str, pipe_bytes: usize, payload: &str) -> Client {
        let (mut client, connection) = self.connect(name, pipe_bytes).await;
        tokio::spawn(connection.run());
        let register = format!(r#"{{"type":"register","peer_id":"{name}","payload":{payload}}}"#);
        client.send(Message::text(register)).await.unwrap();
        assert!(next_text(&mut client).await.contains("peer_list"));
        client
    }
}

async fn next_text(client: &mut Client) -> String {
    match client.next().await {
        Some(Ok(Message::Text(text))) => text.to_string(),
        other => panic!("text expected, not {other:?}"),
    }
}

/// What an idle socket costs is mostly this future and the read buffer; a phase that is not boxed shows here.
#[tokio::test]
async fn the_future_of_an_idle_socket_stays_small() {
    let world = World::new(Limits::default());
    let (_client, connection) = world.connect("a", 64).await;
    let actor = size_of_val(&*connection);
    let future = size_of_val(&connection.run());
    assert!(actor + future <= 1536, "{actor} + {future} bytes");
}

#[tokio::test]
async fn a_large_list_is_written_whole_and_in_order() {
    let world = World::new(Limits::default());
    let mut clients = vec![];
    for i in 0..400 {
        clients.push(world.join(&format!("a-peer-with-a-rather-long-name-{i}"), 1024 * 1024).await);
    }
    let (mut client, connection) = world.connect("last", 256).await;
    tokio::spawn(connection.run());
    client.send(Message::text(r#"{"type":"register","peer_id":"last"}"#)).await.unwrap();
    client.send(Message::text(r#"{"type":"ping","peer_id":"last"}"#)).await.unwrap();
    let list = next_text(&mut client).await;
    assert!(list.len() > 12_000 && list.contains("-name-0\"") && list.ends_with("]}}"), "{}", list.len());
    assert!(next_text(&mut client).await.contains("pong"));
}

/// A drain waits until there is neither; in between lay a moment in which it gave up what a session had just left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_loses_its_connection_is_live_or_parked_at_every_moment() {
    const RESUMES: &str = r#"{"version":1,"capabilities":["resume"]}"#;
    let world = World::new(Limits::default());
    for parked_before in 0..1_000 {
        let client = world.join_with(&format!("peer-{parked_before}"), 4096, RESUMES).await;
        let gateway = Arc::clone(&world.gateway);
        let watch = std::thread::spawn(move || {
            loop {
                let live = gateway.sessions();
                let parked = gateway.parked.load(Ordering::Acquire);
                assert!(live + parked > parked_before, "neither, after {parked_before} others");
                if live == 0 {
                    return;
                }
            }
        });
        drop(client);
        tokio::task::spawn_blocking(move || watch.join()).await.unwrap().unwrap();
    }
}
