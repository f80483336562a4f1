//! One session per peer: the newest.

use std::sync::Arc;
use std::time::Duration;

use heliograph_bus::testing::{mesh, visit};
use heliograph_bus::{BusError, Place};
use heliograph_sandbox::{Proxy, Redis};
use tokio::time::timeout;

use super::world::{Gateway, of_its_own, peer, three, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_claims_at_one_moment_the_newer_wins_and_names_the_older() {
    let redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    let presence = [nodes[0].link.presence.clone(), nodes[1].link.presence.clone()];
    for round in 0..200 {
        let me = peer(format!("p{round}"));
        let mesh = mesh();
        let (a, b) =
            tokio::join!(presence[0].claim(&mesh, &me, visit()), presence[1].claim(&mesh, &me, visit()),);
        let claims = [a.unwrap(), b.unwrap()];
        let newer = usize::from(claims[1].epoch > claims[0].epoch);
        let older = 1 - newer;
        assert_ne!(claims[0].epoch, claims[1].epoch);
        assert_eq!(claims[older].previous, None);
        let named = claims[newer].previous.clone().unwrap();
        assert_eq!((named.epoch, named.gateway.to_string()), (claims[older].epoch, format!("gw-{older}")));
        let found = presence[older].locate(&mesh, &me).await.unwrap().unwrap();
        assert_eq!((found.epoch, found.gateway.to_string()), (claims[newer].epoch, format!("gw-{newer}")));
        let late = presence[older].place(&mesh, &me, claims[older].epoch, Place::New).await;
        assert_eq!(late, Err(BusError::Superseded));
        assert!(!presence[older].release(&mesh, &me, claims[older].epoch).await.unwrap());
        assert_eq!(presence[older].locate(&mesh, &me).await.unwrap().unwrap().epoch, claims[newer].epoch);
        assert!(!presence[newer].release(&mesh, &me, claims[newer].epoch).await.unwrap(), "it had no place");
        assert_eq!(presence[older].locate(&mesh, &me).await.unwrap(), None);
    }
}

/// One gateway reaches Redis through a proxy, another one directly.
async fn far_and_near() -> (Redis, Proxy, Arc<Gateway>, Arc<Gateway>) {
    let redis = Redis::standalone().await.unwrap();
    let proxy = Proxy::to(redis.nodes()[0].address()).await.unwrap();
    let url = of_its_own(&redis.url());
    let far = proxy.through(&url);
    let (far, near) = tokio::join!(Gateway::start(&far, "far", mesh()), Gateway::start(&url, "near", mesh()));
    (redis, proxy, far, near)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_that_was_put_off_never_removes_a_newer_session() {
    let (_redis, proxy, far, near) = far_and_near().await;
    for name in ["moves-on", "is-gone"] {
        far.register(name).await;
    }
    proxy.cut();
    // Said to be done: it is done later.
    assert!(far.end("moves-on").await);
    assert!(far.end("is-gone").await);
    near.register("moves-on").await;
    proxy.heal();
    // By this it shows that what was put off has been done.
    until("the session is gone", async || {
        near.presence().locate(&mesh(), &peer("is-gone")).await.unwrap().is_none()
    })
    .await;
    until("both nodes are up", async || far.is_up() && near.is_up()).await;
    let found = near.presence().locate(&mesh(), &peer("moves-on")).await.unwrap().unwrap();
    assert_eq!(Some(found.epoch), near.session("moves-on").map(|session| session.epoch));
    assert_eq!(near.listed().await, ["moves-on"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ended_while_redis_was_emptied_is_said_to_have_left() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    for name in ["stays", "ends"] {
        nodes[0].register(name).await;
    }
    redis.kill().unwrap();
    assert!(nodes[0].end("ends").await, "it had a place");
    redis.start_empty().await.unwrap();
    until("all heard that it left", async || nodes.iter().all(|node| node.departures().contains_key("ends")))
        .await;
    until("all is back", async || nodes.iter().all(|node| node.is_up())).await;
    assert_eq!(nodes[1].listed().await, ["stays"]);
    assert_eq!(nodes[1].departures().get("stays"), None);
}

/// Redis carries out what it was asked although whoever asked has given up: it has a session that no node has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_nobody_waits_for_leaves_no_ghost() {
    let mut redis = Redis::standalone().await.unwrap();
    let nodes = three(&redis.url(), &mesh()).await;
    // From now on Redis knows the script.
    nodes[0].register("before").await;
    redis.pause().unwrap();
    for round in 0..5 {
        let (me, mesh) = (peer(format!("p{round}")), mesh());
        let claim = nodes[0].presence().claim(&mesh, &me, visit());
        assert!(timeout(Duration::from_millis(100), claim).await.is_err());
    }
    redis.resume().unwrap();
    until("ghosts were found", async || nodes[0].count("heliograph_presence_ghosts_found_total") == 5).await;
    for round in 0..5 {
        let found = nodes[1].presence().locate(&mesh(), &peer(format!("p{round}"))).await.unwrap();
        assert_eq!(found, None);
    }
}
