//! What is shipped for watching fits what nodes say: a cluster, a real Prometheus, the rules and dashboards as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use heliograph_testkit::cluster::Plan;
use heliograph_testkit::{Cluster, eventually};
use serde_json::{Value, json};

use crate::prometheus::{Prometheus, root};
use crate::promql::selectors;
use crate::reference;

/// What Prometheus itself knows.
const OWN: [&str; 2] = ["up", "ALERTS"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_dashboards_fit_a_cluster() {
    let cluster = Plan::nodes(3).peers(4).start().await;
    let nodes: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.ops_address()).collect();
    let prometheus = Prometheus::start(&nodes).await;
    exchange(&cluster).await;

    let pages = cluster.access().metrics().await;
    let is_sample = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let names = pages.lines().filter(is_sample).filter_map(|line| line.split(['{', ' ']).next());
    let exposed: BTreeSet<&str> = names.collect();
    reference::check(&pages);

    let recorded = prometheus.rules("recording").await;
    let alerts = prometheus.rules("alerting").await;
    let recorded_names: Vec<&str> = recorded.iter().map(|rule| rule["name"].as_str().unwrap()).collect();
    let panels = panels();
    let rules = recorded.iter().chain(&alerts).map(|rule| (text(rule, "name"), text(rule, "query")));
    let queries: Vec<(String, String)> = rules.chain(panels.iter().cloned()).collect();
    for (what, query) in &queries {
        let selectors = selectors(query);
        assert!(!selectors.is_empty(), "{what} reads nothing: {query}");
        for selector in selectors {
            let metric = selector.metric.as_str();
            let exists =
                exposed.contains(metric) || recorded_names.contains(&metric) || OWN.contains(&metric);
            assert!(exists, "{what}: no node has the metric {metric}");
            if exposed.contains(metric) {
                for named in selector.named() {
                    assert!(has_series(&pages, &named), "{what}: no node has the series {named}");
                }
            }
        }
    }

    for rule in recorded.iter().chain(&alerts) {
        let name = text(rule, "name");
        eventually(&format!("{name} is evaluated"), async || {
            let rules = prometheus.rules(rule["type"].as_str().unwrap()).await;
            rules.iter().all(|now| now["name"] != rule["name"] || now["health"] == "ok").then_some(())
        })
        .await;
    }
    for (what, query) in &panels {
        let query = query.replace("$job", ".*").replace("$namespace", ".*").replace("$instance", ".*");
        let query = query.replace("$__rate_interval", "1m").replace("$__range", "5m");
        assert!(!query.contains('$'), "{what} has a variable that is not known: {query}");
        prometheus.has_data(what, &query).await;
    }
    for alert in prometheus.rules("alerting").await {
        assert_ne!(alert["state"], "firing", "in a healthy cluster: {alert}");
    }
}

/// A bit of everything that happens to a service.
async fn exchange(cluster: &Cluster) {
    let mut sender = cluster.node(0).join_fully("peer-0").await;
    let mut near = cluster.node(0).join_fully("peer-1").await;
    let mut far = cluster.node(1).join_fully("peer-2").await;
    let mut third = cluster.node(2).join_fully("peer-3").await;
    for target in [&mut near, &mut far, &mut third] {
        for kind in ["offer", "answer", "ice_candidate", "of_an_application"] {
            sender.send(kind, Some(&target.id), json!({})).await;
            target.wait_for(kind).await;
        }
    }
    let access = cluster.access();
    let (paired, _) = access.pair_and_approve("device").await;
    access.revoke(&paired.id).await;
    let rejected = access.pair("another").await;
    access.decide(&rejected.id, "reject").await.expect(200);
}

fn has_series(pages: &str, named: &str) -> bool {
    let (metric, label) = named.split_once('{').map_or((named, ""), |(metric, rest)| (metric, rest));
    let label = label.trim_end_matches('}');
    pages.lines().any(|line| {
        line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
    })
}

fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no {member} in {value}")).to_owned()
}

/// Every query of every dashboard, with where it stands.
fn panels() -> Vec<(String, String)> {
    let mut queries = vec![];
    for (file, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            let what = format!("{file}, {}", panel["title"]);
            let targets = panel["targets"].as_array().into_iter().flatten();
            queries.extend(targets.map(|target| (what.clone(), text(target, "expr"))));
        }
    }
    queries
}

fn dashboards() -> BTreeMap<String, Value> {
    let folder = root().join("deploy/grafana/dashboards");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let read = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path()).unwrap();
        (entry.file_name().into_string().unwrap(), serde_json::from_str(&text).unwrap())
    };
    let dashboards: BTreeMap<String, Value> = files.map(read).collect();
    assert_eq!(dashboards.len(), 5);
    dashboards
}

#[test]
fn dashboards_load_anywhere_and_say_what_they_show() {
    let mut ids = BTreeSet::new();
    for (file, dashboard) in dashboards() {
        assert!(ids.insert(text(&dashboard, "uid")), "{file}: another one has this uid");
        assert_eq!(format!("{}.json", text(&dashboard, "uid")), file);
        assert!(dashboard["id"].is_null(), "{file}: the id is for Grafana to give");
        let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
        let variables: Vec<String> = variables.map(|variable| text(variable, "name")).collect();
        assert_eq!(variables, ["datasource", "job", "namespace", "instance"], "{file}");
        let mut panels = BTreeSet::new();
        for panel in dashboard["panels"].as_array().unwrap() {
            let what = format!("{file}, {}", panel["title"]);
            assert!(panels.insert(panel["id"].as_u64().unwrap()), "{what}: another panel has this id");
            if panel["type"] == "row" {
                continue;
            }
            assert!(!text(panel, "description").is_empty(), "{what} has no description");
            assert!(!text(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{what} has no unit");
            for target in panel["targets"].as_array().unwrap() {
                assert_eq!(target["datasource"]["uid"], "${datasource}", "{what}");
            }
        }
    }
}
