//! Measures the product beside the bare relay, in turns, and writes down what came out.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program: results to one, progress to the other"
)]

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use heliograph_loadgen::machine::Circumstances;
use heliograph_loadgen::peers::{Peer, roster};
use heliograph_loadgen::process::{Data, Server};
use heliograph_loadgen::procfs::open_file_limits;
use heliograph_loadgen::report::{Goal, Report, Row};
use heliograph_loadgen::scenario::relay::Pairs;
use heliograph_loadgen::scenario::{Cost, idle, join, setup, storm};
use heliograph_loadgen::target::{Manner, Target};
use tokio::signal::unix::{SignalKind, signal};

/// The generator must not wait for its memory either.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Pairs that relay.
const PAIRS: usize = 100;
/// Peers of the servers on which time is measured; costs must not grow with them, so there are many.
const PEERS: usize = 10_000;
/// Of them, those that exchanged their keys for tokens on the measured node, as a device does before it connects;
/// the rest come unknown.
const KNOWN: usize = 4_000;
/// Peers per mesh.
const PER_MESH: usize = 10;
/// Messages of a pair under way in the closed loop that lets servers put several into one write.
const BATCH: u32 = 16;
/// Open-loop rates, in messages per second: for processor time and for latency.
const RATE: u32 = 5_000;
const LATENCY_RATE: u32 = 2_000;
/// Sockets at which memory is measured.
const STEPS: [usize; 2] = [5_000, 10_000];
/// Peers that register at once.
const CROWD: usize = 1_000;
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
    /// Fewer and shorter runs, under a minute and a half; the figures are rough.
    #[arg(long)]
    quick: bool,
    /// Measures only what has this in its name: relay, latency, setup, join, tokens, storm, memory.
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
    let mut bench = Bench {
        product: arguments.server.clone().unwrap_or_else(|| beside("heliograph")),
        bare: arguments.bare.clone().unwrap_or_else(|| beside("bare-relay")),
        known: [None, None],
        against_itself: arguments.against_itself,
        scale: if arguments.quick { QUICK } else { FULL },
        rows: vec![],
    };
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    bench.timed(&wanted).await?;
    if wanted("storm") && !arguments.against_itself {
        bench.storm().await?;
    }
    if wanted("memory") {
        bench.memory().await?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let report = Report { schema: 1, quick: arguments.quick, circumstances, seconds, rows: bench.rows };
    write(&report, &arguments.out)?;
    println!("{}", report.table());
    eprintln!("{seconds:.0} s, written to {}", arguments.out.display());
    Ok(())
}

fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_string_pretty(report)? + "\n")?;
    std::fs::write(path.with_extension("md"), report.markdown())?;
    Ok(())
}

/// How much and how long.
struct Scale {
    rounds: usize,
    slices: usize,
    slice_time: Duration,
    paced_time: Duration,
    latency_time: Duration,
    setups: usize,
    joins: usize,
    exchanges: usize,
    waves: usize,
    memory_rounds: usize,
    settle: Duration,
}

const FULL: Scale = Scale {
    rounds: 7,
    slices: 21,
    slice_time: Duration::from_millis(400),
    paced_time: Duration::from_secs(2),
    latency_time: Duration::from_secs(3),
    setups: 500,
    joins: 3_000,
    exchanges: 4_000,
    waves: 6,
    memory_rounds: 2,
    settle: Duration::from_secs(2),
};
const QUICK: Scale = Scale {
    rounds: 3,
    slices: 7,
    slice_time: Duration::from_millis(250),
    paced_time: Duration::from_secs(1),
    latency_time: Duration::from_secs(1),
    setups: 250,
    joins: 1_000,
    exchanges: 1_500,
    waves: 4,
    memory_rounds: 1,
    settle: Duration::from_secs(1),
};

/// How the peers are spread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meshes {
    Many,
    One,
}

impl Meshes {
    fn peers(self) -> Vec<Peer> {
        match self {
            Self::Many => roster(PEERS, PER_MESH),
            Self::One => roster(PEERS, PEERS),
        }
    }
}

struct Bench {
    product: PathBuf,
    /// What servers stored in which the peers of each way of spreading are enrolled.
    known: [Option<Data>; 2],
    bare: PathBuf,
    against_itself: bool,
    scale: Scale,
    rows: Vec<Row>,
}

/// Whose figure it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Product,
    Bare,
}

/// The two, in the order in which they get their turns.
type Turns<'a> = [(Side, &'a Target); 2];

