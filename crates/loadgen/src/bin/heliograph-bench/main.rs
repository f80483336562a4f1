//! Measures the product beside the bare relay, in turns, and writes down what came out.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: results to one, progress to the other"
)]

mod cluster;
mod node;
mod scale;
mod turns;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::Parser;
use heliograph_loadgen::machine::Circumstances;
use heliograph_loadgen::procfs::open_file_limits;
use heliograph_loadgen::report::Report;
use tokio::signal::unix::{SignalKind, signal};

use crate::cluster::ClusterBench;
use crate::node::NodeBench;
use crate::scale::{FULL, QUICK};

/// The generator must not wait for its memory either.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Files that this process needs: the sockets, and some.
const FILES: u64 = 10_500;

/// Measures a Heliograph server beside the bare relay; both from release builds.
#[derive(Parser)]
struct Arguments {
    /// The product's program [default: `heliograph` beside this program].
    #[arg(long)]
    server: Option<PathBuf>,
    /// The bare relay's program [default: `bare-relay` beside this program].
    #[arg(long)]
    bare: Option<PathBuf>,
    /// Where the results go; the readable form goes beside it, with the ending `.md`.
    #[arg(long, default_value = "bench/results/latest.json")]
    out: PathBuf,
    /// Fewer and shorter runs, under three minutes; the figures are rough.
    #[arg(long)]
    quick: bool,
    /// Measures only what has a name that begins with this: relay, latency, setup, join, tokens, storm, revoke, memory; and between
    /// nodes cross-relay, cross-latency, cross-sizes, cross-setup, cross-join, cross-count, cross-return, cross-revoke, cross-room, cross-agents.
    #[arg(long)]
    only: Option<String>,
    /// Puts the bare relay in the product's place: how far the ratios are from 1 is the error of the method.
    #[arg(long)]
    against_itself: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    raise_file_limit()?;
    // One thread for the swarm: two cores are enough for a server and its load only if the load stays on one.
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // Dropping the run ends its servers.
        tokio::select! {
            result = run(&arguments) => result,
            _ = interrupt.recv() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

/// Starts anew with the hard limit of open files, which a shell can set, if the soft one is too low.
fn raise_file_limit() -> anyhow::Result<()> {
    const TRIED: &str = "HELIOGRAPH_BENCH_FILES_RAISED";
    let (soft, hard) = open_file_limits();
    if soft.is_none_or(|soft| soft >= FILES) {
        return Ok(());
    }
    let hopeless = hard.is_some_and(|hard| hard < FILES) || std::env::var_os(TRIED).is_some();
    ensure!(!hopeless, "{FILES} open files are needed, the limit is {hard:?}: raise it (ulimit -n)");
    let script = r#"ulimit -n "$(ulimit -Hn)" && exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(TRIED, "1");
    Err(command.exec()).context("cannot raise the limit of open files")
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (begun, circumstances) = (Instant::now(), Circumstances::now());
    let beside = std::env::current_exe()?;
    let beside = |name: &str| beside.with_file_name(name);
    let programs = Programs {
        product: arguments.server.clone().unwrap_or_else(|| beside("heliograph")),
        bare: arguments.bare.clone().unwrap_or_else(|| beside("bare-relay")),
        against_itself: arguments.against_itself,
    };
    let scale = if arguments.quick { QUICK } else { FULL };
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.starts_with(only.as_str()));
    // First what needs most: if PostgreSQL or Redis are missing, it says so before anything is measured.
    let cluster = ClusterBench::run(programs.clone(), scale, &wanted).await?;
    let rows = NodeBench::run(programs, scale, &wanted).await?;
    let seconds = begun.elapsed().as_secs_f64();
    let report = Report { schema: 2, quick: arguments.quick, circumstances, seconds, rows, cluster };
    write(&report, &arguments.out)?;
    println!("{}", report.tables());
    eprintln!("{seconds:.0} s, written to {}", arguments.out.display());
    Ok(())
}

/// What is measured.
#[derive(Debug, Clone)]
struct Programs {
    product: PathBuf,
    bare: PathBuf,
    /// Whether the bare relay stands in the product's place.
    against_itself: bool,
}

fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_string_pretty(report)? + "\n")?;
    std::fs::write(path.with_extension("md"), report.markdown())?;
    Ok(())
}
