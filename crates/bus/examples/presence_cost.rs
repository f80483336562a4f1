//! What presence costs: this process's CPU time per session that comes and goes, and per list of a large mesh.
//!
//! `cargo run --release -p heliograph-bus --example presence_cost` starts a Redis of its own.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement: it prints, and a panic is how it fails"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_bus::redis::{Options, connect};
use heliograph_bus::testing::{peer, visit};
use heliograph_bus::{Place, Presence};
use heliograph_core::id::{GatewayId, SpaceName};
use heliograph_sandbox::Redis;
use prometheus::Registry;

const SESSIONS: u32 = 6_000;
const MEMBERS: u32 = 5_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let redis = Redis::standalone().await.unwrap();
    let options = Options::parse(&redis.url()).unwrap();
    let node = connect(options, GatewayId::parse("gw").unwrap(), &Registry::new()).unwrap();
    let presence = node.link().presence;
    while presence.reseat(&[]).await.is_err() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for at_once in [1, 8, 64] {
        let run = run(&presence, SESSIONS, at_once);
        measure(&format!("claim, place, release; {at_once} at once"), SESSIONS, run).await;
    }
    let mesh = SpaceName::parse("large").unwrap();
    let mut last = None;
    for i in 0..MEMBERS {
        last = Some((i, come(&*presence, &mesh, i).await));
    }
    let (last, epoch) = last.unwrap();
    let looking = async {
        for _ in 0..200 {
            let name = peer(&format!("agent-{last}"));
            presence.place(&mesh, &name, epoch, Place::Same).await.unwrap();
        }
    };
    measure(&format!("a list of {MEMBERS}"), 200, looking).await;
    node.shutdown().await;
}

async fn run(presence: &Arc<dyn Presence>, sessions: u32, at_once: u32) {
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..at_once {
        let presence = Arc::clone(presence);
        tasks.spawn(async move {
            // Small meshes: the length of lists is measured apart.
            let mesh = SpaceName::parse(&format!("mesh-{task}")).unwrap();
            for i in 0..sessions / at_once {
                let epoch = come(&*presence, &mesh, i).await;
                presence.release(&mesh, &peer(&format!("agent-{i}")), epoch).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}

async fn come(presence: &dyn Presence, mesh: &SpaceName, i: u32) -> heliograph_core::id::Epoch {
    let name = peer(&format!("agent-{i}"));
    let epoch = presence.claim(mesh, &name, visit()).await.unwrap().epoch;
    presence.place(mesh, &name, epoch, Place::New).await.unwrap();
    epoch
}

async fn measure(what: &str, count: u32, running: impl Future<Output = ()>) {
    let (cpu, began) = (cpu(), Instant::now());
    running.await;
    let cpu_us = self::cpu().saturating_sub(cpu).as_secs_f64() * 1e6 / f64::from(count);
    let us = began.elapsed().as_secs_f64() * 1e6 / f64::from(count);
    println!("{what}: {cpu_us:.1} us of CPU, {us:.1} us of time each");
}

/// The CPU time of this process so far, as the kernel counts it in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}
