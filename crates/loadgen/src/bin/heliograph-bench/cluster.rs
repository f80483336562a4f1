//! Several nodes over Redis and PostgreSQL, beside as many bare relays over Redis.

use std::time::Duration;

use heliograph_loadgen::cluster::{Cluster, Databases};
use heliograph_loadgen::peers::{Peer, roster};
use heliograph_loadgen::process::Limits;
use heliograph_loadgen::report::{Goal, Row};
use heliograph_loadgen::scenario::count::{self, Each};
use heliograph_loadgen::scenario::reconnect::{self, Loss, Return};
use heliograph_loadgen::scenario::{Cost, agents, join, room};
use heliograph_loadgen::stats::Samples;
use heliograph_loadgen::target::Manner;

use crate::Programs;
use crate::scale::{AGENT_PAIRS, BATCH, CLUSTER_PEERS, COUNTED, KNOWN, PER_MESH, ROOM, Scale};
use crate::turns::{self, Both, Name, Rows, Side, Turns, mib};

/// All processes of the product, through all of the yardstick's.
const COST: Option<Goal> = Some(Goal::Ratio(1.5));
/// A background that goes on at all times adds its share to what is counted.
const NEARLY: f64 = 0.01;

/// The measurements between nodes.
pub(crate) struct ClusterBench {
    programs: Programs,
    scale: Scale,
    peers: Vec<Peer>,
    databases: Databases,
    rows: Rows,
}

impl ClusterBench {
    /// All that is wanted.
    pub(crate) async fn run(
        programs: Programs,
        scale: Scale,
        wanted: &impl Fn(&str) -> bool,
    ) -> anyhow::Result<Vec<Row>> {
        let parts =
            ["relay", "latency", "sizes", "setup", "join", "count", "return", "revoke", "room", "agents"];
        if !parts.iter().any(|part| wanted(&format!("cross-{part}"))) {
            return Ok(vec![]);
        }
        let databases = Databases::start().await?;
        let mut bench = Self {
            programs,
            scale,
            peers: roster(CLUSTER_PEERS, PER_MESH),
            databases,
            rows: Rows::default(),
        };
        if ["relay", "latency", "setup", "join", "count"].iter().any(|part| wanted(&format!("cross-{part}")))
        {
            bench.two_nodes(wanted).await?;
        }
        if wanted("cross-sizes") {
            bench.sizes().await?;
        }
        if wanted("cross-return") {
            bench.returns().await?;
        }
        if wanted("cross-revoke") && !bench.programs.against_itself {
            bench.revocations().await?;
        }
        if wanted("cross-room") && !bench.programs.against_itself {
            bench.rooms().await?;
        }
        if wanted("cross-agents") && !bench.programs.against_itself {
            bench.agents().await?;
        }
        Ok(bench.rows.0)
    }

    async fn product(&mut self, nodes: usize, limits: Limits) -> anyhow::Result<Cluster> {
        if self.programs.against_itself {
            return self.bare(nodes).await;
        }
        let Self { programs, databases, peers, .. } = self;
        let cluster = Cluster::product(&programs.product, nodes, limits, databases, peers).await?;
        // What a start still does in the background would count as load.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(cluster)
    }

    async fn bare(&self, nodes: usize) -> anyhow::Result<Cluster> {
        Cluster::bare(&self.programs.bare, nodes).await
    }

    async fn two_nodes(&mut self, wanted: &impl Fn(&str) -> bool) -> anyhow::Result<()> {
        let (product, bare) = (self.product(2, Limits::Off).await?, self.bare(2).await?);
        let turns = Turns::of(product.service(), bare.service());
        if product.service().speaks_mesh() {
            // Each peer at the node at which it will join.
            join::exchanges(product.service(), &self.peers[..KNOWN], true).await?;
        }
        if wanted("cross-relay") {
            self.relay(turns).await?;
        }
        if wanted("cross-latency") {
            self.latency(turns).await?;
        }
        if wanted("cross-setup") {
            self.setups(turns).await?;
        }
        if wanted("cross-join") {
            self.joins(turns).await?;
        }
        if wanted("cross-count") && !self.programs.against_itself {
            self.counts(&product).await?;
        }
        Ok(())
    }

