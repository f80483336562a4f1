//! Measurements of two services that get their load in turns, so that what else the machine does disturbs both alike.

use anyhow::ensure;
use heliograph_loadgen::peers::Peer;
use heliograph_loadgen::report::{Goal, Row};
use heliograph_loadgen::scenario::join::{self, Coming};
use heliograph_loadgen::scenario::relay::Pairs;
use heliograph_loadgen::scenario::revoke::{self, Revocations};
use heliograph_loadgen::scenario::{Cost, setup};
use heliograph_loadgen::stats::Samples;
use heliograph_loadgen::target::{Manner, Service};

use crate::scale::{LATENCY_RATE, PAIRS, PER_MESH, RATE, REVOKED_MESHES, Scale};

/// Name, description and unit of a row.
pub(crate) type Name = (&'static str, &'static str, &'static str);

/// The rows of a table.
#[derive(Debug, Default)]
pub(crate) struct Rows(pub(crate) Vec<Row>);

impl Rows {
    pub(crate) fn add(&mut self, name: Name, both: Both<f64>, goal: Option<Goal>) {
        self.0.extend(Row::new(name, both.product, both.bare, goal));
    }
}

/// Whose figure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Product,
    Bare,
}

/// Figures of the two, run by run.
#[derive(Debug)]
pub(crate) struct Both<T> {
    pub(crate) product: Vec<T>,
    pub(crate) bare: Vec<T>,
}

impl<T> Default for Both<T> {
    fn default() -> Self {
        Self { product: vec![], bare: vec![] }
    }
}

impl<T> Both<T> {
    pub(crate) fn add(&mut self, side: Side, value: T) {
        match side {
            Side::Product => self.product.push(value),
            Side::Bare => self.bare.push(value),
        }
    }

    /// One figure of each run.
    pub(crate) fn each(&self, value: impl Fn(&T) -> f64) -> Both<f64> {
        Both {
            product: self.product.iter().map(&value).collect(),
            bare: self.bare.iter().map(&value).collect(),
        }
    }

    /// Only the product's.
    pub(crate) fn own(&self, value: impl Fn(&T) -> f64) -> Both<f64> {
        Both { product: self.product.iter().map(value).collect(), bare: vec![] }
    }
}

/// The two services, in the order in which they get their turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns<'a>(pub(crate) [(Side, &'a Service); 2]);

/// An open loop's figures of one run, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    median: u64,
    tail: u64,
    late_median: u64,
    late_tail: u64,
}

impl<'a> Turns<'a> {
    pub(crate) fn of(product: &'a Service, bare: &'a Service) -> Self {
        Self([(Side::Product, product), (Side::Bare, bare)])
    }

