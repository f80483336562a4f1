//! A whole cluster on this machine for a person to play with: Postgres, Redis, gateways and a load balancer. It
//! prints where everything is and what to try. `cargo xtask cluster` builds and runs it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: what was asked for to one, progress to the other"
)]

mod balancer;
mod cluster;
mod gateway;
mod guide;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use cluster::Cluster;

/// Runs Heliograph as a cluster on this machine until Ctrl-C: Postgres, Redis, gateways, load balancer.
///
/// A gateway that ends, for whatever reason, is started again at its address after two seconds.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask cluster",
    after_help = "Example:\n  cargo xtask cluster --gateways 5 --redis sentinel"
)]
pub(crate) struct Arguments {
    /// How many gateways
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(crate) gateways: u8,
    /// What kind of Redis
    #[arg(long, value_enum, default_value_t = RedisKind::Standalone)]
    pub(crate) redis: RedisKind,
    /// The load balancer's port; 0 for a free one
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// Print where everything is as one line of JSON, for scripts
    #[arg(long)]
    pub(crate) json: bool,
    /// The product's program [default: `heliograph` beside this program]
    #[arg(long, value_name = "FILE")]
    pub(crate) heliograph: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RedisKind {
    /// One server
    Standalone,
    /// Three masters, each with a replica
    Cluster,
    /// A primary with two replicas, watched by three Sentinels
    Sentinel,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> Result<()> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    // Whatever runs when this returns ends with its handle.
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        result = serve(arguments) => result,
    }
}

async fn serve(arguments: &Arguments) -> Result<()> {
    let mut cluster = Cluster::start(arguments).await?;
    if arguments.json {
        println!("{}", guide::json(&cluster));
    } else {
        print!("{}", guide::text(&cluster));
    }
    cluster.watch().await
}
