//! The Helm chart: its tests, and its parts that are made from others.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::command::{Run, root};
use crate::tools;

const TESTS: &str = "tests/chart";
/// What the chart carries of others: from there, with this ending, to here.
const COPIES: [(&str, &str, &str); 2] = [
    ("deploy/prometheus/rules", "yml", "helm/heliograph/files/rules"),
    ("deploy/grafana/dashboards", "json", "helm/heliograph/files/dashboards"),
];

/// Two Helms, the schemas of Kubernetes and of operators, and rules of our own, over each way to install.
pub(crate) fn test() -> Result<()> {
    let python = prepare()?;
    Run::cargo(&["build", "--package", "heliograph"]).go()?;
    let run = |script: &str| {
        Run::new(&python, &[])
            .arg(script)
            .at(&root().join(TESTS))
            .env("HELIOGRAPH_BIN", root().join("target/debug/heliograph"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .go()
    };
    run("check.py")?;
    run("deploy.py")
}

/// A Python with the packages that the tests pin, and those of npm.
pub(crate) fn prepare() -> Result<PathBuf> {
    tools::node()?;
    tools::python()?;
    let (tests, environment) = (root().join(TESTS), root().join("target/tools/chart"));
    let python = environment.join("bin/python");
    if !python.exists() {
        Run::new("python3", &["-m", "venv"]).arg(&environment).go()?;
    }
    Run::new(&python, &["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(tests.join("requirements.txt"))
        .go()?;
    Run::new("npm", &["ci", "--no-audit", "--no-fund", "--silent"]).at(&tests).go()?;
    Ok(python)
}

/// Renews what the chart has of others: rules, dashboards, and the settings that `config` takes.
pub(crate) fn renew() -> Result<()> {
    for (from, ending, to) in COPIES {
        renew_copies(&root().join(from), ending, &root().join(to))?;
    }
    tools::python()?;
    Run::new("python3", &["tests/chart/settings.py", "--write"]).env("PYTHONDONTWRITEBYTECODE", "1").go()
}

fn renew_copies(from: &Path, ending: &str, to: &Path) -> Result<()> {
    if to.exists() {
        std::fs::remove_dir_all(to).with_context(|| format!("cannot empty {}", to.display()))?;
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let file = entry?.path();
        if let (Some(name), true) = (file.file_name(), file.extension().is_some_and(|e| e == ending)) {
            std::fs::copy(&file, to.join(name))?;
        }
    }
    Ok(())
}
