//! What the tests need beside Rust: found, installed where that is possible, or named with what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{Run, root};

/// Kept in step with the configuration in `deny.toml`.
const CARGO_DENY: &str = "0.20.2";
/// What the test runner needs (`engines` in `tests/browser/package.json`).
const OLDEST_NODE: u32 = 20;

/// Finds or installs everything first, so that nothing is missing halfway.
pub(crate) fn prepare() -> Result<()> {
    chromium()?;
    node()?;
    cargo_deny()?;
    Ok(())
}

/// The browser.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("CHROMIUM") {
        return Ok(chosen.into());
    }
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    find_or_install(&names, &["chromium"], "set CHROMIUM to the path of a Chromium or Chrome")
}

/// Node with npm, recent enough.
pub(crate) fn node() -> Result<()> {
    find_or_install(&["npm"], &["nodejs", "npm"], "install Node.js with npm")?;
    let version = String::from_utf8(Run::new("node", &["--version"]).output()?)?;
    let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_NODE) {
        bail!("the browser tests need Node.js {OLDEST_NODE} or newer, not {}", version.trim());
    }
    Ok(())
}

/// cargo-deny, built once into the target folder if it is not installed.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    if let Some(installed) = find("cargo-deny") {
        return Ok(installed);
    }
    let folder = root().join("target/tools");
    let built = folder.join("bin/cargo-deny");
    if !built.exists() {
        println!("Building cargo-deny {CARGO_DENY} (once) …");
        Run::cargo(&["install", "cargo-deny", "--locked", "--quiet", "--version", CARGO_DENY, "--root"])
            .arg(&folder)
            .go()?;
    }
    Ok(built)
}

fn find_or_install(names: &[&str], packages: &[&str], otherwise: &str) -> Result<PathBuf> {
    if let Some(found) = names.iter().find_map(|name| find(name)) {
        return Ok(found);
    }
    install(packages).with_context(|| format!("{} is missing: {otherwise}", names[0]))?;
    names.iter().find_map(|name| find(name)).with_context(|| format!("{} is still missing", names[0]))
}

/// On Debian and its like, as root; everyone else is told what to type.
fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if find("apt-get").is_none() || !is_root() {
        bail!("install it, on Debian or Ubuntu with: sudo apt-get install {list}");
    }
    println!("Installing {list} …");
    Run::new("apt-get", &["update", "-qq"]).go()?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend(packages);
    Run::new("apt-get", &arguments).env("DEBIAN_FRONTEND", "noninteractive").go()
}

fn is_root() -> bool {
    Run::new("id", &["-u"]).output().is_ok_and(|id| id.trim_ascii() == b"0")
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| Path::is_file(file))
}
