//! The servers that a cluster's nodes share.

use std::sync::atomic::{AtomicU32, Ordering};

use heliograph_sandbox::{Postgres, Proxy, Redis};
use heliograph_store_postgres::PostgresStore;
use tokio::sync::OnceCell;

use super::node::Ways;

/// The database from which others are made: at this version, and empty.
const TEMPLATE: &str = "heliograph_template";

/// How a cluster's own Redis is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisKind {
    /// One server.
    Standalone,
    /// A Cluster of three masters with a replica each.
    Cluster,
    /// A primary with two replicas and three Sentinels.
    Sentinel,
}

/// Where nodes keep things and meet.
#[derive(Debug)]
pub(super) struct Backends {
    pub(super) redis: Option<Redis>,
    pub(super) postgres: Option<Postgres>,
    redis_url: String,
    database_url: String,
}

impl Backends {
    pub(super) async fn start(kind: Option<RedisKind>, own_postgres: bool) -> Self {
        let ((redis, redis_url), (postgres, database_url)) =
            tokio::join!(redis(kind), postgres(own_postgres));
        Self { redis, postgres, redis_url, database_url }
    }

    /// Ways to them for one node.
    pub(super) async fn ways(&self) -> Ways {
        Ways { redis: Some(way_to(&self.redis_url).await), database: Some(way_to(&self.database_url).await) }
    }

    pub(super) fn redis_url(&self, ways: &Ways) -> String {
        through(ways.redis.as_ref(), &self.redis_url)
    }

    pub(super) fn database_url(&self, ways: &Ways) -> String {
        through(ways.database.as_ref(), &self.database_url)
    }

    pub(super) async fn query(&self, sql: &str) -> String {
        let postgres = match &self.postgres {
            Some(own) => own,
            None => Postgres::shared().await.unwrap_or_else(|error| panic!("{error:#}")),
        };
        postgres.query(&self.database_url, sql).await.unwrap_or_else(|error| panic!("{error:#}"))
    }
}

async fn redis(kind: Option<RedisKind>) -> (Option<Redis>, String) {
    static CLUSTERS: AtomicU32 = AtomicU32::new(0);
    let own = match kind {
        Some(RedisKind::Standalone) => Redis::standalone().await,
        Some(RedisKind::Cluster) => Redis::cluster().await,
        Some(RedisKind::Sentinel) => Redis::sentinel().await,
        None => {
            let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
            return (None, format!("{}?prefix=c{number}", shared_redis().await.url()));
        }
    };
    let own = own.unwrap_or_else(|error| panic!("{error:#}"));
    let url = own.url();
    (Some(own), url)
}

/// One server for all that do not hurt it; it ends with this process.
async fn shared_redis() -> &'static Redis {
    static SHARED: OnceCell<Redis> = OnceCell::const_new();
    let shared = SHARED.get_or_try_init(Redis::standalone).await;
    shared.unwrap_or_else(|error| panic!("{error:#}"))
}

async fn postgres(own: bool) -> (Option<Postgres>, String) {
    if own {
        let postgres = Postgres::start().await.unwrap_or_else(|error| panic!("{error:#}"));
        let url = postgres.database().await.unwrap_or_else(|error| panic!("{error:#}"));
        migrate(&url).await;
        return (Some(postgres), url);
    }
    (None, copy_of_template().await.unwrap_or_else(|error| panic!("{error:#}")))
}

/// A new database on the shared server. Copying one is quicker than bringing an empty one to this version.
async fn copy_of_template() -> anyhow::Result<String> {
    static TEMPLATE_MADE: OnceCell<()> = OnceCell::const_new();
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let postgres = Postgres::shared().await?;
    let url = |name: &str| format!("postgres://postgres@{}/{name}", postgres.address());
    let make = async || {
        postgres.query("postgres", &format!("CREATE DATABASE {TEMPLATE}")).await?;
        migrate(&url(TEMPLATE)).await;
        anyhow::Ok(())
    };
    TEMPLATE_MADE.get_or_try_init(make).await?;
    let name = format!("cluster_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    postgres.query("postgres", &format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}")).await?;
    Ok(url(&name))
}

async fn migrate(url: &str) {
    PostgresStore::migrate(url).await.unwrap_or_else(|error| panic!("{error}"));
}

/// A proxy to the server that a URL names.
async fn way_to(url: &str) -> Proxy {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = authority.split(['/', '?']).next().unwrap_or(authority);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let address =
        host.parse().unwrap_or_else(|_| panic!("a proxy stands before one server, not before {host}"));
    Proxy::to(address).await.unwrap_or_else(|error| panic!("{error:#}"))
}

fn through(way: Option<&Proxy>, url: &str) -> String {
    way.map_or_else(|| url.to_owned(), |way| way.through(url))
}