    async fn relay(&mut self, turns: Turns<'_>) -> anyhow::Result<()> {
        let (scale, peers) = (&self.scale, &self.peers);
        let single = turns.closed_loops(scale, peers, 1, Manner::Plain).await?;
        let batched = turns.closed_loops(scale, peers, BATCH, Manner::Plain).await?;
        let receipts = turns.closed_loops(scale, peers, 1, Manner::Feedback).await?;
        let paced = turns.paced(scale, peers).await?;
        let rows = &mut self.rows;
        parts(rows, &single, CPU);
        parts(rows, &batched, CPU_BATCHED);
        parts(rows, &paced, CPU_PACED);
        rows.add(
            ("cross_cpu_feedback", "CPU per message with a receipt", "µs"),
            receipts.each(Cost::all_us),
            None,
        );
        let rate = |cost: &Cost| cost.per_second;
        rows.add(("cross_rate", "messages, one under way per pair", "1/s"), single.each(rate), None);
        rows.add(("cross_rate_batched", "messages, 16 under way per pair", "1/s"), batched.each(rate), None);
        Ok(())
    }

    async fn latency(&mut self, turns: Turns<'_>) -> anyhow::Result<()> {
        let names = [
            ("cross_latency_p50", "latency at 2,000/s, median", "µs"),
            ("cross_latency_p99", "latency at 2,000/s, 99th percentile", "µs"),
            ("cross_lateness_p50", "of it the generator's own, median", "µs"),
            ("cross_lateness_p99", "of it the generator's own, 99th percentile", "µs"),
        ];
        let latency = turns.latency(&self.scale, &self.peers).await?;
        latency.rows(&mut self.rows, names, Some(Goal::Most(5_000.0)));
        Ok(())
    }

    /// With one node all pairs are at the same; with three, as with two, each message crosses.
    async fn sizes(&mut self) -> anyhow::Result<()> {
        let names = [
            (1, ("cross_cpu_1", "CPU per message, 1 node, where none crosses", "µs")),
            (3, ("cross_cpu_3", "CPU per message, 3 nodes, where all cross", "µs")),
        ];
        for (nodes, name) in names {
            eprintln!("nodes: {nodes}");
            let (product, bare) = (self.product(nodes, Limits::Off).await?, self.bare(nodes).await?);
            let turns = Turns::of(product.service(), bare.service());
            let costs = turns.closed_loops(&self.scale, &self.peers, 1, Manner::Plain).await?;
            self.rows.add(name, costs.each(Cost::all_us), None);
        }
        Ok(())
    }

    async fn setups(&mut self, turns: Turns<'_>) -> anyhow::Result<()> {
        let (peers, count) = (&self.peers[..KNOWN], self.scale.setups / 2);
        let plain = turns.setups(&self.scale, peers, count, Manner::Plain).await?;
        let full = turns.setups(&self.scale, peers, count / 2, Manner::Full).await?;
        let rows = &mut self.rows;
        rows.add(("cross_setup_cpu", "CPU per set-up", "µs"), plain.each(Cost::all_us), None);
        rows.add(("cross_setup_cpu_nodes", "of it the nodes", "µs"), plain.each(|cost| cost.cpu_us), None);
        rows.add(
            ("cross_setup_cpu_full", "CPU per set-up, all capabilities", "µs"),
            full.each(Cost::all_us),
            None,
        );
        Ok(())
    }

