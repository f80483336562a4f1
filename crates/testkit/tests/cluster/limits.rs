//! Limits that hold for all nodes together.

use heliograph_testkit::Plan;

use crate::scene::{NODES, alone};

#[tokio::test]
async fn guesses_that_are_spread_over_nodes_meet_one_limit() {
    let _alone = alone().await;
    let cluster = Plan::nodes(NODES).settings(&[("REDEEM_FAILURES_PER_ADDRESS", "6")]).start().await;
    let code = cluster.node(0).invite().await;
    for guess in 0..6 {
        cluster.node(guess % NODES).redeem("AAAAA-AAAAA", "guesser").await.expect(401);
    }
    for node in cluster.nodes() {
        let refused = node.redeem(&code, "guesser").await;
        assert!(refused.header("retry-after").is_some(), "{}", refused.text);
        refused.expect(429);
    }
    let elsewhere = cluster.node(1).api().from([127, 0, 0, 2]);
    let body = serde_json::json!({ "code": code, "agent_name": "device" });
    elsewhere.post("/api/pairing/pair", &body).await.expect(200);
}

#[tokio::test]
async fn guesses_from_many_addresses_meet_one_limit_too() {
    let _alone = alone().await;
    let settings = [("REDEEM_FAILURES_PER_ADDRESS", "3"), ("REDEEM_FAILURES_GLOBAL", "9")];
    let cluster = Plan::nodes(NODES).settings(&settings).start().await;
    let guess = async |from: u8| {
        let api = cluster.node(usize::from(from) % NODES).api().from([127, 0, 1, from]);
        let body = serde_json::json!({ "code": "AAAAA-AAAAA", "agent_name": "x" });
        api.post("/api/pairing/pair", &body).await.status
    };
    let mut statuses = vec![];
    for from in 1..=12 {
        statuses.push(guess(from).await);
    }
    assert_eq!(statuses, [vec![401; 9], vec![429; 3]].concat());
}
