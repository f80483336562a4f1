//! Redis: alone, as a Cluster, behind Sentinels.

mod client;
mod cluster;
mod node;
mod sentinel;
mod tls;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::folder::Folder;
use crate::wait::until;

pub use client::Reply;
pub use node::RedisNode;

/// How often a port that somebody took in the last moment is replaced by another.
const ATTEMPTS: u32 = 3;

/// What a server may be started with.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// Clients must say it.
    pub password: Option<String>,
    /// Clients must use TLS; [`Redis::authority`] is whom they have to trust.
    pub tls: bool,
    /// More settings as on the command line: `["--rename-command", "SSUBSCRIBE", ""]` makes it an old server.
    pub arguments: Vec<String>,
}

/// One or several Redis servers that store nothing on the disk: one that is killed comes back empty.
#[derive(Debug)]
pub struct Redis {
    // Before the folder, so that they end before it goes.
    nodes: Vec<RedisNode>,
    shape: Shape,
    options: RedisOptions,
    folder: Folder,
}

#[derive(Debug)]
enum Shape {
    Standalone,
    Cluster,
    Sentinel(Vec<RedisNode>),
}

impl Redis {
    /// One server.
    pub async fn standalone() -> Result<Self> {
        Self::standalone_with(RedisOptions::default()).await
    }

    /// One server with options.
    pub async fn standalone_with(options: RedisOptions) -> Result<Self> {
        let folder = Folder::new("redis")?;
        if options.tls {
            tls::make_certificates(folder.path()).await?;
        }
        let nodes = start_all(1, &folder, "redis", &options.settings(folder.path())).await?;
        Ok(Self { nodes, shape: Shape::Standalone, options, folder })
    }

    /// A Cluster of three masters, each with a replica, that serves all slots. A replica takes over about two seconds
    /// after its master is gone.
    pub async fn cluster() -> Result<Self> {
        let folder = Folder::new("redis-cluster")?;
        let nodes = cluster::start(&folder).await?;
        let redis = Self { nodes, shape: Shape::Cluster, options: RedisOptions::default(), folder };
        redis.wait_until_served().await?;
        Ok(redis)
    }

    /// A primary with two replicas, watched by three Sentinels under the name `main`. A replica takes over about two
    /// seconds after the primary is gone.
    pub async fn sentinel() -> Result<Self> {
        let folder = Folder::new("redis-sentinel")?;
        let (nodes, sentinels) = sentinel::start(&folder).await?;
        let options = RedisOptions::default();
        let redis = Self { nodes, shape: Shape::Sentinel(sentinels), options, folder };
        redis.wait_until_served().await?;
        Ok(redis)
    }

    /// How the product is told of it: `redis://…`, `rediss://…`, `redis+cluster://a,b,c` (all nodes) or
    /// `redis+sentinel://a,b,c/main`.
    pub fn url(&self) -> String {
        let list = |nodes: &[RedisNode]| {
            nodes.iter().map(|node| node.address().to_string()).collect::<Vec<_>>().join(",")
        };
        let password = self.options.password.as_ref().map(|word| format!(":{word}@")).unwrap_or_default();
        match &self.shape {
            Shape::Standalone => {
                let scheme = if self.options.tls { "rediss" } else { "redis" };
                format!("{scheme}://{password}{}", list(&self.nodes))
            }
            Shape::Cluster => format!("redis+cluster://{}", list(&self.nodes)),
            Shape::Sentinel(sentinels) => {
                format!("redis+sentinel://{}/{}", list(sentinels), sentinel::SERVICE)
            }
        }
    }

    /// The PEM file with the certificate that clients have to trust, where TLS is on.
    pub fn authority(&self) -> Option<PathBuf> {
        self.options.tls.then(|| tls::authority(self.folder.path()))
    }

    /// The servers that hold data, in the order in which they were started; Sentinels are not among them.
    pub fn nodes(&self) -> &[RedisNode] {
        &self.nodes
    }

    /// Runs a command on the node with this index of [`Self::nodes`]; an error reply is an error.
    pub async fn command(&self, node: usize, arguments: &[&str]) -> Result<Reply> {
        self.nodes.get(node).context("there is no such node")?.command(arguments).await
    }

    /// Empties every server.
    pub async fn flush(&self) -> Result<()> {
        for node in self.masters().await? {
            self.command(node, &["FLUSHALL"]).await?;
        }
        Ok(())
    }