/// Now one is first, now the other, so that neither gains by its place.
fn ordered([first, second]: Turns<'_>, round: usize) -> Turns<'_> {
    if round.is_multiple_of(2) { [first, second] } else { [second, first] }
}

/// Figures of the two, run by run.
#[derive(Default)]
struct Both {
    product: Vec<f64>,
    bare: Vec<f64>,
}

impl Both {
    fn add(&mut self, side: Side, value: f64) {
        match side {
            Side::Product => self.product.push(value),
            Side::Bare => self.bare.push(value),
        }
    }
}

impl Bench {
    fn row(&mut self, name: (&'static str, &'static str, &'static str), both: Both, goal: Option<Goal>) {
        self.rows.extend(Row::new(name, both.product, both.bare, goal));
    }

    /// A product in which `peers` are enrolled; the first time that takes a while.
    async fn start(&mut self, meshes: Meshes) -> anyhow::Result<Server> {
        if self.against_itself {
            return Server::bare(&self.bare);
        }
        let (peers, known) = (meshes.peers(), &mut self.known[meshes as usize]);
        if known.is_none() {
            let first = Server::product(&self.product, &peers, None).await?;
            eprintln!("{PEERS} keys imported, ready in {:.1} s", first.started_in.as_secs_f64());
            *known = Some(first.into_data()?);
        }
        let server = Server::product(&self.product, &peers, known.as_ref()).await?;
        // What a start still does in the background would count as load.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(server)
    }

    /// Everything that is measured in time, on two servers that run side by side and get their load in turns.
    async fn timed(&mut self, wanted: &impl Fn(&str) -> bool) -> anyhow::Result<()> {
        if !["relay", "latency", "setup", "join", "tokens"].iter().any(|name| wanted(name)) {
            return Ok(());
        }
        let peers = Meshes::Many.peers();
        let product = self.start(Meshes::Many).await?;
        if !self.against_itself {
            join::exchanges(product.target(), &peers[..KNOWN], false).await?;
        }
        let bare = Server::bare(&self.bare)?;
        let turns = [(Side::Product, product.target()), (Side::Bare, bare.target())];
        if wanted("relay") {
            self.relay(turns, &peers).await?;
        }
        if wanted("latency") {
            self.latency(turns, &peers).await?;
        }
        if wanted("setup") {
            self.setups(turns, &peers[..KNOWN]).await?;
        }
        if wanted("join") {
            self.joins(turns, &peers).await?;
        }
        if wanted("tokens") && !self.against_itself {
            self.tokens(product.target(), &peers[..KNOWN]).await?;
        }
        Ok(())
    }

    async fn relay(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let (single, single_rate) = self.closed_loops(turns, peers, 1, Manner::Plain).await?;
        let (batched, batched_rate) = self.closed_loops(turns, peers, BATCH, Manner::Plain).await?;
        // The bare relay has no receipts: the same messages are what the product's are compared with.
        let (receipts, _) = self.closed_loops(turns, peers, 1, Manner::Feedback).await?;
        let mut paced = Both::default();
        for round in 0..self.scale.rounds {
            eprintln!("relay at a fixed rate, round {} of {}", round + 1, self.scale.rounds);
            for (side, target) in ordered(turns, round) {
                let mut pairs = Pairs::open(target, peers, PAIRS, Manner::Plain).await?;
                paced.add(
                    side,
                    pairs.open_loop(target, RATE, self.scale.paced_time, false).await?.cost.cpu_us,
                );
                pairs.close().await?;
            }
        }
        let goal = Some(Goal::Ratio(1.4));
        self.row(("relay_cpu", "CPU per 1.5 KB message, one under way per pair", "µs"), single, goal);
        self.row(("relay_cpu_batched", "CPU per message, 16 under way per pair", "µs"), batched, goal);
        self.row(("relay_cpu_paced", "CPU per message at 5,000/s", "µs"), paced, goal);
        self.row(("relay_cpu_feedback", "CPU per message with a receipt", "µs"), receipts, None);
        self.row(("relay_rate", "messages, one under way per pair", "1/s"), single_rate, None);
        self.row(("relay_rate_batched", "messages, 16 under way per pair", "1/s"), batched_rate, None);
        Ok(())
    }

    /// Processor time per message and messages per second, in many short slices: what else the machine does then
    /// disturbs both servers alike.
    async fn closed_loops(
        &self,
        turns: Turns<'_>,
        peers: &[Peer],
        window: u32,
        manner: Manner,
    ) -> anyhow::Result<(Both, Both)> {
        eprintln!("relay, {window} under way, {manner:?}");
        let (mut cost, mut rate) = (Both::default(), Both::default());
        let [(_, first), (_, second)] = turns;
        let mut first = Pairs::open(first, peers, PAIRS, manner).await?;
        let mut second = Pairs::open(second, peers, PAIRS, manner).await?;
        for slice in 0..self.scale.slices {
            for (side, target) in ordered(turns, slice) {
                let pairs = if side == Side::Product { &mut first } else { &mut second };
                let Cost { cpu_us, per_second } =
                    pairs.closed_loop(target, window, self.scale.slice_time).await?;
                cost.add(side, cpu_us);
                rate.add(side, per_second);
            }
        }
        let receipts = first.close().await?;
        ensure!(receipts > 0 || manner == Manner::Plain || self.against_itself, "no receipt came");
        second.close().await?;
        Ok((cost, rate))
    }

    async fn latency(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let (mut median, mut tail) = (Both::default(), Both::default());
        let (mut late_median, mut late_tail) = (Both::default(), Both::default());
        for round in 1..=self.scale.rounds {
            eprintln!("latency, round {round} of {}", self.scale.rounds);
            for (side, target) in ordered(turns, round) {
                let mut pairs = Pairs::open(target, peers, PAIRS, Manner::Plain).await?;
                let mut paced = pairs.open_loop(target, LATENCY_RATE, self.scale.latency_time, true).await?;
                pairs.close().await?;
                let us = |nanos: u64| nanos as f64 / 1_000.0;
                median.add(side, us(paced.latency.percentile(50.0)));
                tail.add(side, us(paced.latency.percentile(99.0)));
                late_median.add(side, us(paced.lateness.percentile(50.0)));
                late_tail.add(side, us(paced.lateness.percentile(99.0)));
            }
        }
        self.row(("latency_p50", "latency at 2,000/s, median", "µs"), median, None);
        self.row(("latency_p99", "latency at 2,000/s, 99th percentile", "µs"), tail, None);
        self.row(("lateness_p50", "of it the generator's own, median", "µs"), late_median, None);
        self.row(("lateness_p99", "of it the generator's own, 99th percentile", "µs"), late_tail, None);
        Ok(())
    }

    async fn setups(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let (mut plain, mut rate, mut full) = (Both::default(), Both::default(), Both::default());
        let Scale { slices, setups: count, .. } = self.scale;
        eprintln!("set-ups");
        for (_, target) in turns {
            setup::run(target, peers, count, Manner::Plain).await?;
        }
        for slice in 0..slices {
            for (side, target) in ordered(turns, slice) {
                let Cost { cpu_us, per_second } = setup::run(target, peers, count, Manner::Plain).await?;
                plain.add(side, cpu_us);
                rate.add(side, per_second);
            }
            for (side, target) in ordered(turns, slice) {
                full.add(side, setup::run(target, peers, count / 2, Manner::Full).await?.cpu_us);
            }
        }
        self.row(("setup_cpu", "CPU per set-up", "µs"), plain, Some(Goal::Ratio(1.5)));
        self.row(("setup_cpu_full", "CPU per set-up, all capabilities", "µs"), full, None);
        self.row(("setup_rate", "set-ups", "1/s"), rate, None);
        Ok(())
    }

    async fn joins(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let (mut join, mut rate, mut leave) = (Both::default(), Both::default(), Both::default());
        let mut unknown = Both::default();
        let (known, strangers) = peers.split_at(KNOWN.min(peers.len()));
        let known = &known[..self.scale.joins.min(known.len())];
        for round in 1..=self.scale.rounds {
            eprintln!("joins, round {round} of {}", self.scale.rounds);
            // Nobody is unknown twice.
            let share = strangers.len() / self.scale.rounds;
            let strangers = &strangers[(round - 1) * share..round * share];
            for (side, target) in ordered(turns, round) {
                unknown.add(side, join::run(target, strangers).await?.join.cpu_us);
            }
            for (side, target) in ordered(turns, round) {
                let coming = join::run(target, known).await?;
                join.add(side, coming.join.cpu_us);
                rate.add(side, coming.join.per_second);
                leave.add(side, coming.leave.cpu_us);
            }
        }
        self.row(("join_cpu", "CPU per join", "µs"), join, None);
        self.row(("join_cpu_unknown", "CPU per join, the node never heard of the peer", "µs"), unknown, None);
        self.row(("join_rate", "joins", "1/s"), rate, None);
        self.row(("leave_cpu", "CPU per leave", "µs"), leave, None);
        Ok(())
    }

    async fn tokens(&mut self, product: &Target, peers: &[Peer]) -> anyhow::Result<()> {
        let (mut kept, mut kept_rate) = (Both::default(), Both::default());
        let (mut fresh, mut fresh_rate) = (Both::default(), Both::default());
        let peers = &peers[..self.scale.exchanges.min(peers.len())];
        for round in 1..=self.scale.rounds {
            eprintln!("tokens, round {round} of {}", self.scale.rounds);
            let cost = join::exchanges(product, peers, false).await?;
            kept.add(Side::Product, cost.cpu_us);
            kept_rate.add(Side::Product, cost.per_second);
            let cost = join::exchanges(product, peers, true).await?;
            fresh.add(Side::Product, cost.cpu_us);
            fresh_rate.add(Side::Product, cost.per_second);
        }
        self.row(("token_cpu", "CPU per token exchange", "µs"), kept, None);
        self.row(("token_rate", "token exchanges", "1/s"), kept_rate, None);
        self.row(("token_cpu_fresh", "CPU per token exchange, own connection", "µs"), fresh, None);
        self.row(("token_rate_fresh", "token exchanges, own connection each", "1/s"), fresh_rate, None);
        Ok(())
    }

    async fn storm(&mut self) -> anyhow::Result<()> {
        eprintln!("{CROWD} register at once");
        let product = self.start(Meshes::One).await?;
        let waves =
            storm::run(product.target(), &Meshes::One.peers()[..CROWD], self.scale.waves, self.scale.settle)
                .await?;
        let column = |value: fn(&storm::Wave) -> f64| Both {
            product: waves.iter().map(value).collect(),
            bare: vec![],
        };
        self.row(
            ("storm_time", "1,000 of one mesh register at once", "ms"),
            column(|wave| wave.all_listed_ms),
            None,
        );
        self.row(("storm_idle", "resident before them", "MiB"), column(|wave| mib(wave.idle)), None);
        self.row(("storm_peak", "most resident so far", "MiB"), column(|wave| mib(wave.peak)), None);
        self.row(
            ("storm_after", "resident after each wave left", "MiB"),
            column(|wave| mib(wave.after)),
            None,
        );
        Ok(())
    }

    async fn memory(&mut self) -> anyhow::Result<()> {
        let mut figures: [[Both; 4]; 2] = Default::default();
        for round in 1..=self.scale.memory_rounds {
            // The bare relay knows no meshes, so one run stands for both.
            eprintln!("memory, round {round} of {}: bare relay", self.scale.memory_rounds);
            let bare = Server::bare(&self.bare)?;
            let beside = idle::run(bare.target(), &Meshes::Many.peers(), &STEPS, self.scale.settle).await?;
            drop(bare);
            for (meshes, figures) in [Meshes::Many, Meshes::One].into_iter().zip(&mut figures) {
                eprintln!("memory, round {round} of {}: product", self.scale.memory_rounds);
                let product = self.start(meshes).await?;
                let own = idle::run(product.target(), &meshes.peers(), &STEPS, self.scale.settle).await?;
                for (step, (own, beside)) in own.iter().zip(&beside).enumerate() {
                    for (column, own, beside) in
                        [(step, own.rss, beside.rss), (step + 2, own.pss, beside.pss)]
                    {
                        figures[column].product.push(own / 1024.0);
                        figures[column].bare.push(beside / 1024.0);
                    }
                }
            }
        }
        let names = [
            [
                ("memory_5k", "RSS per idle socket, 5,000, meshes of 10", "KiB"),
                ("memory_10k", "RSS per idle socket, 10,000, meshes of 10", "KiB"),
                ("memory_pss_5k", "PSS per idle socket, 5,000, meshes of 10", "KiB"),
                ("memory_pss_10k", "PSS per idle socket, 10,000, meshes of 10", "KiB"),
            ],
            [
                ("memory_one_mesh_5k", "RSS per idle socket, 5,000, one mesh", "KiB"),
                ("memory_one_mesh_10k", "RSS per idle socket, 10,000, one mesh", "KiB"),
                ("memory_one_mesh_pss_5k", "PSS per idle socket, 5,000, one mesh", "KiB"),
                ("memory_one_mesh_pss_10k", "PSS per idle socket, 10,000, one mesh", "KiB"),
            ],
        ];
        for (names, figures) in names.into_iter().zip(figures) {
            for (name, both) in names.into_iter().zip(figures) {
                let goal =
                    (name.0.starts_with("memory") && name.0.ends_with("10k") && !name.0.contains("pss"))
                        .then_some(Goal::Most(8.0));
                self.row(name, both, goal);
            }
        }
        Ok(())
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
