//! Several nodes as one service, with a Redis server of their own and a database.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use heliograph_sandbox::{Postgres, Redis};

use crate::peers::Peer;
use crate::process::{Limits, Server, Shared};
use crate::target::Service;

/// How long a database may stay in use after the node that used it has ended.
const RELEASED: Duration = Duration::from_secs(10);

/// A PostgreSQL server that counts statements.
#[derive(Debug)]
pub struct Databases {
    server: Postgres,
    pid: u32,
    /// The database in which peers are enrolled, from which others are copied.
    template: Option<String>,
}

impl Databases {
    /// Starts it.
    pub async fn start() -> anyhow::Result<Self> {
        let mut server = Postgres::start().await?;
        let count = "ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'";
        server.query("postgres", count).await?;
        server.restart().await?;
        server.query("postgres", "CREATE EXTENSION pg_stat_statements").await?;
        let id = server.query("postgres", "SELECT pg_read_file('postmaster.pid')").await?;
        let pid = id.lines().next().unwrap_or_default().parse().context("PostgreSQL's process id")?;
        Ok(Self { server, pid, template: None })
    }

    /// A new database in which `peers` are enrolled, the same at each call; the first takes a while.
    async fn enrolled(&mut self, program: &Path, peers: &[Peer]) -> anyhow::Result<String> {
        let template = match self.template.take() {
            Some(template) => template,
            None => self.enrol(program, peers).await?,
        };
        let copy = self.server.database().await?;
        let (from, to) = (name(&template).to_owned(), name(&copy).to_owned());
        self.template = Some(template);
        self.server.query("postgres", &format!("DROP DATABASE {to}")).await?;
        self.server.query("postgres", &format!("CREATE DATABASE {to} TEMPLATE {from}")).await?;
        Ok(copy)
    }

    async fn enrol(&self, program: &Path, peers: &[Peer]) -> anyhow::Result<String> {
        let database = self.server.database().await?;
        let redis = Redis::standalone().await?;
        let shared = Shared { database: database.clone(), redis: redis.url() };
        let node = Server::node(program, &shared, Limits::Off, Some(peers)).await?;
        eprintln!("{} keys imported, ready in {:.1} s", peers.len(), node.started_in.as_secs_f64());
        node.stop().await?;
        let users = format!("SELECT count(*) FROM pg_stat_activity WHERE datname = '{}'", name(&database));
        let released = async {
            while self.server.query("postgres", &users).await? != "0" {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(RELEASED, released).await.context("the database stays in use")??;
        Ok(database)
    }

    async fn statements(&self, database: &str) -> anyhow::Result<u64> {
        let sum = format!(
            "SELECT coalesce(sum(calls), 0) FROM pg_stat_statements \
             JOIN pg_database ON dbid = oid WHERE datname = '{}'",
            name(database)
        );
        self.server.query("postgres", &sum).await?.parse().context("a number of statements")
    }
}

/// The name in a database's URL.
fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// What was asked of the servers behind the nodes, since they started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Redis commands, by name.
    pub redis: BTreeMap<String, u64>,
    /// SQL statements of the nodes.
    pub statements: u64,
}

impl Asked {
    /// Publishes since `before`.
    pub fn publishes_since(&self, before: &Self) -> u64 {
        self.commands_since(before, |name| matches!(name, "publish" | "spublish"))
    }

    /// Commands since `before` whose names are `wanted`.
    pub fn commands_since(&self, before: &Self, wanted: impl Fn(&str) -> bool) -> u64 {
        let then = |name| before.redis.get(name).copied().unwrap_or(0);
        let mine = self.redis.iter().filter(|(name, _)| wanted(name));
        mine.map(|(name, now)| now.saturating_sub(then(name))).sum()
    }
}

/// A running cluster; dropping it ends its nodes and its Redis.
#[derive(Debug)]
pub struct Cluster {
    // Before Redis, so that they do not live to see it go.
    nodes: Vec<Server>,
    redis: Redis,
    service: Service,
    database: Option<String>,
}

impl Cluster {
    /// As many bare relays, with one Redis server between them.
    pub async fn bare(program: &Path, count: usize) -> anyhow::Result<Self> {
        let redis = Redis::standalone().await?;
        let address = redis.nodes().first().context("no Redis")?.address();
        let mut nodes = vec![];
        for _ in 0..count {
            nodes.push(Server::bare(program, Some(address)).await?);
        }
        Self::of(nodes, redis, None).await
    }

    /// As many nodes of the product, with one Redis server and one database between them in which `peers` are enrolled.
    pub async fn product(
        program: &Path,
        count: usize,
        limits: Limits,
        databases: &mut Databases,
        peers: &[Peer],
    ) -> anyhow::Result<Self> {
        let database = databases.enrolled(program, peers).await?;
        let redis = Redis::standalone().await?;
        let shared = Shared { database: database.clone(), redis: redis.url() };
        let mut nodes = vec![];
        for _ in 0..count {
            nodes.push(Server::node(program, &shared, limits, None).await?);
        }
        Self::of(nodes, redis, Some((database, databases.pid))).await
    }

    async fn of(nodes: Vec<Server>, redis: Redis, database: Option<(String, u32)>) -> anyhow::Result<Self> {
        ensure!(!nodes.is_empty(), "a cluster without nodes");
        let info = redis.command(0, &["INFO", "server"]).await?;
        let pid = info.field("process_id").and_then(|id| id.parse().ok()).context("Redis's process id")?;
        let (database, postgres) = database.unzip();
        let service = Service {
            nodes: nodes.iter().map(|node| node.target().clone()).collect(),
            redis: Some(pid),
            postgres,
        };
        Ok(Self { nodes, redis, service, database })
    }

    /// How to reach it.
    pub fn service(&self) -> &Service {
        &self.service
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Ends a node as `kill -9` does. It is no part of [`Self::service`] any more.
    pub fn kill(&mut self, node: usize) -> anyhow::Result<()> {
        ensure!(self.nodes.len() > 1, "the last node");
        let mut killed = self.nodes.remove(node);
        self.service.nodes.remove(node);
        killed.kill()
    }

    /// What was asked of Redis and, if it has one of `databases`, of the database.
    pub async fn asked(&self, databases: Option<&Databases>) -> anyhow::Result<Asked> {
        let info = self.redis.command(0, &["INFO", "commandstats"]).await?;
        let statements = match databases.zip(self.database.as_ref()) {
            Some((databases, database)) => databases.statements(database).await?,
            None => 0,
        };
        Ok(Asked { redis: commands(info.text()), statements })
    }
}

/// The calls in `INFO commandstats`; our own question is none.
fn commands(info: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let (calls, _) = rest.split_once(',')?;
        Some((name.to_owned(), calls.parse().ok()?))
    };
    info.lines().filter_map(line).filter(|(name, _)| name != "info").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_counted_by_name() {
        let before = "# Commandstats\r\ncmdstat_info:calls=3,usec=1\r\ncmdstat_publish:calls=10,usec=5\r\n";
        let after = "cmdstat_info:calls=4,usec=1\r\ncmdstat_publish:calls=25,usec=9\r\ncmdstat_spublish:calls=2,usec=1\r\ncmdstat_config|get:calls=1,usec=1\r\n";
        let [before, after] = [before, after].map(|info| Asked { redis: commands(info), statements: 0 });
        assert_eq!(after.publishes_since(&before), 17);
        assert_eq!(after.commands_since(&before, |_| true), 18);
    }

    #[test]
    fn a_database_is_known_by_its_name() {
        assert_eq!(name("postgres://postgres@127.0.0.1:12000/heliograph_3"), "heliograph_3");
    }
}
