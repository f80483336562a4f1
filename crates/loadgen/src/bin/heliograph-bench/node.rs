//! One node beside the bare relay.

use std::time::Duration;

use heliograph_loadgen::peers::{Peer, roster};
use heliograph_loadgen::process::{Data, Server};
use heliograph_loadgen::report::{Goal, Row};
use heliograph_loadgen::scenario::{Cost, idle, join, storm};
use heliograph_loadgen::target::{Manner, Service};

use crate::Programs;
use crate::scale::{BATCH, CROWD, KNOWN, PEERS, PER_MESH, STEPS, Scale};
use crate::turns::{self, Both, Rows, Side, Turns, mib};

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

/// The measurements of one node.
pub(crate) struct NodeBench {
    programs: Programs,
    scale: Scale,
    /// What servers stored in which the peers of each way of spreading are enrolled.
    known: [Option<Data>; 2],
    rows: Rows,
}

impl NodeBench {
    /// All that is wanted.
    pub(crate) async fn run(
        programs: Programs,
        scale: Scale,
        wanted: &impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<Row>> {
        let mut bench = Self { programs, scale, known: [None, None], rows: Rows::default() };
        bench.timed(wanted).await?;
        if wanted("storm") && !bench.programs.against_itself {
            bench.storm().await?;
        }
        if wanted("revoke") && !bench.programs.against_itself {
            bench.revocations().await?;
        }
        if wanted("memory") {
            bench.memory().await?;
        }
        Ok(bench.rows.0)
    }

    /// A product in which `peers` are enrolled; the first time that takes a while.
    async fn start(&mut self, meshes: Meshes) -> anyhow::Result<Server> {
        if self.programs.against_itself {
            return Server::bare(&self.programs.bare, None).await;
        }
        let (peers, known) = (meshes.peers(), &mut self.known[meshes as usize]);
        if known.is_none() {
            let first = Server::product(&self.programs.product, &peers, None).await?;
            eprintln!("{PEERS} keys imported, ready in {:.1} s", first.started_in.as_secs_f64());
            *known = Some(first.into_data()?);
        }
        let server = Server::product(&self.programs.product, &peers, known.as_ref()).await?;
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
        let bare = Server::bare(&self.programs.bare, None).await?;
        let [own, beside] = [&product, &bare].map(|server| Service::from(server.target().clone()));
        if !self.programs.against_itself {
            join::exchanges(&own, &peers[..KNOWN], false).await?;
        }
        let turns = Turns::of(&own, &beside);
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
        if wanted("tokens") && !self.programs.against_itself {
            self.tokens(&own, &peers[..KNOWN]).await?;
        }
        Ok(())
    }

    async fn relay(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let (scale, goal) = (self.scale, Some(Goal::Ratio(1.4)));
        let single = turns.closed_loops(&scale, peers, 1, Manner::Plain).await?;
        let batched = turns.closed_loops(&scale, peers, BATCH, Manner::Plain).await?;
        // The bare relay has no receipts: the same messages are what the product's are compared with.
        let receipts = turns.closed_loops(&scale, peers, 1, Manner::Feedback).await?;
        let paced = turns.paced(&scale, peers).await?;
        let mut cost = |name, costs: &Both<_>, goal| self.rows.add(name, costs.each(Cost::all_us), goal);
        cost(("relay_cpu", "CPU per 1.5 KB message, one under way per pair", "µs"), &single, goal);
        cost(("relay_cpu_batched", "CPU per message, 16 under way per pair", "µs"), &batched, goal);
        cost(("relay_cpu_paced", "CPU per message at 5,000/s", "µs"), &paced, goal);
        cost(("relay_cpu_feedback", "CPU per message with a receipt", "µs"), &receipts, None);
        let mut rate = |name, costs: &Both<Cost>| {
            self.rows.add(name, costs.each(|cost| cost.per_second), None);
        };
        rate(("relay_rate", "messages, one under way per pair", "1/s"), &single);
        rate(("relay_rate_batched", "messages, 16 under way per pair", "1/s"), &batched);
        Ok(())
    }

    async fn latency(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let names = [
            ("latency_p50", "latency at 2,000/s, median", "µs"),
            ("latency_p99", "latency at 2,000/s, 99th percentile", "µs"),
            ("lateness_p50", "of it the generator's own, median", "µs"),
            ("lateness_p99", "of it the generator's own, 99th percentile", "µs"),
        ];
        turns.latency(&self.scale, peers).await?.rows(&mut self.rows, names, None);
        Ok(())
    }

    async fn setups(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let (scale, count) = (self.scale, self.scale.setups);
        let plain = turns.setups(&scale, peers, count, Manner::Plain).await?;
        let full = turns.setups(&scale, peers, count / 2, Manner::Full).await?;
        let goal = Some(Goal::Ratio(1.5));
        self.rows.add(("setup_cpu", "CPU per set-up", "µs"), plain.each(Cost::all_us), goal);
        self.rows.add(
            ("setup_cpu_full", "CPU per set-up, all capabilities", "µs"),
            full.each(Cost::all_us),
            None,
        );
        self.rows.add(("setup_rate", "set-ups", "1/s"), plain.each(|cost| cost.per_second), None);
        Ok(())
    }

    async fn joins(&mut self, turns: Turns<'_>, peers: &[Peer]) -> anyhow::Result<()> {
        let (known, strangers) = peers.split_at(KNOWN.min(peers.len()));
        let (known, scale) = (&known[..self.scale.joins.min(known.len())], self.scale);
        // Nobody is unknown twice.
        let share = strangers.len() / scale.rounds;
        let unknown = turns.joins(&scale, |round| &strangers[round * share..][..share]).await?;
        let known = turns.joins(&scale, |_| known).await?;
        self.rows.add(("join_cpu", "CPU per join", "µs"), known.each(|run| run.join.cpu_us), None);
        self.rows.add(
            ("join_cpu_unknown", "CPU per join, the node never heard of the peer", "µs"),
            unknown.each(|run| run.join.cpu_us),
            None,
        );
        self.rows.add(("join_rate", "joins", "1/s"), known.each(|run| run.join.per_second), None);
        self.rows.add(("leave_cpu", "CPU per leave", "µs"), known.each(|run| run.leave.cpu_us), None);
        Ok(())
    }

    async fn tokens(&mut self, product: &Service, peers: &[Peer]) -> anyhow::Result<()> {
        let peers = &peers[..self.scale.exchanges.min(peers.len())];
        let (mut kept, mut fresh) = (Both::default(), Both::default());
        for round in 1..=self.scale.rounds {
            eprintln!("tokens, round {round} of {}", self.scale.rounds);
            kept.product.push(join::exchanges(product, peers, false).await?);
            fresh.product.push(join::exchanges(product, peers, true).await?);
        }
        let names = [
            (("token_cpu", "CPU per token exchange", "µs"), ("token_rate", "token exchanges", "1/s")),
            (
                ("token_cpu_fresh", "CPU per token exchange, own connection", "µs"),
                ("token_rate_fresh", "token exchanges, own connection each", "1/s"),
            ),
        ];
        for ((cpu, rate), costs) in names.into_iter().zip([kept, fresh]) {
            self.rows.add(cpu, costs.each(Cost::all_us), None);
            self.rows.add(rate, costs.each(|cost| cost.per_second), None);
        }
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
        self.rows.add(
            ("storm_time", "1,000 of one mesh register at once", "ms"),
            column(|wave| wave.all_listed_ms),
            None,
        );
        self.rows.add(("storm_idle", "resident before them", "MiB"), column(|wave| mib(wave.idle)), None);
        self.rows.add(("storm_peak", "most resident so far", "MiB"), column(|wave| mib(wave.peak)), None);
        self.rows.add(
            ("storm_after", "resident after each wave left", "MiB"),
            column(|wave| mib(wave.after)),
            None,
        );
        Ok(())
    }

    async fn revocations(&mut self) -> anyhow::Result<()> {
        let mut figures = Both::default();
        for round in 1..=self.scale.returns {
            eprintln!("{} are revoked, round {round} of {}", self.scale.revocations, self.scale.returns);
            let server = self.start(Meshes::Many).await?;
            let product = Service::from(server.target().clone());
            let peers = Meshes::Many.peers();
            let run = turns::revocations(&product, &peers, self.scale.revocations).await?;
            figures.add(Side::Product, run);
        }
        let names = [
            ("revoke_p50", "a revoke until its answer, median", "ms"),
            ("revoke_p99", "a revoke until its answer, 99th percentile", "ms"),
            ("revoke_wait_p50", "of it waited for the node, median", "ms"),
            ("revoke_wait_p99", "of it waited for the node, 99th percentile", "ms"),
        ];
        figures.rows(&mut self.rows, names);
        Ok(())
    }

    async fn memory(&mut self) -> anyhow::Result<()> {
        let mut figures: [[Both<f64>; 4]; 2] = Default::default();
        for round in 1..=self.scale.memory_rounds {
            // The bare relay knows no meshes, so one run stands for both.
            eprintln!("memory, round {round} of {}: bare relay", self.scale.memory_rounds);
            let bare = Server::bare(&self.programs.bare, None).await?;
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
                self.rows.add(name, both, goal);
            }
        }
        Ok(())
    }
}
