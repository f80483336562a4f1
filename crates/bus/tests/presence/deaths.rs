//! Nodes that die, are cut off, come back, or leave.

use std::time::{Duration, Instant};

use heliograph_bus::Parcel;
use heliograph_bus::testing::mesh;
use heliograph_sandbox::{Direction, Proxy, Redis};

use super::world::{Gateway, of_its_own, peer, register_at_once, three, until};

/// What operators are promised.
const REAPED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_a_dead_node_are_gone_within_ten_seconds_and_said_to_have_left_once() {
    let redis = Redis::standalone().await.unwrap();
    let mut nodes = three(&redis.url(), &mesh()).await;
    // More than one batch.
    for part in 0..5 {
        register_at_once(&nodes, &format!("p{part}"), 60).await;
    }
    nodes.pop().unwrap().die();
    let died = Instant::now();
    until("the dead node's sessions are gone", async || {
        nodes[0].presence().online(&mesh()).await.unwrap() == 600
    })
    .await;
    assert!(died.elapsed() < REAPED_WITHIN, "{:?}", died.elapsed());
    assert_eq!(nodes[0].presence().locate(&mesh(), &peer("p0-2-0")).await.unwrap(), None);
    for node in &nodes {
        until("all departures were told", async || node.departures().len() >= 300).await;
        let told = node.departures();
        assert!(told.iter().all(|(name, times)| name.contains("-2-") && *times == 1), "{told:?}");
        until("it is not shown any more", async || node.presence().gateways().await.unwrap().len() == 2)
            .await;
    }
    until("all were counted", async || {
        nodes.iter().map(|node| node.count("heliograph_ghosts_reaped_total")).sum::<u64>() == 300
    })
    .await;
    assert_eq!(left_in_redis(&redis, "index:gw-2").await, Vec::<String>::new());
}

/// The keys whose names end like this.
async fn left_in_redis(redis: &Redis, what: &str) -> Vec<String> {
    let keys = redis.command(0, &["KEYS", &format!("*:{what}")]).await.unwrap();
    keys.list().iter().map(|key| key.text().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_takes_its_sessions_along_at_once() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    register_at_once(&nodes, "p", 10).await;
    nodes[2].shutdown().await;
    assert_eq!(nodes[0].presence().online(&mesh()).await.unwrap(), 20);
    until("all departures were told", async || nodes[0].departures().len() == 10).await;
    until("it is not shown any more", async || nodes[0].presence().gateways().await.unwrap().len() == 2)
        .await;
    assert_eq!(left_in_redis(&redis, "index:gw-2").await, Vec::<String>::new());
}

/// As seen from Redis and the others, a node that stands still and one behind a black hole are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stood_still_comes_back_with_its_sessions() {
    let redis = Redis::standalone().await.unwrap();
    let proxy = Proxy::to(redis.nodes()[0].address()).await.unwrap();
    let url = of_its_own(&redis.url());
    let far = proxy.through(&url);
    let (far, near) = tokio::join!(Gateway::start(&far, "far", mesh()), Gateway::start(&url, "near", mesh()));
    for name in ["waits", "waits-too", "moves-on", "away"] {
        far.register(name).await;
    }
    far.hide("away").await;
    near.register("neighbour").await;
    let before = far.session("waits").unwrap();

    proxy.half_open(Direction::Both);
    until("it was given up", async || near.departures().len() == 4).await;
    until("its sessions are gone", async || near.listed().await == ["neighbour"]).await;
    near.register("moves-on").await;
    proxy.heal();

    until("it is back", async || far.is_up() && far.memory().moved.len() == 2).await;
    let now = far.session("waits").unwrap();
    assert_eq!(now.epoch, before.epoch);
    assert!(now.place > before.place, "it took a new place");
    assert_eq!(far.memory().superseded, [peer("moves-on")]);
    let mut listed = near.listed().await;
    listed.sort();
    assert_eq!(listed, ["moves-on", "neighbour", "waits", "waits-too"]);
    let everyone = far.memory().lists[&(peer("waits"), now.place.unwrap())].len();
    assert_eq!(everyone, 3, "all others");
    let joined = |name: &str, place| {
        near.news().iter().any(|parcel| {
            matches!(parcel, Parcel::Joined(member) if member.peer.as_str() == name && Some(member.place) == place)
        })
    };
    until("the others were told", async || {
        joined("waits", now.place) && joined("waits-too", far.session("waits-too").unwrap().place)
    })
    .await;
    assert!(near.departures().values().all(|times| *times == 1), "{:?}", near.departures());
    // Whose place was given up while it was hidden, takes a new one when it is back.
    let hidden = far.session("away").unwrap().place.unwrap();
    assert!(far.show("away").await > hidden);
    // It can be used as before.
    far.register("late").await;
    assert!(far.end("waits").await);
}

/// Whoever buries a dead node may die over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_began_to_bury_another_one_finishes() {
    let redis = Redis::standalone().await.unwrap();
    let mut nodes = three(&redis.url(), &mesh()).await;
    register_at_once(&nodes, "p", 3).await;
    nodes.pop().unwrap().die();
    // As the script `condemn` does it, and nothing after it.
    let beats = left_in_redis(&redis, "beats").await.pop().unwrap();
    let beat = redis.command(0, &["HGET", &beats, "gw-2"]).await.unwrap();
    let number = beat.text().lines().next().unwrap().to_owned();
    redis.command(0, &["HDEL", &beats, "gw-2"]).await.unwrap();
    let condemned = beats.replace("beats", "condemned");
    redis.command(0, &["HSET", &condemned, "gw-2", &number]).await.unwrap();
    until("it is buried", async || nodes[0].presence().online(&mesh()).await.unwrap() == 6).await;
    until("nothing is left to do", async || left_in_redis(&redis, "condemned").await.is_empty()).await;
    assert!(nodes.iter().all(|node| node.departures().len() == 3));
}
