//! Redis goes and comes back.

use heliograph_bus::redis::Options;
use heliograph_bus::testing::{TestNode, signal};
use heliograph_bus::{Destination, Lost, Sent};
use heliograph_sandbox::Redis;

use crate::redis_support::{node, nodes, until};
use crate::traffic::{Traffic, to};

async fn is_told_that_redis_is_away(node: &TestNode) {
    until("a message is refused at once", || node.link.bus.send(to(0), signal("a", "x")) == Sent::Down).await;
    until("the node is not up", || !node.link.bus.is_up()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_that_comes_back_empty_is_worked_with_at_once() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    let traffic = Traffic::start(&nodes[0], &nodes[1]).await;
    let mesh = Destination::Space(heliograph_bus::testing::mesh());
    nodes[0].link.bus.subscribe(mesh.clone()).await.unwrap();
    for _ in 0..3 {
        traffic.flows().await;
        redis.kill().unwrap();
        is_told_that_redis_is_away(&nodes[0]).await;
        is_told_that_redis_is_away(&nodes[1]).await;
        redis.start_empty().await.unwrap();
        traffic.is_back().await;
        until("the nodes are up", || nodes.iter().all(|node| node.link.bus.is_up())).await;
    }
    // Not only the channels that something was sent to are back.
    nodes[1].link.bus.send(mesh, signal("a", "news"));
    nodes[0].log.wait_for(1).await;
    traffic.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_when_redis_stopped_comes_back() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    nodes[1].link.bus.subscribe(to(0)).await.unwrap();
    redis.pause().unwrap();
    for i in 0..100 {
        assert_eq!(nodes[0].link.bus.send(to(0), signal("a", &i.to_string())), Sent::Queued);
    }
    until("all messages came back", || nodes[0].log.came_back().len() == 100).await;
    assert!(nodes[0].log.came_back().iter().all(|(_, _, why)| *why == Lost::Down));
    is_told_that_redis_is_away(&nodes[0]).await;
    redis.resume().unwrap();
    until("the nodes are up", || nodes.iter().all(|node| node.link.bus.is_up())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_without_redis_comes_up_with_it() {
    let mut redis = Redis::standalone().await.unwrap();
    redis.kill().unwrap();
    let node = node(&Options::parse(&redis.url()).unwrap(), "gw");
    assert_eq!(node.link.bus.send(to(0), signal("a", "x")), Sent::Down);
    assert!(!node.link.bus.is_up());
    // A subscription that is asked for now is made when Redis is there.
    let bus = node.link.bus.clone();
    let subscribing = tokio::spawn(async move { bus.subscribe(to(0)).await });
    redis.start_empty().await.unwrap();
    until("the node is up", || node.link.bus.is_up()).await;
    subscribing.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_nobody_waits_for_ever() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    nodes[0].link.bus.subscribe(to(1)).await.unwrap();
    redis.kill().unwrap();
    assert!(nodes[0].link.bus.subscribe(to(0)).await.is_err());
    nodes[0].link.bus.unsubscribe(&to(1)).await;
    redis.start_empty().await.unwrap();
    until("the nodes are up", || nodes.iter().all(|node| node.link.bus.is_up())).await;
    // The one was taken back when it failed, the other one is not wanted any more.
    for number in [0, 1] {
        nodes[1].send_to_nobody(to(number), signal("a", "x")).await;
    }
}