    /// Now one is first, now the other, so that neither gains by its place.
    fn ordered(self, round: usize) -> [(Side, &'a Service); 2] {
        let [first, second] = self.0;
        if round.is_multiple_of(2) { [first, second] } else { [second, first] }
    }

    /// Cost of a message in many short slices.
    pub(crate) async fn closed_loops(
        self,
        scale: &Scale,
        peers: &[Peer],
        window: u32,
        manner: Manner,
    ) -> anyhow::Result<Both<Cost>> {
        eprintln!("relay, {window} under way, {manner:?}");
        let mut costs = Both::default();
        let [(_, first), (_, second)] = self.0;
        let has_receipts = manner != Manner::Plain && first.speaks_mesh();
        let mut first = Pairs::open(first, peers, PAIRS, manner).await?;
        let mut second = Pairs::open(second, peers, PAIRS, manner).await?;
        for slice in 0..scale.slices {
            for (side, service) in self.ordered(slice) {
                let pairs = if side == Side::Product { &mut first } else { &mut second };
                costs.add(side, pairs.closed_loop(service, window, scale.slice_time).await?);
            }
        }
        let receipts = first.close().await?;
        ensure!(receipts > 0 || !has_receipts, "no receipt came");
        second.close().await?;
        Ok(costs)
    }

    /// Cost of a message at a fixed rate.
    pub(crate) async fn paced(self, scale: &Scale, peers: &[Peer]) -> anyhow::Result<Both<Cost>> {
        let mut costs = Both::default();
        for round in 0..scale.rounds {
            eprintln!("relay at a fixed rate, round {} of {}", round + 1, scale.rounds);
            for (side, service) in self.ordered(round) {
                let mut pairs = Pairs::open(service, peers, PAIRS, Manner::Plain).await?;
                costs.add(side, pairs.open_loop(service, RATE, scale.paced_time, false).await?.cost);
                pairs.close().await?;
            }
        }
        Ok(costs)
    }

    /// Latency at a fixed rate.
    pub(crate) async fn latency(self, scale: &Scale, peers: &[Peer]) -> anyhow::Result<Both<Latency>> {
        let mut figures = Both::default();
        for round in 1..=scale.rounds {
            eprintln!("latency, round {round} of {}", scale.rounds);
            for (side, service) in self.ordered(round) {
                let mut pairs = Pairs::open(service, peers, PAIRS, Manner::Plain).await?;
                let mut paced = pairs.open_loop(service, LATENCY_RATE, scale.latency_time, true).await?;
                pairs.close().await?;
                figures.add(side, Latency::of(&mut paced.latency, &mut paced.lateness));
            }
        }
        Ok(figures)
    }

    /// Cost of a whole set-up, `count` at a time.
    pub(crate) async fn setups(
        self,
        scale: &Scale,
        peers: &[Peer],
        count: usize,
        manner: Manner,
    ) -> anyhow::Result<Both<Cost>> {
        eprintln!("set-ups, {manner:?}");
        let mut costs = Both::default();
        for (_, service) in self.0 {
            setup::run(service, peers, count, manner).await?;
        }
        for slice in 0..scale.slices {
            for (side, service) in self.ordered(slice) {
                costs.add(side, setup::run(service, peers, count, manner).await?);
            }
        }
        Ok(costs)
    }

    /// Cost of coming and going. `peers` answers who comes in which round.
    pub(crate) async fn joins(
        self,
        scale: &Scale,
        peers: impl Fn(usize) -> &'a [Peer],
    ) -> anyhow::Result<Both<Coming>> {
        let mut figures = Both::default();
        for round in 0..scale.rounds {
            eprintln!("joins, round {} of {}", round + 1, scale.rounds);
            for (side, service) in self.ordered(round) {
                figures.add(side, join::run(service, peers(round)).await?);
            }
        }
        Ok(figures)
    }
}

/// Bytes in MiB.
pub(crate) fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

impl Latency {
    fn of(latency: &mut Samples, lateness: &mut Samples) -> Self {
        Self {
            median: latency.percentile(50.0),
            tail: latency.percentile(99.0),
            late_median: lateness.percentile(50.0),
            late_tail: lateness.percentile(99.0),
        }
    }
}

impl Both<Latency> {
    /// Median and 99th percentile, and of each the generator's own part.
    pub(crate) fn rows(&self, rows: &mut Rows, names: [Name; 4], most: Option<Goal>) {
        let us = |nanos: u64| nanos as f64 / 1_000.0;
        let [median, tail, late_median, late_tail] = names;
        rows.add(median, self.each(|run| us(run.median)), None);
        rows.add(tail, self.each(|run| us(run.tail)), most);
        rows.add(late_median, self.each(|run| us(run.late_median)), None);
        rows.add(late_tail, self.each(|run| us(run.late_tail)), None);
    }
}

/// Revocations in the first meshes of `peers`, where the first two peers of each send to one another and some of the
/// others are revoked.
pub(crate) async fn revocations(
    service: &Service,
    peers: &[Peer],
    count: usize,
) -> anyhow::Result<Revocations> {
    let meshes = || peers.chunks_exact(PER_MESH).take(REVOKED_MESHES);
    let senders: Vec<_> = meshes().flat_map(|mesh| &mesh[..2]).cloned().collect();
    let victims = (2..PER_MESH).flat_map(|place| meshes().map(move |mesh| mesh[place].clone()));
    let victims: Vec<_> = victims.take(count).collect();
    ensure!(victims.len() == count, "too few peers to revoke");
    revoke::run(service, &senders, &victims).await
}

impl Both<Revocations> {
    /// Median and 99th percentile of the answer, and of the wait in it.
    pub(crate) fn rows(mut self, rows: &mut Rows, names: [Name; 4]) {
        let mut column = |samples: fn(&mut Revocations) -> &mut Samples, percent: f64| Both {
            product: self
                .product
                .iter_mut()
                .map(|run| samples(run).percentile(percent) as f64 / 1e6)
                .collect(),
            bare: vec![],
        };
        let [median, tail, waited_median, waited_tail] = names;
        rows.add(median, column(|run| &mut run.answered, 50.0), Some(Goal::Most(15.0)));
        rows.add(tail, column(|run| &mut run.answered, 99.0), Some(Goal::Most(100.0)));
        rows.add(waited_median, column(|run| &mut run.waited, 50.0), None);
        rows.add(waited_tail, column(|run| &mut run.waited, 99.0), None);
    }
}
