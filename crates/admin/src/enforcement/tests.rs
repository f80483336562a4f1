use super::*;
use heliograph_core::id::{MeshName, PeerId};
use heliograph_store::memory::MemoryStore;
use heliograph_store::{ApiKeys, By, Leases, NewKey};
use tokio::time::advance;

const TERM: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(30);

struct World {
    store: Arc<MemoryStore>,
    enforcement: Arc<Enforcement>,
}

fn world() -> World {
    let took = Histogram::with_opts(prometheus::HistogramOpts::new("took", "Seconds")).unwrap();
    let store = Arc::new(MemoryStore::new());
    let enforcement = Arc::new(Enforcement::new(store.clone(), TERM, took));
    World { store, enforcement }
}

fn gateway(name: &str) -> GatewayId {
    GatewayId::parse(name).unwrap()
}

impl World {
    /// Commits some change.
    async fn change(&self, number: u8) -> Version {
        let key = NewKey {
            id: format!("key_{number}"),
            secret: [number; 32],
            mesh: MeshName::default_mesh(),
            peer: PeerId::parse("a").unwrap(),
            role: "agent".into(),
            name: String::new(),
        };
        self.store.create_key(key, By { actor: "test", now: 0 }).await.unwrap();
        Version(u64::from(number))
    }

    async fn renew(&self, name: &str, acknowledged: Version) {
        self.store.renew(&gateway(name), acknowledged, acknowledged).await.unwrap();
    }

    /// A holder that goes on renewing without ever acknowledging more than `acknowledged`.
    async fn keep_renewing(&self, name: &'static str, acknowledged: Version) {
        self.renew(name, acknowledged).await;
        let store = self.store.clone();
        tokio::spawn(async move {
            loop {
                sleep(TERM / 3).await;
                store.renew(&gateway(name), acknowledged, acknowledged).await.unwrap();
            }
        });
    }

    fn waits(&self, version: Version, limit: Duration) -> tokio::task::JoinHandle<Report> {
        let enforcement = self.enforcement.clone();
        tokio::spawn(async move { enforcement.wait(version, limit).await })
    }
}

