//! Thousands of subscriptions at once.

use std::sync::Arc;

use heliograph_bus::Sent;
use heliograph_bus::redis::Options;
use heliograph_bus::testing::{TestNode, signal};
use heliograph_sandbox::Redis;

use crate::redis_support::{nodes, until};
use crate::traffic::to;

const MANY: usize = 10_000;
/// A command lists up to 512; while some are under way more gather, but the first ones go with what there is.
const FEW_COMMANDS: u64 = 400;

async fn subscribe_many(node: &TestNode) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..MANY {
        let bus = Arc::clone(&node.link.bus);
        tasks.spawn(async move { bus.subscribe(to(number)).await });
    }
    while let Some(subscribed) = tasks.join_next().await {
        subscribed.unwrap().unwrap();
    }
}

async fn subscribe_commands(redis: &Redis) -> u64 {
    let mut commands = 0;
    for node in redis.masters().await.unwrap() {
        let stats = redis.command(node, &["INFO", "commandstats"]).await.unwrap();
        let calls = stats.text().lines().find_map(|line| line.strip_prefix("cmdstat_ssubscribe:calls="));
        commands += calls.map_or(0, |calls| calls.split(',').next().unwrap().parse::<u64>().unwrap());
    }
    commands
}

async fn subscribed(redis: &Redis) -> usize {
    let mut channels = 0;
    for node in redis.masters().await.unwrap() {
        channels += redis.command(node, &["PUBSUB", "SHARDCHANNELS", "*:peer:*"]).await.unwrap().list().len();
    }
    channels
}

async fn arrive_at_each(from: &TestNode, at: &TestNode) {
    let before = at.log.all().len();
    for number in 0..MANY {
        assert_eq!(from.link.bus.send(to(number), signal("a", "x")), Sent::Queued);
    }
    until("each got one", || at.log.all().len() == before + MANY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_subscribe_and_come_back_in_few_commands() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    subscribe_many(&nodes[1]).await;
    let commands = subscribe_commands(&redis).await;
    assert!(commands < FEW_COMMANDS, "{commands} commands");
    arrive_at_each(&nodes[0], &nodes[1]).await;

    redis.kill().unwrap();
    until("nodes notice", || nodes.iter().all(|node| !node.link.bus.is_up())).await;
    redis.start_empty().await.unwrap();
    until("nodes are up", || nodes.iter().all(|node| node.link.bus.is_up())).await;
    assert_eq!(subscribed(&redis).await, MANY);
    // Everything is known from the start this time: one command for 512, and few more for what else is subscribed.
    let commands = subscribe_commands(&redis).await;
    assert!(commands < 40, "{commands} commands");
    arrive_at_each(&nodes[0], &nodes[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_subscribe_in_a_cluster_in_few_commands() {
    let redis = Redis::cluster().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    subscribe_many(&nodes[1]).await;
    let commands = subscribe_commands(&redis).await;
    // One slot in each command here.
    assert!(commands < 4 * FEW_COMMANDS, "{commands} commands");
    assert_eq!(subscribed(&redis).await, MANY);
    arrive_at_each(&nodes[0], &nodes[1]).await;
}

/// The connection breaks again and again while everything is being subscribed anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_break_in_the_middle_leaves_nothing_out() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = nodes(&Options::parse(&redis.url()).unwrap(), 2).await;
    subscribe_many(&nodes[1]).await;
    for _ in 0..10 {
        redis.command(0, &["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
        while subscribed(&redis).await == 0 {
            tokio::task::yield_now().await;
        }
    }
    until("nodes are up", || nodes.iter().all(|node| node.link.bus.is_up())).await;
    assert_eq!(subscribed(&redis).await, MANY);
    arrive_at_each(&nodes[0], &nodes[1]).await;
}
