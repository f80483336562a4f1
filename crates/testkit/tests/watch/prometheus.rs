//! A real Prometheus that scrapes a cluster by the shipped rules.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use heliograph_sandbox::{Folder, Port, Process, Program, find_program};
use heliograph_testkit::{Api, eventually};
use serde_json::{Value, json};

/// The folder `deploy` and its neighbours are in.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Ends when it is dropped.
pub(crate) struct Prometheus {
    _process: Process,
    _folder: Folder,
    api: Api,
}

impl Prometheus {
    /// Starts one, and waits until it has seen every target.
    pub(crate) async fn start(targets: &[SocketAddr]) -> Self {
        let program = find_program("prometheus", "prometheus").unwrap();
        let (folder, port) = (Folder::new("prometheus").unwrap(), Port::reserve().unwrap());
        let config = folder.path().join("prometheus.yml");
        let addresses: Vec<String> = targets.iter().map(ToString::to_string).collect();
        // YAML as JSON: what it says is what the shipped file says, at another pace and place.
        let settings = json!({
            "global": { "scrape_interval": "1s", "evaluation_interval": "1s" },
            "rule_files": [root().join("deploy/prometheus/rules/*.yml")],
            "scrape_configs": [{ "job_name": "heliograph", "static_configs": [{ "targets": addresses }] }],
        });
        std::fs::write(&config, settings.to_string()).unwrap();
        let process = Program::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .start()
            .unwrap();
        // Whoever calls before it listens would fail the test.
        eventually("Prometheus listens", async || std::net::TcpStream::connect(port.address()).ok()).await;
        let prometheus = Self { _process: process, _folder: folder, api: Api::new(port.address()) };
        eventually("every target is up", async || {
            let up = prometheus.query("sum(up)").await;
            (up.len() == 1 && up[0] == targets.len().to_string()).then_some(())
        })
        .await;
        prometheus
    }

    /// The values of an instant query; empty if it has no data.
    pub(crate) async fn query(&self, expression: &str) -> Vec<String> {
        let mut encoded = String::new();
        expression.bytes().for_each(|byte| write!(encoded, "%{byte:02X}").unwrap());
        let answer = self.api.get(&format!("/api/v1/query?query={encoded}")).await;
        assert!(answer.status == 200 || answer.status == 503, "{expression}: {}", answer.text);
        if answer.status == 503 {
            return vec![]; // it has not read its own files yet
        }
        let answer = answer.json();
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        let result = &answer["data"]["result"];
        let samples = result.as_array().unwrap().iter();
        samples.map(|sample| sample["value"][1].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits until a query has data that are numbers.
    pub(crate) async fn has_data(&self, what: &str, expression: &str) {
        let what = format!("{what}: {expression}");
        eventually(&what, async || {
            let values = self.query(expression).await;
            (!values.is_empty() && values.iter().all(|value| value != "NaN")).then_some(())
        })
        .await;
    }

    /// All rules that it evaluates, alerts or recorded ones.
    pub(crate) async fn rules(&self, kind: &str) -> Vec<Value> {
        let answer = self.api.get("/api/v1/rules").await.expect(200);
        let groups = answer["data"]["groups"].as_array().unwrap();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().unwrap());
        let rules: Vec<Value> = rules.filter(|rule| rule["type"] == kind).cloned().collect();
        assert!(!rules.is_empty(), "no rules: {answer}");
        rules
    }
}