fn check(report: &Report, enforced: bool, acknowledged: &[&str], expired: &[&str]) {
    let names = |names: &[&str]| names.iter().copied().map(gateway).collect::<Vec<_>>();
    assert_eq!(report.enforced, enforced, "{report:?}");
    assert_eq!(report.acknowledged, names(acknowledged), "{report:?}");
    assert_eq!(report.expired, names(expired), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn without_leases_a_change_holds_at_once() {
    let world = world();
    let version = world.change(1).await;
    check(&world.enforcement.wait(version, Duration::ZERO).await, true, &[], &[]);
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_ends_the_wait_at_once() {
    let world = world();
    world.renew("gw-a", Version(0)).await;
    let version = world.change(1).await;
    let wait = world.waits(version, LONG);
    advance(Duration::from_millis(30)).await;
    assert!(!wait.is_finished());
    world.renew("gw-a", version).await;
    let report = wait.await.unwrap();
    check(&report, true, &["gw-a"], &[]);
    assert!(report.waited < Duration::from_millis(50), "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn an_older_acknowledgement_is_none() {
    let world = world();
    let first = world.change(1).await;
    world.keep_renewing("gw-a", first).await;
    let second = world.change(2).await;
    check(&world.enforcement.wait(first, LONG).await, true, &["gw-a"], &[]);
    check(&world.enforcement.wait(second, Duration::from_secs(10)).await, false, &[], &[]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_stands_still_runs_out_after_a_term_and_not_before() {
    let world = world();
    world.renew("gw-a", Version(0)).await;
    world.renew("gw-dead", Version(0)).await;
    let version = world.change(1).await;
    let started = Instant::now();
    let wait = world.waits(version, LONG);
    world.renew("gw-a", version).await;
    let report = wait.await.unwrap();
    check(&report, true, &["gw-a"], &["gw-dead"]);
    assert!(started.elapsed() >= TERM, "{:?}", started.elapsed());
    assert!(started.elapsed() < TERM + 2 * UNHINTED_LOOK, "{:?}", started.elapsed());
    assert!(world.store.leases().await.unwrap().iter().all(|row| row.gateway != gateway("gw-dead")));
}

#[tokio::test(start_paused = true)]
async fn each_renewal_starts_the_term_anew() {
    let world = world();
    world.renew("gw-slow", Version(0)).await;
    let version = world.change(1).await;
    let started = Instant::now();
    let wait = world.waits(version, LONG);
    sleep(TERM * 9 / 10).await;
    world.renew("gw-slow", Version(0)).await;
    check(&wait.await.unwrap(), true, &[], &["gw-slow"]);
    assert!(started.elapsed() >= TERM * 19 / 10, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_lasts_too_long_says_so_and_can_be_asked_again() {
    let world = world();
    world.keep_renewing("gw-stuck", Version(0)).await;
    world.renew("gw-dead", Version(0)).await;
    let version = world.change(1).await;
    let report = world.enforcement.wait(version, Duration::from_secs(10)).await;
    check(&report, false, &[], &["gw-dead"]);
    assert!(report.waited >= Duration::from_secs(10));
    world.renew("gw-stuck", version).await;
    let later = world.enforcement.wait(version, Duration::ZERO).await;
    check(&later, true, &["gw-stuck"], &["gw-dead"]);
    sleep(LONG).await;
    let much_later = world.enforcement.wait(version, Duration::ZERO).await;
    assert_eq!(much_later, later, "the outcome is remembered as it was");
}

#[tokio::test(start_paused = true)]
async fn a_lease_given_back_is_over_and_a_new_one_does_not_count() {
    let world = world();
    world.renew("gw-leaves", Version(0)).await;
    let version = world.change(1).await;
    let wait = world.waits(version, LONG);
    tokio::task::yield_now().await;
    world.keep_renewing("gw-new", Version(0)).await;
    sleep(UNHINTED_LOOK * 3).await;
    assert!(!wait.is_finished());
    assert!(world.store.remove_lease(&gateway("gw-leaves"), None).await.unwrap());
    check(&wait.await.unwrap(), true, &[], &["gw-leaves"]);
}

#[tokio::test(start_paused = true)]
async fn many_waits_share_their_looks_and_all_end() {
    let world = world();
    world.renew("gw-a", Version(0)).await;
    let version = world.change(1).await;
    let waits: Vec<_> = (0..200).map(|_| world.waits(version, LONG)).collect();
    sleep(UNHINTED_LOOK).await;
    world.renew("gw-a", version).await;
    for wait in waits {
        check(&wait.await.unwrap(), true, &["gw-a"], &[]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_sweep_removes_dead_leases_and_keeps_living_ones() {
    let world = world();
    world.keep_renewing("gw-a", Version(0)).await;
    world.renew("gw-dead", Version(0)).await;
    tokio::spawn(sweep(world.enforcement.clone(), TERM));
    sleep(TERM * 3).await;
    let left: Vec<_> = world.store.leases().await.unwrap().into_iter().map(|row| row.gateway).collect();
    assert_eq!(left, [gateway("gw-a")]);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_waits_for_any_more_is_still_followed() {
    let world = world();
    world.renew("gw-dead", Version(0)).await;
    tokio::spawn(sweep(world.enforcement.clone(), TERM));
    let version = world.change(1).await;
    check(&world.enforcement.wait(version, Duration::ZERO).await, false, &[], &[]);
    assert_eq!(world.enforcement.took.get_sample_count(), 0);
    sleep(TERM * 3).await;
    assert_eq!(world.enforcement.took.get_sample_count(), 1);
    check(&world.enforcement.wait(version, Duration::ZERO).await, true, &[], &["gw-dead"]);
    assert_eq!(world.enforcement.took.get_sample_count(), 1, "each change counts once");
}

#[tokio::test(start_paused = true)]
async fn asking_for_a_change_made_elsewhere_leaves_no_trace() {
    let world = world();
    let version = world.change(1).await;
    world.renew("gw-a", version).await;
    world.renew("gw-b", Version(0)).await;
    check(&world.enforcement.ask(version).await, false, &["gw-a"], &[]);
    world.renew("gw-b", version).await;
    check(&world.enforcement.ask(version).await, true, &["gw-a", "gw-b"], &[]);
    assert_eq!(world.enforcement.took.get_sample_count(), 0);
    assert!(lock(&world.enforcement.waits).is_empty());
}
