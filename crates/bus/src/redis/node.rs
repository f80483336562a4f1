//! One node of a cluster: the seams over Redis, put together.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use heliograph_core::id::GatewayId;
use heliograph_core::message::{Receipt, Undeliverable};
use prometheus::{IntCounter, Registry};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::budget::RedisBudget;
use super::frame::{Decoded, TooLarge, decode};
use super::inbound::{Arrival, Inbound};
use super::keys::{Partition, Prefix};
use super::line::Lines;
use super::metrics::Metrics;
use super::options::Options;
use super::outbound::Note;
use super::presence::RedisPresence;
use super::subscriptions::Subscriptions;
use super::topology::Topology;
use super::{publish, subscribe};
use crate::{Bus, BusError, Destination, Heir, Inbox, Link, Lost, Parcel, Sent, Witness};

/// How long Redis may take to confirm a subscription.
const SUBSCRIBE: Duration = Duration::from_secs(5);
/// How long Redis may take to confirm that it ended. Nothing hangs on it but the sender's answer.
const UNSUBSCRIBE: Duration = Duration::from_secs(1);
/// How long a node that ends waits for what it sent last.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long it takes at most to take its sessions away.
const LEAVE: Duration = Duration::from_secs(3);

/// What the tasks of a node share.
pub(crate) struct Shared {
    pub(crate) id: GatewayId,
    pub(crate) prefix: Prefix,
    pub(crate) topology: Arc<Topology>,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) metrics: Metrics,
    lines: ArcSwap<Lines>,
    inbound: Inbound,
    inbox: OnceLock<Weak<dyn Inbox>>,
    stop: CancellationToken,
}

impl Shared {
    fn inbox(&self) -> Option<Arc<dyn Inbox>> {
        self.inbox.get().and_then(Weak::upgrade)
    }

    /// Hands a parcel over.
    pub(crate) fn arrived(&self, destination: &Destination, parcel: Parcel) {
        if let Some(inbox) = self.inbox() {
            inbox.arrived(destination, parcel);
        }
    }

    /// Tells that a signal was lost.
    pub(crate) fn returned(&self, destination: &Destination, witness: Witness, why: Lost) {
        if let Some(inbox) = self.inbox() {
            inbox.returned(destination, witness, why);
        }
    }

    /// Nobody received what asks a node for a session.
    pub(crate) fn nobody_hands_over(&self, to: &Heir) {
        if let Some(inbox) = self.inbox() {
            inbox.nobody_hands_over(to);
        }
    }

    /// A parcel was queued and is lost, as far as anyone can tell.
    pub(crate) fn failed(&self, note: Note) {
        match note {
            Note::Probe(_) => return,
            // It may have arrived: whoever waits for the answer goes on waiting.
            Note::Other | Note::TakeOver(_) => {}
            Note::Signal(destination, witness) => self.returned(&destination, witness, Lost::Down),
        }
        self.metrics.waiting.dec();
        self.metrics.failed.inc();
    }

    /// Takes what a reader read.
    pub(crate) fn receive(&self, arrival: Arrival) {
        let Err(refused) = self.inbound.push(arrival) else { return };
        self.metrics.dropped_full.inc();
        let destination = self.subscriptions.destination(refused.partition, refused.channel());
        let Some(Destination::Peer(space, target)) = destination else { return };
        if let Decoded::Parcel(Parcel::Signal(signal)) = decode(&refused.frame(), &self.id) {
            let failure = Some(Undeliverable::QueueFull);
            let receipt = Receipt { id: signal.id, target: target.as_str().into(), failure };
            self.send(
                Destination::Peer(space, signal.from),
                Parcel::Receipt { epoch: signal.from_epoch, receipt },
            );
        }
    }

    fn send(&self, destination: Destination, parcel: Parcel) -> Sent {
        let lines = self.lines.load();
        let sent = match lines.of(Partition::of_destination(&destination)) {
            Some(line) => line.outbound.send(&self.prefix, &self.id, destination, parcel),
            None => Ok(Sent::Down),
        };
        match sent {
            Ok(Sent::Queued) => self.metrics.waiting.inc(),
            Ok(Sent::Full) => self.metrics.refused_full.inc(),
            Ok(Sent::Down) => self.metrics.refused_down.inc(),
            Ok(Sent::Offline) => {}
            Err(TooLarge) => {
                self.metrics.refused_large.inc();
                return Sent::Full;
            }
        }
        sent.unwrap_or(Sent::Full)
    }

    /// There may be something to say.
    fn wake(&self, partition: Partition) {
        if let Some(line) = self.lines.load().of(partition) {
            line.wake.notify_one();
        }
    }

    /// There may be something to say anywhere.
    pub(crate) fn wake_all(&self) {
        self.lines.load().all.iter().for_each(|line| line.wake.notify_one());
    }

    /// Makes the lines fit the layout.
    fn lay_out(self: &Arc<Self>) {
        let before = self.lines.load_full();
        let (lines, new) = before.next(&self.topology.map(), &self.stop);
        let lines = Arc::new(lines);
        self.lines.store(Arc::clone(&lines));
        for line in before.all.iter().filter(|old| !lines.all.iter().any(|line| Arc::ptr_eq(line, old))) {
            line.stop.cancel();
        }
        for line in new {
            tokio::spawn(publish::run(Arc::clone(self), Arc::clone(&line)));
            tokio::spawn(subscribe::run(Arc::clone(self), line));
        }
        self.wake_all();
    }
}

