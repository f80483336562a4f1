//! Of every pair exactly one is given the other in its list, whatever was lost meanwhile (DESIGN G9).

use std::collections::HashSet;
use std::sync::Arc;

use heliograph_bus::testing::mesh;
use heliograph_core::id::PeerId;
use heliograph_sandbox::Redis;

use super::world::{Gateway, Placed, Session, register_at_once, three, until};

/// Worlds that go through one trouble at a time: as many trials as there are worlds and rounds.
const WORLDS: usize = 7;
const ROUNDS: usize = 3;

async fn worlds(url: &str) -> Vec<Vec<Arc<Gateway>>> {
    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..WORLDS {
        let url = url.to_owned();
        starting.spawn(async move { three(&url, &mesh()).await });
    }
    starting.join_all().await
}

async fn register_everywhere(worlds: &[Vec<Arc<Gateway>>], name: &str, each: usize) {
    let mut registering = tokio::task::JoinSet::new();
    for world in worlds {
        let (world, name) = (world.clone(), name.to_owned());
        registering.spawn(async move { register_at_once(&world, &name, each).await });
    }
    registering.join_all().await;
}

/// All sessions with their places, once no node has anything more to say.
async fn members(world: &[Arc<Gateway>]) -> Vec<Placed> {
    until("all nodes are up", async || world.iter().all(|gateway| gateway.is_up())).await;
    let all = world.iter().flat_map(|gateway| {
        let memory = gateway.memory();
        let member = |(peer, session): (&PeerId, &Session)| Some((peer.clone(), session.place?));
        memory.sessions.iter().filter_map(member).collect::<Vec<_>>()
    });
    all.collect()
}

/// Of every pair, one of which is new, exactly one has the other.
async fn check_introductions(world: &[Arc<Gateway>], is_new: impl Fn(&str) -> bool, expected: usize) {
    let members = members(world).await;
    assert_eq!(members.len(), expected);
    let lists: Vec<HashSet<Placed>> = members
        .iter()
        .map(|me| {
            let of = |gateway: &Arc<Gateway>| gateway.memory().lists.get(me).cloned();
            world.iter().find_map(of).unwrap_or_else(|| panic!("{me:?} has no list"))
        })
        .collect();
    for (i, a) in members.iter().enumerate() {
        for (j, b) in members.iter().enumerate().take(i) {
            if is_new(a.0.as_str()) || is_new(b.0.as_str()) {
                let (a_has_b, b_has_a) = (lists[i].contains(b), lists[j].contains(a));
                assert!(a_has_b != b_has_a, "{a:?} has {b:?}: {a_has_b}; the other way round: {b_has_a}");
            }
        }
    }
}

/// Ends all sessions whose names begin like this.
async fn end_all(world: &[Arc<Gateway>], begin: &str) {
    for gateway in world {
        let names: Vec<String> = gateway.memory().sessions.keys().map(PeerId::to_string).collect();
        for name in names.iter().filter(|name| name.starts_with(begin)) {
            gateway.end(name).await;
        }
    }
}

async fn check_all(worlds: &[Vec<Arc<Gateway>>], new: &str, expected: usize) {
    for world in worlds {
        check_introductions(world, |name| name.starts_with(new), expected).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_a_fresh_start() {
    let redis = Redis::standalone().await.unwrap();
    for _ in 0..ROUNDS {
        let worlds = worlds(&redis.url()).await;
        register_everywhere(&worlds, "p", 20).await;
        check_all(&worlds, "p", 60).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_redis_was_emptied_with_members_present() {
    let redis = Redis::standalone().await.unwrap();
    let worlds = worlds(&redis.url()).await;
    register_everywhere(&worlds, "old", 5).await;
    for round in 0..ROUNDS {
        redis.flush().await.unwrap();
        let name = format!("new{round}");
        register_everywhere(&worlds, &name, 20).await;
        check_all(&worlds, &name, 75).await;
        for world in &worlds {
            end_all(world, "new").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_redis_was_killed_and_started_empty() {
    let mut redis = Redis::standalone().await.unwrap();
    let worlds = worlds(&redis.url()).await;
    register_everywhere(&worlds, "old", 5).await;
    for round in 0..ROUNDS {
        redis.kill().unwrap();
        redis.start_empty().await.unwrap();
        let name = format!("new{round}");
        register_everywhere(&worlds, &name, 20).await;
        check_all(&worlds, &name, 75).await;
        for world in &worlds {
            end_all(world, "new").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_node_died() {
    let redis = Redis::standalone().await.unwrap();
    for _ in 0..ROUNDS {
        let mut worlds = worlds(&redis.url()).await;
        register_everywhere(&worlds, "old", 5).await;
        for world in &mut worlds {
            world.pop().unwrap().die();
        }
        // Before anybody can know that the node is dead.
        register_everywhere(&worlds, "new", 20).await;
        check_all(&worlds, "new", 50).await;
        until("the dead node's members are gone", async || {
            let online = worlds[0][0].presence().online(&mesh()).await.unwrap();
            assert!(online >= 50);
            online == 50
        })
        .await;
        register_everywhere(&worlds, "late", 2).await;
        check_all(&worlds, "late", 54).await;
        let late = worlds[0][0].listed().await;
        assert_eq!(late.iter().filter(|name| name.starts_with("old-2")).count(), 0, "{late:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_master_of_a_cluster_died() {
    let mut redis = Redis::cluster().await.unwrap();
    let world = three(&redis.url(), &mesh()).await;
    register_at_once(&world, "old", 5).await;
    // Of the mesh's own partition, as its first key says.
    let slot = slot_of_the_mesh(&redis).await;
    redis.kill_master_of_slot(slot).await.unwrap();
    register_at_once(&world, "new", 20).await;
    check_introductions(&world, |name| name.starts_with("new"), 75).await;
}

async fn slot_of_the_mesh(redis: &Redis) -> u16 {
    for node in redis.masters().await.unwrap() {
        let keys = redis.command(node, &["KEYS", "*:order:default"]).await.unwrap();
        if let Some(key) = keys.list().first() {
            let slot = redis.command(node, &["CLUSTER", "KEYSLOT", key.text()]).await.unwrap();
            return slot.number().unwrap().try_into().unwrap();
        }
    }
    panic!("nobody holds the mesh");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_sentinel_failover() {
    let mut redis = Redis::sentinel().await.unwrap();
    let world = three(&redis.url(), &mesh()).await;
    register_at_once(&world, "old", 5).await;
    redis.kill_primary().await.unwrap();
    register_at_once(&world, "new", 20).await;
    check_introductions(&world, |name| name.starts_with("new"), 75).await;
}
