//! The stream of live updates.

use super::*;
use axum::body::BodyDataStream;
use futures_util::StreamExt;
use tokio::time::timeout;

async fn open(world: &World, key: &str) -> BodyDataStream {
    let request = Request::get("/api/events").header("x-api-key", key).body(Body::empty()).unwrap();
    let response = world.app.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    response.into_body().into_data_stream()
}

async fn next(stream: &mut BodyDataStream) -> Option<String> {
    let chunk = timeout(Duration::from_secs(5), stream.next()).await.expect("an event in time")?;
    Some(String::from_utf8(chunk.unwrap().to_vec()).unwrap())
}

#[tokio::test]
async fn changes_and_presence_arrive_live() {
    let world = World::new().await;
    tokio::time::sleep(Duration::from_millis(50)).await; // the feed starts where the log ends
    let mut stream = open(&world, OPERATOR).await;
    assert_eq!(next(&mut stream).await.unwrap(), "event: presence\ndata: {\"sessions\":0}\n\n");
    world.code().await;
    let event = next(&mut stream).await.unwrap();
    assert!(event.contains("event: change\n") && event.contains(r#""action":"invite.create""#), "{event}");
    assert!(event.contains(r#""mesh":"default""#) && event.contains(r#""version":4"#), "{event}");
    world.node.presence.send_replace(3);
    assert_eq!(next(&mut stream).await.unwrap(), "event: presence\ndata: {\"sessions\":3}\n\n");
}

#[tokio::test]
async fn an_admin_hears_of_its_own_mesh_only() {
    let world = World::new().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut stream = open(&world, OTHER_ADMIN).await;
    assert_eq!(next(&mut stream).await.unwrap(), "event: presence\ndata: {\"sessions\":null}\n\n");
    world.code().await;
    world.post("/api/pairing/generate-code", key(OTHER_ADMIN), json!({})).await.ok();
    let event = next(&mut stream).await.unwrap();
    assert!(event.contains(r#""mesh":"other""#), "{event}");
}

#[tokio::test]
async fn a_revoked_key_hears_nothing_more() {
    let world = World::new().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut stream = open(&world, OTHER_ADMIN).await;
    next(&mut stream).await.unwrap();
    world.delete("/api/keys/key_other-admin", key(OPERATOR)).await.ok();
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test]
async fn streams_are_bounded_and_give_their_place_back() {
    let world = World::new().await;
    let mut streams = vec![];
    for _ in 0..64 {
        streams.push(open(&world, OPERATOR).await);
    }
    world.get("/api/events", key(OPERATOR)).await.is(429, "rate_limited");
    streams.pop();
    streams.push(open(&world, OPERATOR).await);
}
