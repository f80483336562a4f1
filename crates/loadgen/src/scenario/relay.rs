//! Messages through the service, between pairs of which one sends and one receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::task::JoinSet;

use super::{Cost, Meter, close_all, side_by_side};
use crate::client::{Client, PATIENCE, Writer};
use crate::peers::Peer;
use crate::stats::Samples;
use crate::target::{Kind, Manner, Service};

/// Load before a closed loop is measured, so that caches are warm and all pairs run.
const WARM_UP: Duration = Duration::from_millis(100);
/// Messages of a pair under way where a number of them is sent as fast as it goes.
const AHEAD: u32 = 8;
/// Between two looks at whether all receipts have come.
const LOOK: Duration = Duration::from_millis(5);
/// Before an intended time the sender stops sleeping and spins: sleeping is exact to about this.
const SPIN: Duration = Duration::from_micros(80);

/// Connected pairs.
#[derive(Debug)]
pub struct Pairs {
    lanes: Vec<Lane>,
    receivers: Vec<Client>,
    /// Senders read, too: receipts, and pings that want an answer.
    senders: JoinSet<()>,
    receipts: Arc<AtomicU64>,
    manner: Manner,
}

#[derive(Debug, Clone)]
struct Lane {
    writer: Writer,
    frame: Arc<[u8]>,
}

/// An open loop's results.
#[derive(Debug)]
pub struct Paced {
    /// Cost per message.
    pub cost: Cost,
    /// From the moment a message should have been sent to its arrival.
    pub latency: Samples,
    /// How late the generator itself sent; part of `latency`.
    pub lateness: Samples,
}

