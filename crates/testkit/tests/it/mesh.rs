//! The mesh dialect, as clients see it.

use heliograph_testkit::TestServer;
use serde_json::json;

#[tokio::test]
async fn the_later_one_gets_the_earlier_one_and_they_talk() {
    let server = TestServer::start().await;
    let mut a = server.connect("agent-one").await;
    assert_eq!(a.register().await, [""; 0]);
    let mut b = server.connect("agent-two").await;
    assert_eq!(b.register().await, ["agent-one"]);
    b.send_text(r#"{"type":"offer","peer_id":"agent-two","target_id":"agent-one","payload":{"z":1.50,  "sdp":"v=0\r\n\u00fc"}}"#)
        .await;
    assert_eq!(
        a.next_text().await,
        r#"{"type":"offer","peer_id":"agent-two","target_id":"agent-one","payload":{"z":1.50,  "sdp":"v=0\r\n\u00fc"}}"#
    );
    a.send("answer", Some("agent-two"), json!({ "sdp": "v=0" })).await;
    assert_eq!(b.expect("answer").await["peer_id"], "agent-one");
}