impl Metrics {
    /// The counter of parcels that somebody received, or nobody.
    pub(crate) fn outcome(&self, received: bool) -> &IntCounter {
        if received { &self.received } else { &self.nobody }
    }
}

async fn follow_layouts(shared: Arc<Shared>) {
    let mut layouts = shared.topology.layouts();
    loop {
        layouts.mark_unchanged();
        shared.lay_out();
        tokio::select! {
            changed = layouts.changed() => if changed.is_err() { return },
            () = shared.stop.cancelled() => return,
        }
    }
}

/// One node of a cluster. Dropping it ends its tasks, and to the others it is as if it had died; see
/// [`Self::shutdown`].
pub struct Node {
    shared: Arc<Shared>,
    presence: Arc<RedisPresence>,
    budget: Arc<RedisBudget>,
}

/// Makes a node of the cluster that shares a Redis.
///
/// Redis need not be there yet: the node comes up by itself when it is, and says so in [`Bus::is_up`]. An error means
/// that somebody has to change something first.
pub fn connect(options: Options, id: GatewayId, registry: &Registry) -> Result<Arc<Node>, BusError> {
    let unregistered = |error: prometheus::Error| BusError::Unavailable(error.to_string());
    let metrics = Metrics::new(registry).map_err(unregistered)?;
    let prefix = options.prefix.clone();
    let topology = Topology::connect(options)?;
    let presence = RedisPresence::start(id.clone(), Arc::clone(&topology), registry).map_err(unregistered)?;
    let budget = Arc::new(RedisBudget::new(Arc::clone(&topology)));
    let shared = Arc::new(Shared {
        id,
        prefix,
        topology,
        subscriptions: Subscriptions::new(),
        metrics,
        lines: ArcSwap::from_pointee(Lines::none()),
        inbound: Inbound::new(),
        inbox: OnceLock::new(),
        stop: CancellationToken::new(),
    });
    shared.inbound.start(&shared, &shared.stop);
    let mine = Destination::Gateway(shared.id.clone());
    let channel = shared.prefix.channel(&mine);
    let _confirmed_whenever_redis_is_there =
        shared.subscriptions.want(Partition::of_destination(&mine), &channel, &mine);
    tokio::spawn(follow_layouts(Arc::clone(&shared)));
    Ok(Arc::new(Node { shared, presence, budget }))
}

impl Node {
    /// Names who takes what arrives; held weakly, because the receiver holds this node. Only the first call counts.
    pub fn attach(&self, inbox: Weak<dyn Inbox>) {
        let _already_attached = self.shared.inbox.set(inbox);
    }

    /// The three seams of this node.
    pub fn link(self: &Arc<Self>) -> Link {
        Link { bus: self.clone(), presence: self.presence.clone(), budget: self.budget.clone() }
    }

    /// Leaves the cluster: waits a moment for what was sent last, takes this node's sessions away, and ends all tasks.
    pub async fn shutdown(&self) {
        let quiet = async {
            while self.shared.metrics.waiting.get() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _sent_or_late = timeout(LAST_WORDS, quiet).await;
        match timeout(LEAVE, self.presence.leave()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "redis: the others will find this node dead"),
            Err(_) => tracing::warn!("redis: leaving takes too long, the others will find this node dead"),
        }
        self.end();
    }

    fn end(&self) {
        self.shared.stop.cancel();
        self.shared.topology.stop();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
        // Without a runtime there are no tasks either.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let presence = Arc::clone(&self.presence);
            runtime.spawn(async move { presence.stop().await });
        }
    }
}

/// Takes back a subscription of which the caller learns nothing any more.
struct Undo<'a> {
    shared: &'a Shared,
    partition: Partition,
    channel: &'a [u8],
    armed: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.subscriptions.give_up(self.partition, self.channel);
            self.shared.wake(self.partition);
        }
    }
}

#[async_trait]
impl Bus for Node {
    fn send(&self, destination: Destination, parcel: Parcel) -> Sent {
        self.shared.send(destination, parcel)
    }

    async fn subscribe(&self, destination: Destination) -> Result<(), BusError> {
        let shared = &*self.shared;
        let channel = shared.prefix.channel(&destination);
        let partition = Partition::of_destination(&destination);
        let (confirmed, changed) = shared.subscriptions.want(partition, &channel, &destination);
        let Some(confirmed) = confirmed else { return Ok(()) };
        let mut undo = Undo { shared, partition, channel: &channel, armed: changed };
        shared.wake(partition);
        let unavailable = |why: &str| Err(BusError::Unavailable(why.to_owned()));
        match timeout(SUBSCRIBE, confirmed).await {
            Ok(Ok(true)) => {
                undo.armed = false;
                Ok(())
            }
            Ok(Ok(false) | Err(_)) => {
                undo.armed = false;
                unavailable("the subscription was taken back before Redis confirmed it")
            }
            Err(_) => unavailable("Redis did not confirm the subscription in time"),
        }
    }

    async fn unsubscribe(&self, destination: &Destination) {
        let channel = self.shared.prefix.channel(destination);
        let partition = Partition::of_destination(destination);
        if let Some(confirmed) = self.shared.subscriptions.unwant(partition, &channel) {
            self.shared.wake(partition);
            let _confirmed_or_late = timeout(UNSUBSCRIBE, confirmed).await;
        }
    }

    fn is_up(&self) -> bool {
        self.shared.lines.load().are_up() && self.presence.is_settled()
    }
}
