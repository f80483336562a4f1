//! One live session per peer, the newest; and what others see of a change.

use heliograph_testkit::{Access, MeshClient, eventually, in_time};
use serde_json::{Value, json};

use crate::TestServer;

/// What a witness with events saw of one peer so far: joined and left, in order.
async fn seen_of(witness: &mut MeshClient, peer: &str) -> Vec<Value> {
    // Its own message stands in line behind all the news that have reached its node.
    let own = witness.id.clone();
    witness.send("answer", Some(&own), json!("so far")).await;
    let news = witness.until("answer").await;
    news.iter().filter(|news| news["payload"]["peer"] == peer).map(|news| news["type"].clone()).collect()
}

/// What a witness with events saw of one peer, when the last news is that it is here. Panics if it never is.
async fn seen_to_be_here(witness: &mut MeshClient, peer: &str) -> Vec<Value> {
    let mut news = vec![];
    in_time("the last news is that it is here", async {
        // From another node news take their time.
        while news.last() != Some(&json!("peer_joined")) {
            news.extend(seen_of(witness, peer).await);
        }
    })
    .await;
    news
}

async fn sessions(server: &Access) -> i64 {
    server.metric(r#"heliograph_sessions{dialect="mesh"}"#).await
}

#[tokio::test]
async fn a_newer_session_supersedes_the_older() {
    let server = TestServer::start().await;
    let mut friend = server.join_fully("friend").await;
    let token = server.token("a").await;
    let mut old = server.open("a", &token).await;
    old.register().await;
    let mut new = server.open("a", &token).await;
    assert_eq!(old.closed().await, Some(4409));
    assert_eq!(new.register().await, ["friend"]);
    friend.wait_for("peer_joined").await;
    friend.send("offer", Some("a"), json!("for the new one")).await;
    assert_eq!(new.expect("offer").await["payload"], "for the new one");
}

#[tokio::test]
async fn a_late_close_of_the_old_one_never_evicts_the_new() {
    let server = TestServer::start().await;
    let mut friend = server.join("friend").await;
    let token = server.token("a").await;
    let mut sockets = vec![];
    for _ in 0..20 {
        let mut socket = server.open("a", &token).await;
        assert_eq!(socket.register().await, ["friend"]);
        sockets.push(socket);
    }
    let mut new = sockets.pop().unwrap();
    for mut old in sockets {
        assert_eq!(old.closed().await, Some(4409));
        drop(old);
    }
    eventually("the old ones are over", async || (sessions(&server).await == 2).then_some(())).await;
    assert_eq!(friend.register().await, ["a"], "still listed");
    friend.send("offer", Some("a"), json!("still reachable")).await;
    assert_eq!(new.expect("offer").await["payload"], "still reachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_once_exactly_one_stays() {
    let server = TestServer::start().await;
    let mut witness = server.join_fully("witness").await;
    let token = server.token("a").await;
    for round in 0..30 {
        let open = async || {
            let mut client = server.open("a", &token).await;
            // The one that is superseded may hear of it before its list.
            client.try_send(&json!({ "type": "register", "peer_id": "a" }).to_string()).await;
            client
        };
        let (mut one, mut other) = tokio::join!(open(), open());
        // Each reads until it has its list and then stays, or is told that it is over.
        let end = async |client: &mut MeshClient| {
            loop {
                match client.next().await {
                    Ok(message) if message["type"] == "offer" => return None,
                    Ok(_) => {}
                    Err(closed) => return Some(closed),
                }
            }
        };
        let poke = async {
            eventually("one session", async || (sessions(&server).await == 2).then_some(())).await;
            eventually("it is registered", async || {
                let peer = server.admin().get("/api/peers/a").await.expect(200);
                (peer["sessions"][0]["placed"] == true).then_some(())
            })
            .await;
            witness.send("offer", Some("a"), json!(round)).await;
        };
        let (first, second, ()) = tokio::join!(end(&mut one), end(&mut other), poke);
        let ends = [first, second];
        assert_eq!(ends.iter().filter(|end| end.is_none()).count(), 1, "round {round}: {ends:?}");
        assert!(ends.contains(&Some(Some(4409))), "round {round}: {ends:?}");
        seen_to_be_here(&mut witness, "a").await;
    }
}

#[tokio::test]
async fn a_reconnection_is_seen_as_left_and_joined_in_this_order() {
    let server = TestServer::start().await;
    let mut witness = server.join_fully("witness").await;
    let token = server.token("a").await;
    let mut sockets = vec![];
    for round in 0..10 {
        let mut socket = server.open("a", &token).await;
        socket.register().await;
        sockets.push(socket);
        let news = seen_to_be_here(&mut witness, "a").await;
        let expected: &[&str] = if round == 0 { &["peer_joined"] } else { &["peer_left", "peer_joined"] };
        assert_eq!(news, expected, "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_news_of_a_peer_that_comes_back_at_once_is_that_it_is_here() {
    let server = TestServer::start().await;
    let mut witness = server.join_fully("witness").await;
    let token = server.token("a").await;
    for round in 0..100 {
        let mut old = server.open("a", &token).await;
        old.register().await;
        // The close of the old one and the new one are under way together.
        let (mut new, ()) = tokio::join!(server.open("a", &token), old.close());
        new.register().await;
        eventually("only the new one is left", async || (sessions(&server).await == 2).then_some(())).await;
        let news = seen_to_be_here(&mut witness, "a").await;
        let pairs = news.windows(2).all(|pair| pair[0] != pair[1]);
        assert!(pairs, "round {round}: {news:?}");
        new.close().await;
        in_time("it is gone", async {
            while seen_of(&mut witness, "a").await.is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn epochs_grow() {
    let server = TestServer::start().await;
    let token = server.token("a").await;
    let mut last = 0;
    for _ in 0..3 {
        let mut client = server.open("a", &token).await;
        let epoch = client.register_with(&["events"]).await["session"]["epoch"].as_u64().unwrap();
        assert!(epoch > last, "{epoch} after {last}");
        last = epoch;
    }
}

#[tokio::test]
async fn the_same_name_in_two_meshes_is_two_peers() {
    let server = TestServer::start().await;
    let mut red = server.open("a", &server.exchange(&server.key("a", "red").await).await).await;
    red.register().await;
    let mut blue = server.open("a", &server.exchange(&server.key("a", "blue").await).await).await;
    blue.register().await;
    red.expect_silence().await;
    blue.expect_silence().await;
    assert_eq!(sessions(&server).await, 2);
}

#[tokio::test]
async fn a_connection_that_breaks_is_counted_as_one() {
    let server = TestServer::start().await;
    let mut witness = server.join_fully("witness").await;
    drop(server.join("a").await);
    witness.wait_for("peer_left").await;
    let closes =
        async |code: u16| server.metric(&format!("heliograph_session_closes_total{{code=\"{code}\"}}")).await;
    eventually("1006 is counted", async || (closes(1006).await == 1).then_some(())).await;
    assert_eq!((closes(1000).await, closes(1002).await), (0, 0));
}
