//! One trace from the sender's socket over Redis to the receiver's.

use std::collections::HashMap;
use std::time::Duration;

use heliograph_testkit::cluster::Plan;
use heliograph_testkit::{Cluster, eventually};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use crate::collector::{Collector, attribute};

const SDP: &str = "v=0 this is the payload";

async fn cluster(collector: &Collector, sampler: &str) -> Cluster {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint()),
        ("OTEL_TRACES_SAMPLER", sampler),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    Plan::nodes(2).peers(3).variables(&variables).start().await
}

/// `peer-0` on the first node sends to `peer-1` beside it and to `peer-2` on the other.
async fn exchange(cluster: &Cluster) {
    let mut sender = cluster.node(0).join("peer-0").await;
    let mut near = cluster.node(0).join("peer-1").await;
    let mut far = cluster.node(1).join("peer-2").await;
    sender.send("offer", Some("peer-1"), json!({ "sdp": SDP })).await;
    near.wait_for("offer").await;
    sender.send("answer", Some("peer-2"), json!({ "sdp": SDP })).await;
    far.wait_for("answer").await;
    sender.send("offer", Some("peer-nobody"), json!({ "sdp": SDP })).await;
    sender.send("ping", None, json!({})).await;
    sender.wait_for("pong").await;
}

/// The spans of the message of this kind, by name, once so many have arrived.
async fn trace(collector: &Collector, kind: &str, count: usize) -> HashMap<String, Span> {
    let what = format!("{count} spans of the {kind}");
    eventually(&what, async || {
        let spans = collector.spans();
        let is_root = |span: &&Span| span.name == "relay" && attribute(span, "heliograph.kind") == Some(kind);
        let root = spans.iter().find(is_root)?;
        let trace = spans.iter().filter(|span| span.trace_id == root.trace_id);
        let trace: HashMap<_, _> = trace.map(|span| (span.name.clone(), span.clone())).collect();
        (trace.len() == count).then_some(trace)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_spans_both_gateways() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector, "parentbased_always_on").await;
    exchange(&cluster).await;

    let far = trace(&collector, "answer", 3).await;
    let (relay, receive, write) = (&far["relay"], &far["receive"], &far["write"]);
    assert!(relay.parent_span_id.is_empty());
    assert_eq!(receive.parent_span_id, relay.span_id);
    assert_eq!(write.parent_span_id, receive.span_id);
    let gateway = |span| attribute(span, "heliograph.gateway");
    assert_eq!(gateway(relay), Some(cluster.node(0).gateway()));
    assert_eq!(gateway(receive), Some(cluster.node(1).gateway()));
    assert_eq!(gateway(write), Some(cluster.node(1).gateway()));
    assert_eq!((relay.kind(), receive.kind()), (SpanKind::Producer, SpanKind::Consumer));
    // One machine, one clock.
    assert!(relay.start_time_unix_nano <= receive.start_time_unix_nano);
    assert!(receive.start_time_unix_nano <= write.end_time_unix_nano);

    let near = trace(&collector, "offer", 2).await;
    assert_eq!(near["write"].parent_span_id, near["relay"].span_id);
    assert_eq!(gateway(&near["write"]), Some(cluster.node(0).gateway()));

    let all = format!("{:?}", collector.spans());
    for secret in [SDP, "peer-0", "peer-1", "peer-2"] {
        assert!(!all.contains(secret), "{secret} is in a trace");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_sampled_is_not_sent() {
    let collector = Collector::start().await;
    let cluster = cluster(&collector, "always_off").await;
    exchange(&cluster).await;
    // Whoever ends sends what has not been sent.
    for node in cluster.nodes() {
        node.terminate();
    }
    for node in cluster.nodes() {
        assert!(node.ended(Duration::from_secs(30)).await.success());
    }
    assert!(collector.spans().is_empty(), "{:?}", collector.spans());
}