    async fn joins(&mut self, turns: Turns<'_>) -> anyhow::Result<()> {
        let Self { scale, peers, rows, .. } = self;
        let known = &peers[..scale.joins.min(KNOWN)];
        let costs = turns.joins(scale, |_| known).await?;
        let name = ("cross_join_cpu", "nodes' CPU per join, token in hand", "µs");
        rows.add(name, costs.each(|run| run.join.cpu_us), Some(Goal::Most(200.0)));
        let [(_, product), _] = turns.0;
        if product.speaks_mesh() {
            let (mut arrivals, mut tokens) = (Both::default(), Both::default());
            for _ in 0..scale.rounds {
                arrivals.add(Side::Product, join::arrivals(product, known).await?);
                tokens.add(Side::Product, join::exchanges(product, known, true).await?);
            }
            let nodes = |cost: &Cost| cost.cpu_us;
            let arrival = "nodes' CPU per join with the token exchange before it";
            rows.add(("cross_arrival_cpu", arrival, "µs"), arrivals.each(nodes), Some(Goal::Most(200.0)));
            let token = "nodes' CPU per token exchange, own connection";
            rows.add(("cross_token_cpu", token, "µs"), tokens.each(nodes), None);
            let token = "PostgreSQL's CPU per token exchange";
            rows.add(("cross_token_cpu_postgres", token, "µs"), tokens.each(|cost| cost.postgres_us), None);
        }
        let [redis, postgres, leave] = [
            costs.each(|run| run.join.redis_us),
            costs.own(|run| run.join.postgres_us),
            costs.each(|run| run.leave.cpu_us),
        ];
        rows.add(("cross_join_cpu_redis", "Redis's CPU per join", "µs"), redis, None);
        rows.add(("cross_join_cpu_postgres", "PostgreSQL's CPU per join", "µs"), postgres, None);
        rows.add(("cross_join_rate", "joins", "1/s"), costs.each(|run| run.join.per_second), None);
        rows.add(("cross_leave_cpu", "nodes' CPU per leave", "µs"), leave, None);
        Ok(())
    }

    async fn counts(&mut self, product: &Cluster) -> anyhow::Result<()> {
        eprintln!("what a message asks for");
        let (databases, peers, scale) = (&self.databases, &self.peers, &self.scale);
        let count = async |apart, manner| count::run(product, databases, peers, COUNTED, apart, manner).await;
        let crossing = count(true, Manner::Plain).await?;
        let answered = count(true, Manner::Feedback).await?;
        let local = count(false, Manner::Feedback).await?;
        let visit = count::visits(product, databases, &peers[..scale.joins.min(KNOWN)]).await?;
        let rows = &mut self.rows;
        let mut add = |(id, metric), value, most: Option<f64>| {
            let both = Both { product: vec![value], bare: vec![] };
            rows.add((id, metric, "1"), both, most.map(|most| Goal::Most(most + NEARLY)));
        };
        add(("cross_publishes", "Redis publishes per message"), crossing.publishes, Some(1.0));
        add(("cross_commands", "Redis commands per message"), crossing.commands, Some(1.0));
        add(("cross_publishes_id", "Redis publishes per message with an id"), answered.publishes, Some(2.0));
        add(("cross_commands_id", "Redis commands per message with an id"), answered.commands, Some(2.0));
        let within = "Redis commands per message within a node, with an id";
        add(("local_commands", within), local.commands, Some(0.0));
        let statements = [crossing, answered, local].map(|each: Each| each.statements);
        let most = statements.into_iter().fold(0.0, f64::max);
        add(("cross_statements", "SQL statements per message, the most of these"), most, Some(0.0));
        add(("visit_commands", "Redis commands per token, join and leave"), visit.commands, None);
        add(("visit_statements", "SQL statements per token, join and leave"), visit.statements, None);
        Ok(())
    }

    async fn revocations(&mut self) -> anyhow::Result<()> {
        let mut figures = Both::default();
        for round in 1..=self.scale.returns {
            eprintln!(
                "{} are revoked at 3 nodes, round {round} of {}",
                self.scale.revocations, self.scale.returns
            );
            // Who was revoked stays so: each round has a database of its own.
            let product = self.product(3, Limits::Off).await?;
            let run = turns::revocations(product.service(), &self.peers, self.scale.revocations).await?;
            figures.add(Side::Product, run);
        }
        let names = [
            ("cross_revoke_p50", "a revoke at 3 nodes until its answer, median", "ms"),
            ("cross_revoke_p99", "a revoke at 3 nodes until its answer, 99th percentile", "ms"),
            ("cross_revoke_wait_p50", "of it waited for the nodes, median", "ms"),
            ("cross_revoke_wait_p99", "of it waited for the nodes, 99th percentile", "ms"),
        ];
        figures.rows(&mut self.rows, names);
        Ok(())
    }

