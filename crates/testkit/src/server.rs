//! A node in this process, with a data directory and ports of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use heliograph_server::config::{Config, Mode, Sources};
use heliograph_server::{Listeners, Node, assemble};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::client::MeshClient;
use crate::http::Api;

/// The admin key of every test node.
pub const ADMIN_KEY: &str = "ak_test_admin_0123456789abcdef";

/// A node and what a test needs to speak to it.
pub struct TestServer {
    node: Option<Node>,
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where health and metrics are.
    pub ops: SocketAddr,
    data: TempDir,
}

impl TestServer {
    /// A node with default settings.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A node with settings as environment variables without their prefix: `("MAX_MESSAGE_BYTES", "1000")`.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let data = TempDir::new().unwrap_or_else(|error| panic!("a data directory: {error}"));
        let node = Self::serve(data.path(), settings).await;
        Self { address: node.public_address(), ops: node.ops_address(), node: Some(node), data }
    }

    async fn serve(data: &Path, settings: &[(&str, &str)]) -> Node {
        let mut environment: Vec<(String, String)> = vec![
            ("HELIOGRAPH_DATA_DIR".to_owned(), data.display().to_string()),
            ("HELIOGRAPH_BOOTSTRAP_ADMIN_KEY".to_owned(), ADMIN_KEY.to_owned()),
            ("HELIOGRAPH_DRAIN_WINDOW".to_owned(), "5s".to_owned()),
        ];
        environment.extend(settings.iter().map(|(name, value)| (format!("HELIOGRAPH_{name}"), (*value).to_owned())));
        let sources = Sources { file: None, environment, flags: vec![] };
        let config = Config::load(Mode::Dev, &sources).unwrap_or_else(|problems| panic!("{problems}"));
        let listeners = Listeners { public: listener().await, ops: listener().await, admin: None };
        let assembled = assemble(Mode::Dev, config).await.unwrap_or_else(|error| panic!("{error:#}"));
        Node::serve(listeners, assembled.parts).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap_or_else(|| panic!("the node is stopped"))
    }

    /// Its data directory.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// Stops the node as SIGTERM does.
    pub async fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            node.shutdown().await;
        }
    }

    /// A caller without a credential.
    pub fn api(&self) -> Api {
        Api::new(self.address)
    }

    /// A caller with the admin key.
    pub fn admin(&self) -> Api {
        self.api().with("x-api-key", ADMIN_KEY)
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        Api::new(self.ops).get("/metrics").await.text
    }

    /// The value of one metric with exactly these labels, as the page shows it; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> f64 {
        let page = self.metrics().await;
        let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse().ok()).unwrap_or(0.0)
    }

    /// An API key for a peer, made if it does not exist.
    pub async fn key(&self, peer: &str, mesh: &str) -> String {
        let body = json!({ "peer_id": peer, "role": "agent", "mesh": mesh });
        let answer = self.admin().post("/api/keys", &body).await;
        assert!(answer.status == 200 || answer.status == 201, "{}", answer.text);
        text(&answer.json(), "key")
    }

    /// A session token for an API key.
    pub async fn exchange(&self, key: &str) -> String {
        text(&self.api().with("x-api-key", key).post_empty("/api/token").await.expect(200), "token")
    }

    /// A session token for a peer of the default mesh that has an API key.
    pub async fn token(&self, peer: &str) -> String {
        self.exchange(&self.key(peer, "default").await).await
    }

    /// A connected, not yet registered peer of the default mesh.
    pub async fn connect(&self, peer: &str) -> MeshClient {
        let token = self.token(peer).await;
        MeshClient::connect(self.address, peer, &token).await.unwrap_or_else(|status| panic!("{peer}: {status}"))
    }

    /// A connected peer that registered as the original does.
    pub async fn join(&self, peer: &str) -> MeshClient {
        let mut client = self.connect(peer).await;
        client.register().await;
        client
    }

    /// A connected peer that registered with all capabilities.
    pub async fn join_fully(&self, peer: &str) -> MeshClient {
        let mut client = self.connect(peer).await;
        client.register_with(&crate::client::ALL).await;
        client
    }

    /// A device that redeemed an invite: pairing id, peer id, claim token.
    pub async fn pair(&self, name: &str) -> Paired {
        let code = text(&self.admin().post("/api/pairing/generate-code", &json!({})).await.expect(200), "code");
        let answer = self.api().post("/api/pairing/pair", &json!({ "code": code, "agent_name": name })).await.expect(200);
        Paired { id: text(&answer, "id"), peer: text(&answer, "peer_id"), claim: text(&answer, "claim_token") }
    }
}

/// A device that waits for its approval.
#[derive(Debug, Clone)]
pub struct Paired {
    /// The pairing.
    pub id: String,
    /// The peer that it would become.
    pub peer: String,
    /// Its claim token.
    pub claim: String,
}

/// A string member of an answer.
#[track_caller]
pub fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("no {member} in {answer}")).to_owned()
}

async fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap_or_else(|error| panic!("a port: {error}"))
}
