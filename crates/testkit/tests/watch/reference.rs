//! `docs/metrics.md` says what nodes say of their metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::prometheus::root;

const PAGE: &str = "docs/metrics.md";
/// Set by `cargo xtask docs`, which writes the page instead of comparing it.
const WRITE: &str = "HELIOGRAPH_WRITE_DOCS";

#[derive(Default)]
struct Metric {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// Compares the page with the metrics pages of a cluster's nodes.
pub(crate) fn check(pages: &str) {
    let expected = page(&metrics(pages));
    let file = root().join(PAGE);
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&file, &expected).unwrap();
    }
    let actual = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(actual == expected, "{PAGE} is not up to date: cargo xtask docs\n\n{expected}");
}

fn metrics(pages: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in pages.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            help.clone_into(&mut metrics.entry(name.to_owned()).or_default().help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            kind.clone_into(&mut metrics.entry(name.to_owned()).or_default().kind);
        } else if let Some((name, rest)) = line.split_once('{') {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let name = base.filter(|base| metrics.contains_key(*base)).unwrap_or(name);
            let labels = rest.split('}').next().unwrap_or_default().split("\",");
            let labels = labels.filter_map(|label| label.split_once('=')).map(|(label, _)| label);
            let labels = labels.filter(|label| *label != "le").map(ToOwned::to_owned);
            metrics.get_mut(name).unwrap_or_else(|| panic!("{line} without a type")).labels.extend(labels);
        }
    }
    metrics
}

fn page(metrics: &BTreeMap<String, Metric>) -> String {
    let mut page = String::from(
        "# Metrics\n\nWhat every node of a cluster says at `/metrics` on its operations listener. Made from a running \
         cluster with\n`cargo xtask docs`. Times are in seconds, sizes in bytes; no label has a peer, a room or an \
         address.\n\n| metric | type | labels | what it says |\n|---|---|---|---|\n",
    );
    for (name, Metric { kind, help, labels }) in metrics {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(page, "| `{name}` | {kind} | {} | {} |", labels.join(", "), help.trim_end_matches('.'))
            .unwrap();
    }
    page
}
