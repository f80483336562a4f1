//! What is measured. Each function runs one measurement against one server and ends by itself.

use std::future::Future;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use crate::client::Client;
use crate::procfs::Cpu;
use crate::target::Target;

pub mod idle;
pub mod join;
pub mod relay;
pub mod setup;
pub mod storm;

/// Processor time of a server and time on the wall, from a start.
#[derive(Debug)]
pub struct Meter {
    pid: u32,
    cpu: Cpu,
    begun: Instant,
}

/// What an amount of work took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Server processor time per piece, in microseconds.
    pub cpu_us: f64,
    /// Pieces per second.
    pub per_second: f64,
}

impl Meter {
    /// Starts to measure.
    pub fn start(target: &Target) -> anyhow::Result<Self> {
        Ok(Self { pid: target.pid, cpu: Cpu::of(target.pid)?, begun: Instant::now() })
    }

    /// The cost of each of `pieces` since the start.
    pub fn stop(&self, pieces: u64) -> anyhow::Result<Cost> {
        let seconds = self.begun.elapsed().as_secs_f64();
        let nanos = Cpu::of(self.pid)?.since(&self.cpu);
        let pieces = pieces as f64;
        Ok(Cost { cpu_us: nanos as f64 / 1_000.0 / pieces, per_second: pieces / seconds })
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
