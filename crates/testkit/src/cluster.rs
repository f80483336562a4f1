//! A cluster: nodes as processes on one Postgres and one Redis, all of them real, private and of a test's own.
//!
//! What a test does not hurt is shared by the tests of a process: the Postgres server (each cluster has a database in
//! it) and a Redis server (each cluster has a prefix). What it hurts, it asks for: [`Plan::own_redis`],
//! [`Plan::own_postgres`], and with [`Plan::ways_that_fail`] a way of each node's own to them.

mod backends;
mod node;
mod server;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use heliograph_sandbox::{Folder, Postgres, Program, Redis};

use crate::access::{ADMIN_KEY, Access};
use crate::jwt::SECRET;
use crate::server::{Settings, write_keys_in};
use backends::Backends;
use node::Ways;

pub use backends::RedisKind;
pub use node::Node;
pub use server::ClusterServer;

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    nodes: usize,
    settings: Vec<(String, String)>,
    variables: Vec<(String, String)>,
    peers: usize,
    meshes: usize,
    redis: Option<RedisKind>,
    own_postgres: bool,
    ways_that_fail: bool,
    log_writes: bool,
}

impl Plan {
    /// So many nodes.
    pub fn nodes(nodes: usize) -> Self {
        Self {
            nodes,
            settings: vec![],
            variables: vec![],
            peers: 0,
            meshes: 1,
            redis: None,
            own_postgres: false,
            ways_that_fail: false,
            log_writes: false,
        }
    }

    /// With settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings<'_>) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.settings.extend(settings);
        self
    }

    /// With variables that are not our own: those of OpenTelemetry.
    #[must_use]
    pub fn variables(mut self, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.variables.extend(variables);
        self
    }

    /// That knows so many peers from the start: `peer-0` with the key `ak_test_peer-0`…
    #[must_use]
    pub fn peers(self, peers: usize) -> Self {
        Self { peers, ..self }
    }

    /// And its peers are in so many meshes in turn: `mesh-0`…
    #[must_use]
    pub fn meshes(self, meshes: usize) -> Self {
        Self { meshes, ..self }
    }

    /// On a Redis of its own.
    #[must_use]
    pub fn own_redis(self, kind: RedisKind) -> Self {
        Self { redis: Some(kind), ..self }
    }

    /// On a Postgres of its own.
    #[must_use]
    pub fn own_postgres(self) -> Self {
        Self { own_postgres: true, ..self }
    }

    /// With a proxy between each node and its servers. For a Redis that is one server.
    #[must_use]
    pub fn ways_that_fail(self) -> Self {
        Self { ways_that_fail: true, ..self }
    }

    /// Whose nodes log each message whose write begins, and keep all that they log: see [`Node::log`].
    #[must_use]
    pub fn log_writes(self) -> Self {
        Self { log_writes: true, ..self }
    }

    /// Starts it, and waits until every node is ready.
    pub async fn start(self) -> Cluster {
        let cluster = self.launch().await;
        cluster.access().wait_until_ready().await;
        cluster
    }

    /// Starts it, and waits until every node takes connections.
    pub async fn launch(self) -> Cluster {
        let backends = Backends::start(self.redis, self.own_postgres).await;
        let mut cluster =
            Cluster { nodes: vec![], backends, plan: self, folder: folder(), program: program() };
        // The first one alone brings the peers into the database.
        let first = cluster.launch(cluster.keys_file()).await;
        let others = (1..cluster.plan.nodes).map(|_| cluster.launch(None));
        let others = futures_util::future::join_all(others).await;
        cluster.nodes = std::iter::once(first).chain(others).collect();
        cluster
    }
}

/// Nodes that are one service. They end when it is dropped, and so do servers of its own.
#[derive(Debug)]
pub struct Cluster {
    // Before what they need, so that they end first.
    nodes: Vec<Node>,
    backends: Backends,
    plan: Plan,
    folder: Folder,
    program: PathBuf,
}

impl Cluster {
    /// A node by its number, from 0.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// All nodes, in the order of their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// To all nodes in turn.
    pub fn access(&self) -> Access {
        Access::to_all(self.nodes.iter().map(|node| &**node))
    }

    /// Its Redis, if it has one of its own.
    pub fn redis(&mut self) -> &mut Redis {
        self.nodes_and_redis().1
    }

