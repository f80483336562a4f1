//! Limits that nodes share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_bus::Budget;
use heliograph_bus::budget::{Limit, LocalBudget, Scope};
use heliograph_bus::testing::mesh;
use heliograph_core::rate::Rate;
use heliograph_sandbox::Redis;

use super::world::{Gateway, of_its_own, three, until};

const TEN: Rate = Rate::per_minute(10);

mod within_one_process {
    use super::*;

    #[expect(clippy::unused_async, reason = "a factory, with the signature of all such")]
    async fn factory() -> (Arc<dyn Budget>, ()) {
        (Arc::new(LocalBudget::default()), ())
    }

    heliograph_bus::budget_conformance!(factory);
}

mod over_redis {
    use super::*;

    async fn factory() -> (Arc<dyn Budget>, (Redis, Arc<Gateway>)) {
        let redis = Redis::standalone().await.unwrap();
        let gateway = Gateway::start(&of_its_own(&redis.url()), "gw", mesh()).await;
        (gateway.link.budget.clone(), (redis, gateway))
    }

    heliograph_bus::budget_conformance!(factory);
}

async fn take(gateway: &Gateway, scope: Scope, times: usize) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        passed += usize::from(gateway.link.budget.take(Limit::RedeemFailures, scope, TEN).await);
    }
    passed
}

/// Scopes that nothing was counted against yet. Redis may be slow now and then, and then nodes count for themselves:
/// so what must hold is tried until it does.
fn fresh() -> impl FnMut() -> Scope {
    let mut last = 0;
    move || {
        last += 1;
        Scope::of(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last).into())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_one_budget() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    let mut fresh = fresh();
    until("ten pass at all nodes together", || {
        let (scope, nodes) = (fresh(), &nodes);
        async move {
            let mut passed = 0;
            for node in nodes.iter().cycle().take(30) {
                passed += take(node, scope, 1).await;
            }
            let mut left = 0;
            for node in nodes {
                left += usize::from(node.link.budget.has(Limit::RedeemFailures, scope, TEN).await);
            }
            (passed, left) == (10, 0)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_at_one_node_costs_redis_nothing() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    let mut fresh = fresh();
    let mut flooded = fresh();
    until("a limit is counted in Redis", || {
        flooded = fresh();
        let (nodes, redis) = (&nodes, &redis);
        async move {
            assert_eq!(take(&nodes[0], flooded, 10).await, 10);
            !buckets(redis).await.is_empty()
        }
    })
    .await;
    for bucket in buckets(&redis).await {
        redis.command(0, &["DEL", &bucket]).await.unwrap();
    }
    assert_eq!(take(&nodes[0], flooded, 1_000).await, 0);
    assert_eq!(buckets(&redis).await, Vec::<String>::new(), "whoever asks Redis is seen there");
}

async fn buckets(redis: &Redis) -> Vec<String> {
    let keys = redis.command(0, &["KEYS", "*bucket*"]).await.unwrap();
    keys.list().iter().map(|key| key.text().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_go_by_themselves() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    let mut fresh = fresh();
    until("a limit is counted in Redis", || {
        let (scope, node, redis) = (fresh(), &nodes[0], &redis);
        async move {
            let quick = Rate::per_second(1, 5);
            assert!(node.link.budget.take(Limit::Upgrades, scope, quick).await);
            !buckets(redis).await.is_empty()
        }
    })
    .await;
    until("the count is gone", async || buckets(&redis).await.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_node_counts_for_itself() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    let mut fresh = fresh();
    let scope = fresh();
    redis.pause().unwrap();
    let began = Instant::now();
    assert_eq!(take(&nodes[0], scope, 12).await, 10);
    assert!(began.elapsed() < Duration::from_secs(5), "an outage must not stop upgrades");
    redis.resume().unwrap();
    redis.kill().unwrap();
    assert_eq!(take(&nodes[1], scope, 12).await, 10);
    redis.start_empty().await.unwrap();
    until("they share again", || {
        let (scope, node, redis) = (fresh(), &nodes[1], &redis);
        async move {
            take(node, scope, 1).await;
            !buckets(redis).await.is_empty()
        }
    })
    .await;
}
