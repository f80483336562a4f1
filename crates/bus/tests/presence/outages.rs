//! Redis stands still, or cannot be reached, or forgets.

use std::time::{Duration, Instant};

use heliograph_bus::testing::{mesh, visit};
use heliograph_bus::{BusError, Place};
use heliograph_sandbox::{Proxy, Redis};
use tokio::time::sleep;

use super::world::{peer, register_at_once, three, three_by, until};

/// Longer than a node's beat may stand still.
const PAUSE: Duration = Duration::from_secs(7);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stood_still_makes_nobody_bury_anybody() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    register_at_once(&nodes, "p", 10).await;
    let said: u64 = nodes.iter().map(|node| node.memory().said).sum();
    redis.pause().unwrap();
    sleep(PAUSE).await;
    redis.resume().unwrap();
    until("all nodes have said again whom they have", async || {
        nodes.iter().map(|node| node.memory().said).sum::<u64>() >= said + 3
            && nodes.iter().all(|node| node.is_up())
    })
    .await;
    // Time in which somebody who were wrong would act.
    sleep(Duration::from_secs(6)).await;
    for node in &nodes {
        assert_eq!(node.presence().online(&mesh()).await.unwrap(), 30);
        assert_eq!(node.departures().len(), 0);
        assert_eq!(node.memory().moved, []);
        assert_eq!(node.count("heliograph_ghosts_reaped_total"), 0);
        assert_eq!(node.presence().gateways().await.unwrap().len(), 3);
    }
}

/// Redis has the last beats of all, unchanged, when the first one is back. Whoever beat last has seen those of the
/// others: so not always the same one is first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_was_away_for_all_makes_nobody_bury_anybody() {
    let redis = Redis::standalone().await.unwrap();
    let mut proxies = vec![];
    for _ in 0..3 {
        proxies.push(Proxy::to(redis.nodes()[0].address()).await.unwrap());
    }
    let urls = [0, 1, 2].map(|i: usize| proxies[i].through(&redis.url()));
    let nodes = three_by(&urls, &mesh()).await;
    register_at_once(&nodes, "p", 10).await;
    for first in [0, 2] {
        proxies.iter().for_each(Proxy::cut);
        sleep(PAUSE).await;
        for at in [first, 1, 2 - first] {
            proxies[at].heal();
            until("this one is up", async || nodes[at].is_up()).await;
        }
    }
    assert_eq!(nodes[0].presence().online(&mesh()).await.unwrap(), 30);
    for node in &nodes {
        assert_eq!((node.departures().len(), node.memory().moved.len()), (0, 0));
        assert_eq!(node.count("heliograph_ghosts_reaped_total"), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_calls_fail_within_a_bound_and_afterwards_all_is_as_before() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    register_at_once(&nodes, "p", 10).await;
    let before: Vec<_> = nodes[0].memory().sessions.values().copied().collect();
    redis.kill().unwrap();
    let presence = nodes[0].presence();
    let began = Instant::now();
    let claimed = presence.claim(&mesh(), &peer("new"), visit()).await;
    assert!(matches!(claimed, Err(BusError::Unavailable(_))), "{claimed:?}");
    let epoch = nodes[0].session("p-0-0").unwrap().epoch;
    let placed = presence.place(&mesh(), &peer("p-0-0"), epoch, Place::Same).await;
    assert!(matches!(placed, Err(BusError::Unavailable(_))), "{placed:?}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    until("readiness says so", async || !nodes[0].is_up()).await;

    redis.start_empty().await.unwrap();
    until("all nodes are up", async || nodes.iter().all(|node| node.is_up())).await;
    for node in &nodes {
        assert_eq!(node.presence().online(&mesh()).await.unwrap(), 30);
        assert_eq!((node.memory().moved.len(), node.departures().len()), (0, 0));
    }
    assert_eq!(nodes[0].memory().sessions.values().copied().collect::<Vec<_>>(), before);
    nodes[1].register("new").await;
    assert_eq!(nodes[1].memory().lists.values().map(std::collections::HashSet::len).max(), Some(30));
}

/// No connection breaks, so that only the heartbeat can notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_emptied_is_refilled_without_anybody_asking() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    register_at_once(&nodes, "p", 10).await;
    redis.flush().await.unwrap();
    until("all are there again", async || {
        nodes[0].presence().online(&mesh()).await.unwrap() == 30 && nodes.iter().all(|node| node.is_up())
    })
    .await;
    assert!(nodes.iter().all(|node| node.memory().moved.is_empty()), "all were there in time");
    assert!(nodes.iter().all(|node| node.departures().is_empty()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_hidden_when_redis_was_emptied_is_hidden_afterwards_and_has_its_place() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    for name in ["away", "here"] {
        nodes[0].register(name).await;
    }
    nodes[0].hide("away").await;
    // Inherited and not taken yet: hidden too.
    nodes[0].register("changes").await;
    let claimed = nodes[1].claim("changes").await.unwrap();
    let said: u64 = nodes.iter().map(|node| node.memory().said).sum();
    redis.flush().await.unwrap();
    until("all said again whom they have", async || {
        nodes.iter().map(|node| node.memory().said).sum::<u64>() >= said + 3
            && nodes.iter().all(|node| node.is_up())
    })
    .await;
    assert_eq!(nodes[2].listed().await, ["here"]);
    assert_eq!(Some(nodes[0].show("away").await), nodes[0].session("away").unwrap().place);
    let before = nodes[0].memory().lists.keys().find(|(name, _)| name.as_str() == "changes").unwrap().1;
    assert_eq!(nodes[1].show("changes").await, before);
    assert_eq!(nodes[1].session("changes").unwrap().epoch, claimed);
    assert_eq!(nodes[2].listed().await, ["away", "here", "changes"]);
    assert!(nodes.iter().all(|node| node.departures().is_empty()));
}

/// One shard of a Cluster, while the heartbeats are on another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_was_emptied_is_refilled_without_anybody_asking() {
    let redis = Redis::cluster().await.unwrap();
    let meshes: Vec<_> =
        (0..12).map(|i| heliograph_core::id::SpaceName::parse(&format!("mesh-{i}")).unwrap()).collect();
    let nodes = three(&redis.url(), &mesh()).await;
    let presence = nodes[0].presence();
    register_at_once(&nodes, "p", 3).await;
    for (node, mesh) in nodes.iter().cycle().zip(&meshes) {
        // Not said again: only the three nodes' own mesh is.
        let claim = node.presence().claim(mesh, &peer("x"), visit()).await.unwrap();
        node.presence().place(mesh, &peer("x"), claim.epoch, Place::New).await.unwrap();
    }
    for master in redis.masters().await.unwrap() {
        let said: u64 = nodes.iter().map(|node| node.memory().said).sum();
        redis.command(master, &["FLUSHALL"]).await.unwrap();
        until("all said again whom they have", async || {
            nodes.iter().map(|node| node.memory().said).sum::<u64>() >= said + 3
                && nodes.iter().all(|node| node.is_up())
        })
        .await;
        assert_eq!(presence.online(&mesh()).await.unwrap(), 9);
    }
    for mesh in &meshes {
        assert_eq!(presence.online(mesh).await.unwrap(), 0, "each shard was emptied");
    }
}
