//! What is shipped for Prometheus is right by itself: its own tool reads the files and tries every rule on sample series.
//! That it fits what nodes say is tried by the tests of the testkit, against a cluster.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use crate::command::{Run, root};
use crate::tools;

/// Checks configuration and rules, and runs their tests.
pub(crate) fn rules() -> Result<()> {
    tools::prometheus()?;
    let folder = root().join("deploy/prometheus");
    Run::new("promtool", &["check", "config", "prometheus.yml"]).at(&folder).go()?;
    with_files(&["check", "rules"], "deploy/prometheus/rules")?;
    with_files(&["test", "rules"], "deploy/prometheus/tests")
}

fn with_files(arguments: &[&str], folder: &str) -> Result<()> {
    let entries = std::fs::read_dir(root().join(folder))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    ensure!(!files.is_empty(), "nothing is in {folder}");
    files.sort();
    files.iter().fold(Run::new("promtool", arguments), Run::arg).go()
}

/// Writes the page that is made from the metrics of a cluster.
pub(crate) fn docs() -> Result<()> {
    tools::servers()?;
    tools::prometheus()?;
    Run::cargo(&["test", "--quiet", "--package", "heliograph-testkit", "--test", "watch", "metrics::"])
        .env("HELIOGRAPH_WRITE_DOCS", "1")
        .go()?;
    println!("docs/metrics.md is up to date.");
    Ok(())
}