    async fn rooms(&mut self) -> anyhow::Result<()> {
        let product = self.product(3, Limits::Off).await?;
        let mut copies = Both::default();
        for round in 1..=self.scale.rounds {
            eprintln!("a room of {ROOM}, round {round} of {}", self.scale.rounds);
            let run = room::run(product.service(), ROOM).await?;
            copies.add(Side::Product, run.broadcast);
            // The yardstick here: what the product itself takes for a message to one.
            copies.add(Side::Bare, run.directed);
        }
        let name = (
            "room_cpu",
            "CPU per copy in a room of 500 at 3 nodes; beside it: per message to one, within a node",
            "µs",
        );
        self.rows.add(name, copies.each(Cost::all_us), COST);
        Ok(())
    }

    async fn agents(&mut self) -> anyhow::Result<()> {
        let product = self.product(2, Limits::Off).await?;
        let (mut opened, mut trips) = (Both::default(), Both::default());
        for (round, pairs) in self.peers.chunks_exact(2 * AGENT_PAIRS).take(self.scale.rounds).enumerate() {
            eprintln!("{AGENT_PAIRS} pairs of agents, round {} of {}", round + 1, self.scale.rounds);
            let program = &self.programs.product;
            let run = agents::run(program, product.service(), pairs, self.scale.agent_round_trips).await?;
            opened.add(Side::Product, run.opened);
            trips.add(Side::Product, run.round_trips);
        }
        let percentile = |samples: &Both<Samples>, percent, unit: f64| {
            samples.own(|samples| samples.clone().percentile(percent) as f64 / unit)
        };
        let rows = &mut self.rows;
        let name =
            ("agents_open_p50", "two agents registered at 2 nodes until their channel is open, median", "ms");
        rows.add(name, percentile(&opened, 50.0, 1e6), Some(Goal::Most(300.0)));
        let name = ("agents_open_max", "the slowest of the pairs", "ms");
        rows.add(name, percentile(&opened, 100.0, 1e6), None);
        let name = ("agents_round_trip_p50", "round trip from program to program over it, median", "µs");
        rows.add(name, percentile(&trips, 50.0, 1e3), None);
        Ok(())
    }

    async fn returns(&mut self) -> anyhow::Result<()> {
        let peers = self.peers.clone();
        let (mut reset, mut killed) = (Both::default(), Both::default());
        for round in 1..=self.scale.returns {
            eprintln!("{CLUSTER_PEERS} come back, round {round} of {}", self.scale.returns);
            // Limits as they come: what they do in a storm is part of the answer.
            for (side, mut cluster) in
                [(Side::Product, self.product(2, Limits::Default).await?), (Side::Bare, self.bare(2).await?)]
            {
                reset.add(side, reconnect::run(&mut cluster, &peers, Loss::Reset).await?);
                if self.scale.kills {
                    killed.add(side, reconnect::run(&mut cluster, &peers, Loss::Killed).await?);
                }
            }
        }
        returned(&mut self.rows, &reset, &RESET);
        returned(&mut self.rows, &killed, &KILLED);
        Ok(())
    }
}

/// The rows of a scenario with several of them.
type Names<const N: usize> = [Name; N];