    /// The indices of the nodes that run and call themselves masters.
    pub async fn masters(&self) -> Result<Vec<usize>> {
        let mut masters = vec![];
        for (index, node) in self.nodes.iter().enumerate() {
            if node.is_running() && node.role().await? == "master" {
                masters.push(index);
            }
        }
        Ok(masters)
    }

    /// Kills every node (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(RedisNode::kill)
    }

    /// Kills the node with this index (SIGKILL).
    pub fn kill_node(&mut self, node: usize) -> Result<()> {
        self.nodes.get_mut(node).context("there is no such node")?.kill()
    }

    /// Starts every node that does not run, at its address and without data, and waits until each answers. A node of
    /// a Cluster knows the others still.
    pub async fn start_empty(&mut self) -> Result<()> {
        for node in self.nodes.iter_mut().filter(|node| !node.is_running()) {
            node.start().await?;
        }
        Ok(())
    }

    /// Stops every node where it is (SIGSTOP).
    pub fn pause(&mut self) -> Result<()> {
        self.nodes.iter_mut().filter(|node| node.is_running()).try_for_each(RedisNode::pause)
    }

    /// Lets every node go on (SIGCONT).
    pub fn resume(&mut self) -> Result<()> {
        self.nodes.iter_mut().filter(|node| node.is_running()).try_for_each(RedisNode::resume)
    }

    /// Waits until all is well again among those that run: a master for every slot that all of them agree on, or a
    /// primary that all Sentinels name and that answers as such; and no replica behind.
    pub async fn wait_until_served(&self) -> Result<()> {
        until("Redis serves", async || {
            let served = match &self.shape {
                Shape::Standalone => self.masters().await.is_ok(),
                Shape::Cluster => cluster::is_served(&self.nodes).await.unwrap_or(false),
                Shape::Sentinel(sentinels) => {
                    sentinel::is_served(&self.nodes, sentinels).await.unwrap_or(false)
                }
            };
            // Who does not answer now may do so later.
            Ok(served.then_some(()))
        })
        .await
    }

    /// The node that serves a slot of a Cluster now.
    pub async fn master_of_slot(&self, slot: u16) -> Result<usize> {
        match &self.shape {
            Shape::Cluster => cluster::master_of(&self.nodes, slot).await,
            Shape::Standalone | Shape::Sentinel(_) => bail!("this is not a Cluster"),
        }
    }

    /// Kills the node that serves a slot of a Cluster; its index.
    pub async fn kill_master_of_slot(&mut self, slot: u16) -> Result<usize> {
        let node = self.master_of_slot(slot).await?;
        self.kill_node(node).map(|()| node)
    }

    /// The primary that the Sentinels name now.
    pub async fn primary(&self) -> Result<usize> {
        match &self.shape {
            Shape::Sentinel(sentinels) => sentinel::primary(&self.nodes, sentinels).await,
            Shape::Standalone | Shape::Cluster => bail!("no Sentinel watches over this"),
        }
    }

    /// Kills the primary that the Sentinels name; its index.
    pub async fn kill_primary(&mut self) -> Result<usize> {
        let node = self.primary().await?;
        self.kill_node(node).map(|()| node)
    }
}

impl RedisOptions {
    fn settings(&self, folder: &Path) -> Settings {
        let mut arguments = self.arguments.clone();
        if let Some(password) = &self.password {
            arguments.extend(["--requirepass".to_owned(), password.clone()]);
        }
        if self.tls {
            arguments.extend(tls::arguments(folder));
        }
        Settings { role: Role::Data, arguments, password: self.password.clone(), tls: self.tls }
    }
}

/// What a node is started with beside its port and folder.
#[derive(Debug, Clone, Default)]
struct Settings {
    role: Role,
    arguments: Vec<String>,
    password: Option<String>,
    tls: bool,
}

#[derive(Debug, Clone, Copy, Default)]
enum Role {
    #[default]
    Data,
    Sentinel,
}

/// Starts `count` nodes at once; each answers.
async fn start_all(count: usize, folder: &Folder, name: &str, settings: &Settings) -> Result<Vec<RedisNode>> {
    let mut nodes = vec![];
    for index in 0..count {
        nodes.push(RedisNode::start_new(&folder.path().join(format!("{name}-{index}")), settings.clone())?);
    }
    for node in &mut nodes {
        let mut attempts = 1;
        while let Err(error) = node.wait_until_it_answers().await {
            if attempts == ATTEMPTS || !error.to_string().contains("Address already in use") {
                return Err(error);
            }
            attempts += 1;
            node.start_elsewhere()?;
        }
    }
    Ok(nodes)
}
