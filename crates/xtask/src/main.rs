//! The project's chores.
//!
//! - `cargo xtask test`: everything that decides whether a change is good; installs or names what it needs
//! - `cargo xtask bench`: the benchmark, release build; `--quick` for a short one
//! - `cargo xtask cluster`: a whole cluster on this machine to play with, release build; `--help` says more
//! - `cargo xtask docs`: regenerates the pages that are made from the code
//! - `cargo xtask screenshots`: the pictures of the README, made by the browser tests

#![expect(clippy::print_stdout, reason = "a command for people")]

mod chart;
mod command;
mod load;
mod node;
mod tools;
mod watch;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use command::{Run, root};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (task, rest) = arguments.split_first().map_or(("", &[][..]), |(task, rest)| (task.as_str(), rest));
    let result = match task {
        "test" => test(rest),
        "bench" => bench(rest),
        "cluster" => cluster(rest),
        "docs" => docs(),
        "screenshots" => node::screenshots(),
        _ => usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nxtask {task}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> Result<()> {
    bail!("say what to do: cargo xtask test | bench [--quick] | cluster | docs | screenshots")
}

/// A named part of the test command.
type Step = (&'static str, fn() -> Result<()>);

/// In the order of how soon they tell.
const STEPS: [Step; 10] = [
    ("format", || Run::cargo(&["fmt", "--all", "--check"]).go()),
    ("tools", tools::prepare),
    ("chart", chart::test),
    ("watch", watch::rules),
    ("lints", lints),
    ("tests", tests),
    ("originals", node::originals),
    ("browser", node::browser),
    ("load", load::test),
    ("dependencies", dependencies),
];

fn test(only: &[String]) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| !STEPS.iter().any(|(step, _)| step == name)) {
        let names: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("no step is called {unknown}; there are {}", names.join(", "));
    }
    for (name, step) in STEPS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|o| o == name)) {
        println!("\n── {name}");
        let start = Instant::now();
        step()?;
        println!("── {name}: {:.0} s", start.elapsed().as_secs_f64());
    }
    println!("\nAll good.");
    Ok(())
}

fn lints() -> Result<()> {
    Run::cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]).go()?;
    Run::cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])
        .env("RUSTDOCFLAGS", "--deny warnings")
        .go()
}

fn tests() -> Result<()> {
    // The binary first: tests of processes start it.
    Run::cargo(&["build", "--package", "heliograph"]).go()?;
    Run::cargo(&["test", "--workspace"]).env("HELIOGRAPH_BIN", root().join("target/debug/heliograph")).go()
}

/// Licences, sources and duplicates; advisories where their database can be reached.
fn dependencies() -> Result<()> {
    let deny = tools::cargo_deny()?;
    Run::new(&deny, &["check", "bans", "licenses", "sources"]).go()?;
    if Run::new(&deny, &["fetch", "db"]).quiet().go().is_err() {
        println!("The advisory database cannot be reached from here: advisories were NOT checked.");
        return Ok(());
    }
    Run::new(&deny, &["check", "--disable-fetch", "advisories"]).go()
}

fn bench(arguments: &[String]) -> Result<()> {
    tools::servers()?;
    Run::cargo(&["build", "--release", "--package", "heliograph", "--package", "heliograph-loadgen"]).go()?;
    let release = root().join("target/release");
    let (server, bare) = (release.join("heliograph"), release.join("bare-relay"));
    let mut run = Run::new(release.join("heliograph-bench"), &[])
        .arg("--server")
        .arg(&server)
        .arg("--bare")
        .arg(&bare)
        .arg("--out")
        .arg(root().join("bench/results/latest.json"));
    for argument in arguments {
        run = run.arg(argument);
    }
    run.go()
}

/// Postgres, Redis, gateways and a load balancer, until Ctrl-C.
fn cluster(arguments: &[String]) -> Result<()> {
    tools::servers()?;
    tools::haproxy()?;
    Run::cargo(&["build", "--release", "--package", "heliograph", "--package", "heliograph-sandbox"]).go()?;
    let mut run = Run::new(root().join("target/release/heliograph-cluster"), &[]);
    for argument in arguments {
        run = run.arg(argument);
    }
    run.instead_of_this()
}

fn docs() -> Result<()> {
    Run::cargo(&["build", "--package", "heliograph"]).go()?;
    let page = Run::new(root().join("target/debug/heliograph"), &["docs", "configuration"]).output()?;
    std::fs::write(root().join("docs/configuration.md"), page)?;
    println!("docs/configuration.md is up to date.");
    chart::renew()?;
    println!("What the chart has of others is up to date.");
    watch::docs()
}