    /// Its nodes, and its Redis, if it has one of its own.
    pub fn nodes_and_redis(&mut self) -> (&[Node], &mut Redis) {
        let redis =
            self.backends.redis.as_mut().unwrap_or_else(|| panic!("this cluster has no Redis of its own"));
        (&self.nodes, redis)
    }

    /// Its Postgres, if it has one of its own.
    pub fn postgres(&mut self) -> &mut Postgres {
        self.backends.postgres.as_mut().unwrap_or_else(|| panic!("this cluster has no Postgres of its own"))
    }

    /// Runs SQL in its database, as `psql` does.
    pub async fn query(&self, sql: &str) -> String {
        self.backends.query(sql).await
    }

    /// Starts one more node and waits until it is ready; its number.
    pub async fn start_node(&mut self) -> usize {
        let node = self.launch(None).await;
        node.wait_until_ready().await;
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Starts a new node in the place of one that has ended, and waits until it is ready.
    pub async fn replace(&mut self, number: usize) {
        let node = self.launch(None).await;
        node.wait_until_ready().await;
        self.nodes[number] = node;
    }

    /// Gives up a node: ends it if it runs, and forgets it. Those behind it move up.
    pub fn remove(&mut self, number: usize) -> Node {
        self.nodes.remove(number)
    }

    async fn launch(&self, keys_file: Option<String>) -> Node {
        let mut ways = Ways::default();
        if self.plan.ways_that_fail {
            ways = self.backends.ways().await;
        }
        let mut program = Program::new(&self.program)
            .arg("serve")
            .folder(self.folder.path())
            // What is set for whoever runs the tests is not for the nodes.
            .without_env("HELIOGRAPH_")
            .without_env("OTEL_")
            .env("HELIOGRAPH_LISTEN", "127.0.0.1:0")
            .env("HELIOGRAPH_OPS_LISTEN", "127.0.0.1:0")
            .env("HELIOGRAPH_DATABASE_URL", self.backends.database_url(&ways))
            .env("HELIOGRAPH_REDIS_URL", self.backends.redis_url(&ways))
            .env("HELIOGRAPH_SIGNING_SECRET", SECRET)
            .env("HELIOGRAPH_BOOTSTRAP_ADMIN_KEY", ADMIN_KEY)
            .env("HELIOGRAPH_DRAIN_WINDOW", "5s")
            .env("HELIOGRAPH_LOG", self.log_filter())
            .env("HELIOGRAPH_LOG_FORMAT", "json");
        if let Some(file) = keys_file {
            program = program.env("HELIOGRAPH_API_KEYS_FILE", file);
        }
        for (name, value) in &self.plan.settings {
            program = program.env(format!("HELIOGRAPH_{name}"), value);
        }
        for (name, value) in &self.plan.variables {
            program = program.env(name, value);
        }
        let log = self.plan.log_writes.then(|| {
            static LOGS: AtomicU32 = AtomicU32::new(0);
            self.folder.path().join(format!("node-{}.log", LOGS.fetch_add(1, Ordering::Relaxed)))
        });
        Node::start(program, ways, log).await
    }

    /// What nodes log: what `HELIOGRAPH_TEST_LOG` says, where they serve, which is read from there, and their writes if
    /// that is wanted.
    fn log_filter(&self) -> String {
        let chosen = std::env::var("HELIOGRAPH_TEST_LOG").unwrap_or_else(|_| "info".to_owned());
        let writes = if self.plan.log_writes { ",heliograph::write=trace" } else { "" };
        format!("{chosen},heliograph_server::lifecycle=info{writes}")
    }

    fn keys_file(&self) -> Option<String> {
        let Plan { peers, meshes, .. } = self.plan;
        let mesh = |peer| if meshes > 1 { format!("mesh-{}", peer % meshes) } else { "default".to_owned() };
        (peers > 0).then(|| write_keys_in(self.folder.path(), peers, mesh))
    }
}

fn folder() -> Folder {
    Folder::new("cluster").unwrap_or_else(|error| panic!("{error:#}"))
}

/// The node's program. Cargo builds it for the tests of this package, and puts it beside the folder of their programs.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let program = test.ancestors().nth(2).map(|folder| folder.join("heliograph-testnode"));
    let program = program.filter(|program| program.is_file());
    program.unwrap_or_else(|| panic!("no heliograph-testnode: cargo build --package heliograph-testkit"))
}
