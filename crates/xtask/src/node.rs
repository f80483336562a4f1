//! Tests that Node.js runs, against real processes: the pages in a browser, and clients that others wrote.

use anyhow::Result;

use crate::command::{Run, root};
use crate::tools;

/// Builds what they start, and runs the tests of one folder under `tests/`.
pub(crate) fn tests(folder: &str, environment: &[(&str, &str)]) -> Result<()> {
    tools::node()?;
    tools::servers()?;
    tools::haproxy()?;
    Run::cargo(&["build", "--package", "heliograph", "--package", "heliograph-sandbox"]).go()?;
    let folder = root().join("tests").join(folder);
    Run::new("npm", &["ci", "--no-audit", "--no-fund", "--silent"]).at(&folder).go()?;
    let mut run = Run::new("npm", &["test", "--silent"])
        .at(&folder)
        .env("HELIOGRAPH_BIN", root().join("target/debug/heliograph"))
        .env("HELIOGRAPH_CLUSTER_BIN", root().join("target/debug/heliograph-cluster"));
    for (name, value) in environment {
        run = run.env(name, value);
    }
    run.go()
}

/// Real pages in a real browser.
pub(crate) fn browser() -> Result<()> {
    tests("browser", &[("CHROMIUM", &tools::chromium()?.to_string_lossy())])
}

/// The pictures of the README, made by the same tests.
pub(crate) fn screenshots() -> Result<()> {
    let (chromium, pictures) = (tools::chromium()?, root().join("docs/images"));
    let environment = [
        ("CHROMIUM", &*chromium.to_string_lossy()),
        ("HELIOGRAPH_SCREENSHOTS", &*pictures.to_string_lossy()),
    ];
    tests("browser", &environment)
}

/// The original client of the rtc-signaller dialect, as npm has it.
pub(crate) fn originals() -> Result<()> {
    tests("rtc-signaller", &[])
}
