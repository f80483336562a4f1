//! What is measured. Each function runs one measurement against one server and ends by itself.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use crate::client::Client;
use crate::procfs::{Cpu, family};
use crate::target::Service;

pub mod agents;
pub mod count;
pub mod idle;
pub mod join;
pub mod reconnect;
pub mod relay;
pub mod revoke;
pub mod room;
pub mod setup;
pub mod storm;

/// Processor time of a service and time on the wall, from a start.
#[derive(Debug)]
pub struct Meter {
    nodes: Group,
    redis: Group,
    postgres: Group,
    begun: Instant,
}

/// What an amount of work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Processor time of the nodes per piece, in microseconds.
    pub cpu_us: f64,
    /// That of Redis.
    pub redis_us: f64,
    /// That of PostgreSQL.
    pub postgres_us: f64,
    /// Pieces per second.
    pub per_second: f64,
}

impl Cost {
    /// Processor time of all servers per piece, in microseconds.
    pub fn all_us(&self) -> f64 {
        self.cpu_us + self.redis_us + self.postgres_us
    }
}

impl Meter {
    /// Starts to measure.
    pub fn start(service: &Service) -> anyhow::Result<Self> {
        Ok(Self {
            nodes: Group::of(service.nodes.iter().map(|node| node.pid).collect(), false)?,
            redis: Group::of(service.redis.into_iter().collect(), false)?,
            postgres: Group::of(service.postgres.into_iter().collect(), true)?,
            begun: Instant::now(),
        })
    }

    /// The cost of each of `pieces` since the start.
    pub fn stop(&self, pieces: u64) -> anyhow::Result<Cost> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let pieces = pieces as f64;
        let each = |group: &Group| anyhow::Ok(group.since()? as f64 / 1_000.0 / pieces);
        let [cpu_us, redis_us, postgres_us] = [each(&self.nodes)?, each(&self.redis)?, each(&self.postgres)?];
        Ok(Cost { cpu_us, redis_us, postgres_us, per_second: pieces / seconds })
    }
}

/// Processes that are measured as one.
#[derive(Debug)]
struct Group {
    roots: Vec<u32>,
    /// Whether those count too that the roots started: they come and go.
    families: bool,
    before: BTreeMap<u32, Cpu>,
}

impl Group {
    fn of(roots: Vec<u32>, families: bool) -> anyhow::Result<Self> {
        let mut group = Self { roots, families, before: BTreeMap::new() };
        group.before = group.now()?;
        Ok(group)
    }

    fn now(&self) -> anyhow::Result<BTreeMap<u32, Cpu>> {
        let mut now = BTreeMap::new();
        for &root in &self.roots {
            now.insert(root, Cpu::of(root)?);
            for child in if self.families { family(root) } else { vec![] } {
                // One that ended takes along what it used: a benchmark's databases keep their processes.
                now.extend(Cpu::of(child).ok().map(|cpu| (child, cpu)));
            }
        }
        Ok(now)
    }

    /// Nanoseconds of all since the start.
    fn since(&self) -> anyhow::Result<u64> {
        let each = |(pid, now): (u32, Cpu)| match self.before.get(&pid) {
            Some(before) => now.since(before),
            None => now.total(),
        };
        Ok(self.now()?.into_iter().map(each).sum())
    }
}

/// Runs `work` for all `items`, `width` of them at any time; the first error ends it.
pub(crate) async fn side_by_side<I, T, F>(
    items: impl IntoIterator<Item = I>,
    width: usize,
    work: impl FnMut(I) -> F,
) -> anyhow::Result<Vec<T>>
where
    F: Future<Output = anyhow::Result<T>>,
{
    let mut running = stream::iter(items).map(work).buffer_unordered(width);
    let mut done = vec![];
    while let Some(result) = running.next().await {
        done.push(result?);
    }
    Ok(done)
}

/// Closes all of them properly.
pub(crate) async fn close_all(clients: Vec<Client>) -> anyhow::Result<()> {
    side_by_side(clients, 64, Client::close).await?;
    Ok(())
}
