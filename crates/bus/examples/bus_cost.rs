//! What a message over Redis costs: `cargo run --release -p heliograph-bus --example bus_cost`.
//!
//! Two nodes in this process, a Redis of its own, messages of 1.5 KB to 1,000 peers: at a fixed rate, timed from when
//! each was due, and as fast as they pass. Prints the CPU time of this process (sending and receiving together) and
//! of Redis per message, and how long messages took. Needs `redis-server` and a Linux `/proc`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement for people: it prints, or it fails"
)]

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use heliograph_bus::redis::{Node, Options, connect};
use heliograph_bus::testing::{mesh, peer};
use heliograph_bus::{Destination, Heir, Inbox, Lost, Parcel, RemoteSignal, Sent, Witness};
use heliograph_core::id::{Epoch, GatewayId, Version};
use heliograph_core::message::Kind;
use heliograph_sandbox::Redis;
use prometheus::Registry;

const PEERS: usize = 1_000;
const PAYLOAD: usize = 1_500;
const RUN: Duration = Duration::from_secs(5);
/// Messages under way when they are sent as fast as they pass.
const WINDOW: u64 = 4_000;

struct Counter {
    start: Instant,
    arrived: AtomicU64,
    lost: AtomicUsize,
    took_us: Mutex<Vec<u64>>,
}

impl Inbox for Counter {
    fn arrived(&self, _: &Destination, parcel: Parcel) {
        let Parcel::Signal(signal) = parcel else { return };
        let now = u64::try_from(self.start.elapsed().as_micros()).unwrap();
        self.took_us.lock().unwrap().push(now.saturating_sub(signal.accepted_unix_us));
        self.arrived.fetch_add(1, Ordering::Relaxed);
    }

    fn returned(&self, _: &Destination, _: Witness, _: Lost) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    fn nobody_hands_over(&self, _: &Heir) {}
}

/// CPU time of all threads of this process, in seconds.
fn own_cpu() -> f64 {
    let of_task = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split(' ').next()?.parse::<f64>().ok()
    };
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(|task| of_task(task.unwrap())).sum::<f64>() / 1e9
}

async fn redis_cpu(redis: &Redis) -> f64 {
    let info = redis.command(0, &["INFO", "cpu"]).await.unwrap();
    let of = |name| info.text().lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
    of("used_cpu_sys:").unwrap() + of("used_cpu_user:").unwrap()
}

fn node(options: &Options, name: &str, inbox: &Arc<Counter>) -> Arc<Node> {
    let node = connect(options.clone(), GatewayId::parse(name).unwrap(), &Registry::new()).unwrap();
    let inbox: Weak<dyn Inbox> = Arc::downgrade(&(Arc::clone(inbox) as Arc<dyn Inbox>));
    node.attach(inbox);
    node
}

/// Sends on a worker thread of the runtime, as all that sends in a gateway.
struct Sender {
    counter: Arc<Counter>,
    from: Arc<Node>,
    to: Vec<Destination>,
    payload: Bytes,
    sent: u64,
}

impl Sender {
    fn send(&mut self, due: Duration) {
        let to = self.to[usize::try_from(self.sent).unwrap() % PEERS].clone();
        let signal = RemoteSignal {
            from: peer("sender"),
            from_epoch: Epoch(1),
            from_version: Version(1),
            kind: Kind::Offer,
            id: None,
            payload: self.payload.clone(),
            receipt: false,
            accepted_unix_us: u64::try_from(due.as_micros()).unwrap(),
            trace: None,
            behind: None,
        };
        let sent = self.from.link().bus.send(to, Parcel::Signal(signal));
        self.sent += u64::from(sent == Sent::Queued);
    }

    async fn at_rate(mut self, rate: u32) -> Self {
        let begin = self.counter.start.elapsed();
        let each = if rate == 0 { 2 * RUN } else { Duration::from_secs(1) / rate };
        let mut ticks = tokio::time::interval(Duration::from_millis(1));
        let mut due = begin + each;
        while self.counter.start.elapsed() < begin + RUN {
            ticks.tick().await;
            while due <= self.counter.start.elapsed() {
                self.send(due);
                due += each;
            }
        }
        self
    }

    async fn flat_out(mut self) -> Self {
        let begin = Instant::now();
        while begin.elapsed() < RUN {
            let under_way = self.sent - self.counter.arrived.load(Ordering::Relaxed);
            for _ in under_way..WINDOW {
                self.send(self.counter.start.elapsed());
            }
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        self
    }
}

/// Sends, waits until all has arrived, and prints what it cost.
async fn measure<F>(redis: &Redis, sender: Sender, what: &str, work: impl FnOnce(Sender) -> F) -> Sender
where
    F: Future<Output = Sender> + Send + 'static,
{
    let (cpu, redis_before, start, before) = (own_cpu(), redis_cpu(redis).await, Instant::now(), sender.sent);
    let sender = tokio::spawn(work(sender)).await.unwrap();
    while sender.counter.arrived.load(Ordering::Relaxed) < sender.sent && start.elapsed() < 2 * RUN {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (cpu, redis) = (own_cpu() - cpu, redis_cpu(redis).await - redis_before);
    let mut took = std::mem::take(&mut *sender.counter.took_us.lock().unwrap());
    took.sort_unstable();
    let (Some(last), count) = (took.len().checked_sub(1), (sender.sent - before) as f64) else {
        println!(
            "{what}: CPU per second {:.2} ms here, {:.2} ms Redis",
            cpu * 1e3 / seconds,
            redis * 1e3 / seconds
        );
        return sender;
    };
    println!(
        "{what}: {:.0}/s; CPU per message {:.2} µs here, {:.2} µs Redis; took p50 {} µs, p99 {} µs; lost {}",
        count / seconds,
        cpu * 1e6 / count,
        redis * 1e6 / count,
        took[last / 2],
        took[last * 99 / 100],
        sender.counter.lost.load(Ordering::Relaxed),
    );
    sender
}

#[tokio::main]
async fn main() {
    let redis = Redis::standalone().await.unwrap();
    let options = Options::parse(&redis.url()).unwrap();
    let counter = Arc::new(Counter {
        start: Instant::now(),
        arrived: AtomicU64::new(0),
        lost: AtomicUsize::new(0),
        took_us: Mutex::default(),
    });
    let (from, receiver) = (node(&options, "from", &counter), node(&options, "to", &counter));
    for node in [&from, &receiver] {
        while !node.link().bus.is_up() {
            let _says_that_it_has_nobody = node.link().presence.reseat(&[]).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let to: Vec<_> = (0..PEERS).map(|i| Destination::Peer(mesh(), peer(&format!("peer-{i:06}")))).collect();
    for destination in &to {
        receiver.link().bus.subscribe(destination.clone()).await.unwrap();
    }
    let payload = Bytes::from(format!("\"{}\"", "x".repeat(PAYLOAD - 2)));
    let mut sender = Sender { counter, from, to, payload, sent: 0 };
    sender = measure(&redis, sender, "no messages, but a clock that ticks each ms", |s| s.at_rate(0)).await;
    for rate in [500, 2_000, 10_000] {
        sender = measure(&redis, sender, &format!("at {rate}/s"), |s| s.at_rate(rate)).await;
    }
    measure(&redis, sender, "as fast as they pass", Sender::flat_out).await;
}
