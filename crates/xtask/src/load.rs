//! The load tests: type-checked, their protocol module tried against a real gateway, every script run for a moment
//! against a real cluster.

use anyhow::Result;

use crate::command::{Run, root};
use crate::tools;

/// With `k6` where there is one (in the search path, or named by `HELIOGRAPH_K6`); without it the tests say so, and run
/// the scripts on Node.
pub(crate) fn test() -> Result<()> {
    tools::node()?;
    tools::servers()?;
    tools::haproxy()?;
    Run::cargo(&["build", "--package", "heliograph", "--package", "heliograph-sandbox"]).go()?;
    let folder = root().join("load-tests");
    Run::new("npm", &["ci", "--no-audit", "--no-fund", "--silent"]).at(&folder).go()?;
    Run::new("npm", &["run", "types", "--silent"]).at(&folder).go()?;
    Run::new("npm", &["test", "--silent"])
        .at(&folder)
        .env("HELIOGRAPH_BIN", root().join("target/debug/heliograph"))
        .env("HELIOGRAPH_CLUSTER_BIN", root().join("target/debug/heliograph-cluster"))
        .go()
}
