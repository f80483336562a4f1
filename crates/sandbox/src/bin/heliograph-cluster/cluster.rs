//! All servers, started in the order in which they need each other.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use heliograph_sandbox::{Folder, Postgres, Program, Redis};
use rand::distr::{Alphanumeric, SampleString};

use crate::balancer::Balancer;
use crate::gateway::Gateway;
use crate::{Arguments, RedisKind};

/// How often the servers are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Everything that runs; it ends from the top down.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) balancer: Balancer,
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) redis: Redis,
    pub(crate) postgres: Postgres,
    /// The database's URL.
    pub(crate) database: String,
    pub(crate) admin_key: String,
    /// The product's program.
    pub(crate) heliograph: PathBuf,
    _folder: Folder,
}

impl Cluster {
    /// Starts all of it; every gateway is ready and the load balancer knows it.
    pub(crate) async fn start(arguments: &Arguments) -> Result<Self> {
        let heliograph = program(arguments)?;
        let folder = Folder::on_disk("cluster")?;
        eprintln!("Postgres and Redis …");
        let (postgres, redis) = tokio::try_join!(Postgres::start(), redis(arguments.redis))?;
        let database = postgres.database().await?;

        let admin_key = format!("ak_{}", secret(32));
        let node = Program::new(&heliograph)
            .without_env("HELIOGRAPH_")
            .without_env("OTEL_")
            .env("HELIOGRAPH_DATABASE_URL", &database)
            .env("HELIOGRAPH_REDIS_URL", redis.url())
            .env("HELIOGRAPH_SIGNING_SECRET", secret(48))
            .env("HELIOGRAPH_BOOTSTRAP_ADMIN_KEY", &admin_key)
            .env("HELIOGRAPH_ROOMS", "open")
            .env("HELIOGRAPH_TRUSTED_PROXIES", "127.0.0.1/32");
        node.clone().arg("migrate").run().await?;

        eprintln!("{} gateways …", arguments.gateways);
        let mut gateways = vec![];
        for number in 1..=arguments.gateways {
            gateways.push(Gateway::start(number, &node, &folder)?);
        }
        for gateway in &mut gateways {
            gateway.wait_until_ready().await?;
        }
        eprintln!("Load balancer …");
        let balancer = Balancer::start(arguments.port, &gateways, &folder).await?;
        Ok(Self { balancer, gateways, redis, postgres, database, admin_key, heliograph, _folder: folder })
    }

    /// Starts gateways again that end, for ever; an error when the load balancer does.
    pub(crate) async fn watch(&mut self) -> Result<()> {
        loop {
            self.balancer.must_run()?;
            for gateway in &mut self.gateways {
                if let Some(news) = gateway.look_after()? {
                    eprintln!("{news}");
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn redis(kind: RedisKind) -> Result<Redis> {
    match kind {
        RedisKind::Standalone => Redis::standalone().await,
        RedisKind::Cluster => Redis::cluster().await,
        RedisKind::Sentinel => Redis::sentinel().await,
    }
}

fn program(arguments: &Arguments) -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("heliograph"));
    let program = arguments.heliograph.clone().map_or_else(beside, anyhow::Ok)?;
    // It runs in other folders than this.
    program
        .canonicalize()
        .with_context(|| format!("{}: build it first, or say --heliograph", program.display()))
}

fn secret(length: usize) -> String {
    Alphanumeric.sample_string(&mut rand::rng(), length)
}
