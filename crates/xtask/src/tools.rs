//! What the tests need beside Rust: found, installed where that is possible, or named with what to do.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command::{Run, root};

/// Kept in step with the configuration in `deny.toml`.
const CARGO_DENY: &str = "0.20.2";
/// What the test runner needs (`engines` in `tests/browser/package.json`).
const OLDEST_NODE: u32 = 20;
/// The first Redis with sharded publish and subscribe, which the tests of the bus are about.
const OLDEST_REDIS: u32 = 7;

/// Finds or installs everything first, so that nothing is missing halfway.
pub(crate) fn prepare() -> Result<()> {
    chromium()?;
    node()?;
    servers()?;
    haproxy()?;
    coturn()?;
    nginx()?;
    prometheus()?;
    shell_examples()?;
    cargo_deny()?;
    crate::chart::prepare()?;
    Ok(())
}

/// What the tests start for themselves, on ports of their own. Debian's packages may start servers as well, on the
/// usual ports: nothing here uses them.
pub(crate) fn servers() -> Result<()> {
    postgres()?;
    redis()?;
    find_or_install(&["openssl"], &["openssl"], "install OpenSSL")?;
    find_or_install(&["setpriv"], &["util-linux"], "install util-linux")?;
    Ok(())
}

fn postgres() -> Result<()> {
    if std::env::var_os("HELIOGRAPH_POSTGRES_BIN").is_some() || find_initdb().is_some() {
        return Ok(());
    }
    let otherwise = "set HELIOGRAPH_POSTGRES_BIN to the folder of PostgreSQL's programs";
    install(&["postgresql"]).with_context(|| format!("PostgreSQL's initdb is missing: {otherwise}"))?;
    find_initdb().map(|_| ()).context("initdb is still missing")
}

/// Debian keeps it out of the search path, in a folder per version.
fn find_initdb() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions.map(|version| version.path().join("bin/initdb")).find(|file| file.is_file());
    find("initdb").or(debian)
}

/// Debian's package brings `redis-cli` with it, and its server is the Sentinel too.
fn redis() -> Result<()> {
    let server = find_or_install(&["redis-server"], &["redis-server"], "install Redis 7 or newer")?;
    find_or_install(&["redis-cli"], &["redis-tools"], "install redis-cli")?;
    // "Redis server v=7.0.15 sha=…"
    let version = String::from_utf8(Run::new(&server, &["--version"]).output()?)?;
    let major = version.split("v=").nth(1).and_then(|number| number.split('.').next()?.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_REDIS) {
        bail!("the tests need Redis {OLDEST_REDIS} or newer, not {}", version.trim());
    }
    Ok(())
}

/// The load balancer of `cargo xtask cluster`.
pub(crate) fn haproxy() -> Result<PathBuf> {
    find_or_install(&["haproxy"], &["haproxy"], "install HAProxy")
}

/// Prometheus and its tool. Debian starts it as a service too, on its usual port: nothing here uses that one.
pub(crate) fn prometheus() -> Result<()> {
    find_or_install(&["prometheus"], &["prometheus"], "install Prometheus")?;
    find_or_install(&["promtool"], &["prometheus"], "install promtool, which comes with Prometheus")?;
    Ok(())
}

/// The other load balancer that the tests put in front of a cluster.
fn nginx() -> Result<PathBuf> {
    find_or_install(&["nginx"], &["nginx-light"], "install nginx")
}

/// The TURN server that takes what the service vends, and its test client.
fn coturn() -> Result<PathBuf> {
    find_or_install(&["turnserver"], &["coturn"], "install coturn")
}

/// What the agent's examples in shell need.
fn shell_examples() -> Result<()> {
    find_or_install(&["socat"], &["socat"], "install socat")?;
    find_or_install(&["jq"], &["jq"], "install jq")?;
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

/// Python with environments of its own, for the tests of the chart.
pub(crate) fn python() -> Result<()> {
    find_or_install(&["python3"], &["python3", "python3-venv"], "install Python 3.10 or newer")?;
    // Debian has what makes environments in a package of its own.
    if Run::new("python3", &["-c", "import ensurepip, venv"]).quiet().go().is_err() {
        install(&["python3-venv"]).context("Python cannot make environments: install its venv module")?;
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
    // Not every user's search path has the folders of servers.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| Path::is_file(file))
}
