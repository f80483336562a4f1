//! What the check of a message costs: both rights and the lease, alone and while a feed changes them.
//!
//! `cargo bench -p heliograph-core --bench authority`; `docs/performance.md` has figures and says what they mean.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use heliograph_core::authority::{Authority, Right, Standing};
use heliograph_core::id::Version;

const TERM: Duration = Duration::from_secs(3);

/// What one check reads: two peers out of many, as a node has them.
struct Scene {
    authority: Authority,
    rights: Vec<Right>,
}

impl Scene {
    fn new(peers: usize) -> Self {
        let now = Instant::now();
        let authority = Authority::new(now);
        authority.renewed(now, Duration::from_hours(1));
        let rights: Vec<Right> = std::iter::repeat_with(Right::unknown).take(peers).collect();
        for right in &rights {
            right.apply(Version(1), Standing::Approved);
        }
        Self { authority, rights }
    }

    /// Spreads over all peers, so that the caches do not hold just two words.
    fn pair(&self, message: usize) -> (&Right, &Right) {
        let at = |salt: usize| (message + salt).wrapping_mul(0x9E37_79B1) % self.rights.len();
        (&self.rights[at(0)], &self.rights[at(7)])
    }

    fn check(&self, message: usize, now: Instant) -> bool {
        let (from, to) = self.pair(message);
        self.authority.may_relay(black_box(from), black_box(to), now).is_ok()
    }
}

/// Does what a feed does, without a pause, which is some million times as often: applies a change, applies the
/// version, renews.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(scene: Arc<Scene>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut version = 2;
            while !stopped.load(Ordering::Relaxed) {
                let at = usize::try_from(version).unwrap_or(0) % scene.rights.len();
                scene.rights[at].apply(Version(version), Standing::Approved);
                scene.authority.applied(Version(version));
                scene.authority.renewed(Instant::now(), TERM);
                version += 1;
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _joined = thread.join();
        }
    }
}

fn authority(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("may_relay");
    let mut message = 0usize;
    let mut measure = |name: &str, scene: &Scene, with_clock: bool| {
        group.bench_function(name, |bencher| {
            let turn = Instant::now();
            bencher.iter(|| {
                message = message.wrapping_add(1);
                let now = if with_clock { Instant::now() } else { turn };
                scene.check(message, now)
            });
        });
    };
    measure("two peers", &Scene::new(2), false);
    let many = Arc::new(Scene::new(10_000));
    measure("of 10,000 peers", &many, false);
    measure("of 10,000 peers, and the clock", &many, true);
    let _writer = Writer::start(Arc::clone(&many));
    measure("of 10,000 peers, while they change", &many, false);
    group.finish();
}

criterion_group!(benches, authority);
criterion_main!(benches);