const CPU: Names<4> = [
    ("cross_cpu", "CPU per 1.5 KB message, one under way per pair", "µs"),
    ("cross_cpu_nodes", "of it the nodes", "µs"),
    ("cross_cpu_redis", "of it Redis", "µs"),
    ("cross_cpu_postgres", "of it PostgreSQL", "µs"),
];
const CPU_BATCHED: Names<4> = [
    ("cross_cpu_batched", "CPU per message, 16 under way per pair", "µs"),
    ("cross_cpu_batched_nodes", "of it the nodes", "µs"),
    ("cross_cpu_batched_redis", "of it Redis", "µs"),
    ("cross_cpu_batched_postgres", "of it PostgreSQL", "µs"),
];
const CPU_PACED: Names<4> = [
    ("cross_cpu_paced", "CPU per message at 5,000/s", "µs"),
    ("cross_cpu_paced_nodes", "of it the nodes", "µs"),
    ("cross_cpu_paced_redis", "of it Redis", "µs"),
    ("cross_cpu_paced_postgres", "of it PostgreSQL", "µs"),
];
const RESET: Names<13> = [
    ("reset_back", "5,000 sockets reset at once: until all have a session", "ms"),
    ("reset_back_p50", "until one has, median", "ms"),
    ("reset_back_p99", "until one has, 99th percentile", "ms"),
    ("reset_join_cpu", "nodes' CPU per join before, limits on, all capabilities", "µs"),
    ("reset_cpu", "nodes' CPU per client that came back", "µs"),
    ("reset_resumed", "sessions that went on", "1"),
    ("reset_refused", "upgrades refused with Retry-After", "1"),
    ("reset_broken", "connections that broke", "1"),
    ("reset_idle", "resident before, both nodes", "MiB"),
    ("reset_peak", "most resident so far, both nodes", "MiB"),
    ("reset_publish_waiting", "most messages that waited for Redis", "1"),
    ("reset_opening", "most sockets on their way to a session", "1"),
    ("reset_parked", "most sessions that waited for their clients", "1"),
];
const KILLED: Names<13> = [
    ("killed_back", "a node with 5,000 killed: until all have a session at the other", "ms"),
    ("killed_back_p50", "until one has, median", "ms"),
    ("killed_back_p99", "until one has, 99th percentile", "ms"),
    ("killed_join_cpu", "nodes' CPU per join before, limits on, all capabilities", "µs"),
    ("killed_cpu", "node's CPU per client that came back", "µs"),
    ("killed_resumed", "sessions that went on", "1"),
    ("killed_refused", "upgrades refused with Retry-After", "1"),
    ("killed_broken", "connections that broke", "1"),
    ("killed_idle", "resident before, the other node", "MiB"),
    ("killed_peak", "most resident so far, the other node", "MiB"),
    ("killed_publish_waiting", "most messages that waited for Redis", "1"),
    ("killed_opening", "most sockets on their way to a session", "1"),
    ("killed_parked", "most sessions that waited for their clients", "1"),
];

/// The cost of all processes, and its parts.
fn parts(rows: &mut Rows, costs: &Both<Cost>, [all, nodes, redis, postgres]: Names<4>) {
    rows.add(all, costs.each(Cost::all_us), COST);
    rows.add(nodes, costs.each(|cost| cost.cpu_us), None);
    rows.add(redis, costs.each(|cost| cost.redis_us), None);
    rows.add(postgres, costs.own(|cost| cost.postgres_us), None);
}

/// How a storm went.
fn returned(rows: &mut Rows, runs: &Both<Return>, names: &Names<13>) {
    let &[back, p50, p99, joining, returning, resumed, refused, broken, idle, peak, waiting, opening, parked] =
        names;
    rows.add(back, runs.each(|run| run.all_back_ms), None);
    rows.add(p50, runs.each(|run| run.median_ms), None);
    rows.add(p99, runs.each(|run| run.tail_ms), None);
    rows.add(joining, runs.each(|run| run.joining.cpu_us), None);
    rows.add(returning, runs.each(|run| run.returning.cpu_us), None);
    rows.add(resumed, runs.own(|run| run.resumed as f64), None);
    rows.add(refused, runs.own(|run| run.refused.values().sum::<u64>() as f64), None);
    rows.add(broken, runs.each(|run| run.broken as f64), None);
    rows.add(idle, runs.each(|run| mib(run.idle)), None);
    rows.add(peak, runs.each(|run| mib(run.peak)), None);
    for (gauge, name) in [waiting, opening, parked].into_iter().enumerate() {
        rows.add(name, runs.own(|run| run.gauges[gauge]), None);
    }
}
