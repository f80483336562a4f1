//! How many may be in rooms. Rooms are counted at each node, so this is a test of one.

use heliograph_testkit::eventually;

use crate::TestServer;
use crate::rooms::{announce, announced, left, signaller};

#[tokio::test]
async fn a_room_and_a_node_have_bounds() {
    let settings = [("ROOMS", "open"), ("MAX_ROOM_MEMBERS", "2"), ("MAX_ROOMS_PER_MESH", "1")];
    let server = TestServer::start_with(&settings).await;
    let mut first = announced(&server, "a", "small", 1).await;
    let mut second = announced(&server, "b", "small", 2).await;
    assert_eq!(first.next_text().await, announce("b", "small"));
    let mut third = signaller(&server, "c").await;
    third.send_text(&announce("c", "small")).await;
    third.send_text(&announce("c", "other")).await;
    let limited = async |limit: &str| {
        server.metric(&format!("heliograph_rate_limited_total{{limit=\"{limit}\"}}")).await
    };
    eventually("both are refused", async || {
        let both = (limited("room_members").await, limited("rooms").await);
        (both == (1, 1)).then_some(())
    })
    .await;
    second.send_text(r#"/leave|b|{"id":"b"}"#).await;
    assert_eq!(first.next_text().await, left("b"));
    third.send_text(&announce("c", "small")).await;
    assert_eq!(third.next_text().await, r#"/roominfo|{"memberCount":2}"#);
}