impl Pairs {
    /// Connects `count` pairs of `peers`, neighbours each, which have to be in the same mesh. Where there are several
    /// nodes, the two are at different ones, and each node sends to the next. With [`Manner::Feedback`] every message has
    /// an `id`, and its sender gets a receipt.
    pub async fn open(
        service: &Service,
        peers: &[Peer],
        count: usize,
        manner: Manner,
    ) -> anyhow::Result<Self> {
        let pairs: Vec<_> = peers.chunks_exact(2).take(count).collect();
        ensure!(pairs.len() == count, "too few peers for {count} pairs");
        let joined = side_by_side(pairs.into_iter().enumerate(), 16, async |(index, pair)| {
            let (here, there) = (service.node(index), service.node(index + 1));
            let sender = here.join(&pair[0], index, manner).await?;
            let receiver = there.join(&pair[1], index, Manner::Plain).await?;
            let id = (manner != Manner::Plain).then_some("m1");
            let frame = here.message(Kind::Offer, &pair[0], &pair[1], id);
            Ok((sender, receiver, frame))
        })
        .await?;
        let receipts = Arc::<AtomicU64>::default();
        let mut all = Self { lanes: vec![], receivers: vec![], senders: JoinSet::new(), receipts, manner };
        for (mut sender, receiver, frame) in joined {
            all.lanes.push(Lane { writer: sender.writer(), frame: frame.into() });
            all.receivers.push(receiver);
            let receipts = Arc::clone(&all.receipts);
            all.senders.spawn(async move {
                while let Ok(Some(_)) = sender.next().await {
                    receipts.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Ok(all)
    }

    /// Keeps `window` messages of each pair under way for `duration`: the next is sent when one arrives. With one,
    /// no server can put several into a write, so that the cost of a message is compared and nothing else.
    pub async fn closed_loop(
        &mut self,
        service: &Service,
        window: u32,
        duration: Duration,
    ) -> anyhow::Result<Cost> {
        let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut running = JoinSet::new();
        let width = self.lanes.len();
        for (number, mut receiver) in self.receivers.drain(..).enumerate() {
            let Some(lane) = self.lanes.get(number).cloned() else { break };
            let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
            running.spawn(async move {
                for _ in 0..window {
                    lane.writer.write(&lane.frame).await?;
                }
                let mut under_way = window;
                while under_way > 0 {
                    receiver.next().await?.context("the server closed a connection")?;
                    count.fetch_add(1, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        under_way -= 1;
                    } else {
                        lane.writer.write(&lane.frame).await?;
                    }
                }
                anyhow::Ok((number, receiver))
            });
        }
        tokio::time::sleep(WARM_UP).await;
        let (meter, before) = (Meter::start(service)?, count.load(Ordering::Relaxed));
        tokio::time::sleep(duration).await;
        let messages = count.load(Ordering::Relaxed) - before;
        let cost = meter.stop(messages)?;
        stop.store(true, Ordering::Relaxed);
        let ended = tokio::time::timeout(PATIENCE, running.join_all()).await.context("messages were lost")?;
        self.receivers = in_order(ended.into_iter().collect::<anyhow::Result<_>>()?);
        ensure!(messages > 0 && self.receivers.len() == width, "no message arrived");
        Ok(cost)
    }

    /// Sends `rate` messages per second for `duration`, whatever the server does, the pairs in turns. An `exact`
    /// sender keeps the times to a few microseconds, at the price of spinning.
    pub async fn open_loop(
        &mut self,
        service: &Service,
        rate: u32,
        duration: Duration,
        exact: bool,
    ) -> anyhow::Result<Paced> {
        let interval = Duration::from_secs(1) / rate.max(1);
        let lanes = self.lanes.clone();
        let per_lane = usize::try_from(duration.as_nanos() / interval.as_nanos().max(1))? / lanes.len();
        let meter = Meter::start(service)?;
        let begin = Instant::now() + Duration::from_millis(20);
        let due = move |index: usize| begin + interval * u32::try_from(index).unwrap_or(u32::MAX);
        let mut running = JoinSet::new();
        let width = lanes.len();
        for (lane, mut receiver) in self.receivers.drain(..).enumerate() {
            running.spawn(async move {
                let mut latency = Samples::default();
                // A pair's messages arrive in order, so counting tells which one it is.
                for turn in 0..per_lane {
                    receiver.next().await?.context("the server closed a connection")?;
                    latency.add(nanos(due(turn * width + lane).elapsed()));
                }
                anyhow::Ok((lane, receiver, latency))
            });
        }
        let pacer = tokio::task::spawn_blocking(move || pace(&lanes, per_lane, due, exact));
        let lateness = pacer.await??;
        let ended = tokio::time::timeout(PATIENCE, running.join_all()).await.context("messages were lost")?;
        let cost = meter.stop((per_lane * width) as u64)?;
        let (mut latency, mut receivers) = (Samples::default(), vec![]);
        for result in ended {
            let (number, receiver, samples) = result?;
            latency.merge(&samples);
            receivers.push((number, receiver));
        }
        self.receivers = in_order(receivers);
        Ok(Paced { cost, latency, lateness })
    }

    /// Sends `each` messages from each sender, some at any time, and waits until all have arrived, and all receipts
    /// where messages have an `id`. Returns how many messages that were.
    pub async fn exactly(&mut self, each: u32) -> anyhow::Result<u64> {
        let before = self.receipts.load(Ordering::Relaxed);
        let mut running = JoinSet::new();
        for (number, mut receiver) in self.receivers.drain(..).enumerate() {
            let Some(lane) = self.lanes.get(number).cloned() else { break };
            running.spawn(async move {
                for turn in 0..each {
                    lane.writer.write(&lane.frame).await?;
                    if turn >= AHEAD {
                        receiver.receive().await?;
                    }
                }
                for _ in 0..each.min(AHEAD) {
                    receiver.receive().await?;
                }
                anyhow::Ok((number, receiver))
            });
        }
        let ended = running.join_all().await;
        self.receivers = in_order(ended.into_iter().collect::<anyhow::Result<_>>()?);
        let sent = u64::from(each) * self.lanes.len() as u64;
        if self.manner != Manner::Plain {
            let all_answered = async {
                while self.receipts.load(Ordering::Relaxed) < before + sent {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::time::timeout(PATIENCE, all_answered).await.context("receipts were lost")?;
        }
        Ok(sent)
    }

    /// Closes all; returns how many receipts came.
    pub async fn close(mut self) -> anyhow::Result<u64> {
        close_all(self.receivers).await?;
        for lane in &self.lanes {
            lane.writer.close().await?;
        }
        drop(self.lanes);
        while tokio::time::timeout(PATIENCE, self.senders.join_next()).await?.is_some() {}
        Ok(self.receipts.load(Ordering::Relaxed))
    }
}

/// Tasks end in any order, and each receiver belongs to its lane.
fn in_order(mut receivers: Vec<(usize, Client)>) -> Vec<Client> {
    receivers.sort_unstable_by_key(|(number, _)| *number);
    receivers.into_iter().map(|(_, receiver)| receiver).collect()
}

/// The sender of an open loop, on a thread of its own so that nothing delays it but the scheduler.
fn pace(
    lanes: &[Lane],
    per_lane: usize,
    due: impl Fn(usize) -> Instant,
    exact: bool,
) -> anyhow::Result<Samples> {
    let mut lateness = Samples::default();
    for index in 0..per_lane * lanes.len() {
        let intended = due(index);
        // What is left after sleeping is spun away.
        let margin = if exact { SPIN } else { Duration::ZERO };
        while let Some(ahead) =
            intended.checked_duration_since(Instant::now()).filter(|ahead| !ahead.is_zero())
        {
            match ahead.checked_sub(margin).filter(|rest| !rest.is_zero()) {
                Some(rest) => std::thread::sleep(rest),
                None => std::hint::spin_loop(),
            }
        }
        let Some(lane) = lanes.get(index % lanes.len()) else { bail!("no pairs") };
        lateness.add(nanos(intended.elapsed()));
        lane.writer.write_blocking(&lane.frame)?;
    }
    Ok(lateness)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
