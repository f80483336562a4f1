//! A node in this process, with a data directory and ports of its own.

use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use heliograph_server::config::{Config, Mode, Sources};
use heliograph_server::{Listeners, Node, assemble, assemble_with_store};
use heliograph_store::Store;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};

use crate::access::{ADMIN_KEY, Access};
use crate::eventually;

/// Settings as environment variables without their prefix: `("MAX_MESSAGE_BYTES", "1000")`.
pub type Settings<'a> = &'a [(&'a str, &'a str)];

/// A node and what a test needs to speak to it.
pub struct TestServer {
    node: Option<Node>,
    access: Access,
    settings: Vec<(String, String)>,
    data: TempDir,
}

impl Deref for TestServer {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

impl TestServer {
    /// A node with default settings.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A node with settings.
    pub async fn start_with(settings: Settings<'_>) -> Self {
        Self::start_in(data_dir(), settings, None).await
    }

    /// A node with settings on a store of the test's own.
    pub async fn start_on(store: Arc<dyn Store>, settings: Settings<'_>) -> Self {
        Self::start_in(data_dir(), settings, Some(store)).await
    }

    /// A node that knows so many peers from the start, by a file of keys: `peer-0` with the key `ak_test_peer-0`…
    pub async fn start_with_peers(count: usize, settings: Settings<'_>) -> Self {
        let data = data_dir();
        let file = write_keys(data.path(), count);
        let mut all = settings.to_vec();
        all.push(("API_KEYS_FILE", &file));
        Self::start_in(data, &all, None).await
    }

    async fn start_in(data: TempDir, settings: Settings<'_>, store: Option<Arc<dyn Store>>) -> Self {
        let settings = environment(data.path(), settings);
        let node = serve(settings.clone(), store).await;
        let access = Access::to(node.public_address(), node.ops_address());
        access.wait_until_ready().await;
        Self { node: Some(node), access, settings, data }
    }

    /// The node itself.
    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap_or_else(|| panic!("the node is stopped"))
    }

    /// The names of all nodes: this one's.
    pub fn gateways(&self) -> Vec<String> {
        vec![self.node().gateway().id().to_string()]
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

    /// Stops the node and starts it again on its data, at another address.
    pub async fn restart(&mut self) {
        self.stop().await;
        // The old node's tasks let go of the data in their own time.
        let settings = &self.settings;
        let node =
            eventually("the data is free", async || try_serve(settings.clone(), None).await.ok()).await;
        self.access = Access::to(node.public_address(), node.ops_address());
        self.access.wait_until_ready().await;
        self.node = Some(node);
    }
}

fn data_dir() -> TempDir {
    TempDir::new().unwrap_or_else(|error| panic!("a data directory: {error}"))
}

/// A file of keys in `dir`, as [`TestServer::start_with_peers`] describes it; its path.
pub fn write_keys(dir: &Path, count: usize) -> String {
    write_keys_in(dir, count, |_| "default".to_owned())
}

/// As [`write_keys`], for peers of several meshes.
pub fn write_keys_in(dir: &Path, count: usize, mesh: impl Fn(usize) -> String) -> String {
    let key = |i| json!({ "peer_id": format!("peer-{i}"), "role": "agent", "mesh": mesh(i) });
    let keys: Map<String, Value> = (0..count).map(|i| (format!("ak_test_peer-{i}"), key(i))).collect();
    let path = dir.join("api_keys.json");
    std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap_or_else(|error| panic!("{error}"));
    path.display().to_string()
}

/// The environment of a test node.
pub(crate) fn environment(data: &Path, settings: Settings<'_>) -> Vec<(String, String)> {
    let mut environment: Vec<(String, String)> = vec![
        ("HELIOGRAPH_DATA_DIR".to_owned(), data.display().to_string()),
        ("HELIOGRAPH_BOOTSTRAP_ADMIN_KEY".to_owned(), ADMIN_KEY.to_owned()),
        ("HELIOGRAPH_DRAIN_WINDOW".to_owned(), "5s".to_owned()),
    ];
    environment
        .extend(settings.iter().map(|(name, value)| (format!("HELIOGRAPH_{name}"), (*value).to_owned())));
    environment
}

async fn serve(environment: Vec<(String, String)>, store: Option<Arc<dyn Store>>) -> Node {
    try_serve(environment, store).await.unwrap_or_else(|error| panic!("{error:#}"))
}

async fn try_serve(
    environment: Vec<(String, String)>,
    store: Option<Arc<dyn Store>>,
) -> anyhow::Result<Node> {
    let sources = Sources { file: None, environment, flags: vec![] };
    let config = Config::load(Mode::Dev, &sources).unwrap_or_else(|problems| panic!("{problems}"));
    let listeners = Listeners { public: listener(), ops: listener(), admin: None };
    let assembled = match store {
        Some(store) => assemble_with_store(Mode::Dev, config, store).await?,
        None => assemble(Mode::Dev, config).await?,
    };
    Ok(Node::serve(listeners, assembled.parts)?)
}

/// As the product listens: with room for hundreds that connect at the same moment.
fn listener() -> TcpListener {
    let listen = || {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        socket.listen(4096)
    };
    listen().unwrap_or_else(|error| panic!("a port: {error}"))
}
