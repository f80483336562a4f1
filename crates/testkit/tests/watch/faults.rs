//! What objectives and alerts read moves when something is broken.

use heliograph_testkit::client::ALL;
use heliograph_testkit::cluster::{Plan, RedisKind};
use heliograph_testkit::eventually;
use serde_json::json;

use crate::prometheus::Prometheus;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_redis_is_seen() {
    let mut cluster = Plan::nodes(2).peers(2).own_redis(RedisKind::Standalone).start().await;
    let targets: Vec<_> = cluster.nodes().iter().map(|node| node.ops_address()).collect();
    let mut sender = cluster.node(0).join_fully("peer-0").await;
    let _target = cluster.node(1).join_fully("peer-1").await;
    let prometheus = Prometheus::start(&targets).await;

    cluster.redis().kill().unwrap();
    eventually("no node has a bus", async || {
        (cluster.access().metric_of_each("heliograph_bus_up").await == [0, 0]).then_some(())
    })
    .await;
    sender.send_with_id("offer", "peer-1", json!({}), "lost").await;
    assert_eq!(sender.wait_for("undeliverable").await["payload"]["reason"], "bus_unavailable");
    sender.send("register", None, json!({ "version": 1, "capabilities": ALL })).await;
    assert_eq!(sender.wait_for("error").await["payload"]["code"], "bus_unavailable");

    let joins = "heliograph_joins_total{outcome=\"unavailable\"}";
    assert_eq!(cluster.access().metric(joins).await, 1);
    for (what, expression) in [
        ("messages", "heliograph:relay_errors:ratio_rate5m > 0"),
        ("joins", "heliograph:join_errors:ratio_rate5m > 0"),
        ("the alert", "ALERTS{alertname=\"HeliographBusDown\"} == 1"),
    ] {
        prometheus.has_data(what, expression).await;
    }
}
