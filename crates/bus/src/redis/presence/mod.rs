//! Who is on, as Redis knows it.
//!
//! All that is kept of a space stands in one partition, so that one script sees and changes it at once, and publishes the
//! news of the change in the same moment: all nodes hear news in the order of the changes.
//!
//! | key | holds |
//! |---|---|
//! | `seats:MESH` | hash: peer → epoch, place, node, what the session says of itself |
//! | `order:MESH` | sorted set: place and peer by place; whom lists show |
//! | `clock` | the last number given as an epoch, a place or the moment of a departure |
//! | `index:NODE` | set: the space and peer of this node's sessions |
//! | `era`, `opening` | see [`eras`] |
//! | `fate:NODE` | `-N`: the node was buried when its beat stood at N; `+N`: it came back with beat N |
//! | `beats`, `condemned` | hashes, in one partition: node → beat; node → the beat at which it died, until it is buried |
//!
//! A session that Redis lost comes back by [`reseat`]; one that Redis has and no node has goes by [`audit`].

mod audit;
mod calls;
mod eras;
mod heartbeat;
mod metrics;
mod own;
mod reap;
mod reseat;
mod view;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use heliograph_core::id::{Epoch, GatewayId, PeerId, SpaceName};
use prometheus::Registry;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::audit::Audit;
use self::calls::{answer, member_list, previous, read_seat, write_visit};
use self::eras::Eras;
use self::metrics::Metrics;
use self::own::{Debt, Ledger, Own, Sessions};
use self::view::View;
use super::keys::Partition;
use super::scripts::{Call, Outcome, SCRIPTS};
use super::topology::Topology;
use crate::{BusError, Claim, NodeStatus, Place, Placement, Presence, Reseated, Seat, Visit, Whereabouts};

/// How long a call waits for Redis to take claims again after it was emptied.
const PATIENCE: Duration = Duration::from_secs(5);

/// Presence on Redis: one node's part of it.
pub(crate) struct RedisPresence {
    /// For tasks of its own.
    me: Weak<Self>,
    id: GatewayId,
    topology: Arc<Topology>,
    sessions: Sessions,
    ledger: Ledger,
    eras: Eras,
    view: Mutex<View>,
    status: Mutex<NodeStatus>,
    /// The number of this node's last beat.
    beat: AtomicU64,
    /// Whether others gave this node up for lost, and it has not said yet that it is back.
    given_up: AtomicBool,
    /// Whether a beat of this node reached Redis.
    was_shown: AtomicBool,
    /// Whom this node is burying.
    burying: Mutex<HashSet<GatewayId>>,
    /// One at a time says whom this node has.
    reseating: tokio::sync::Mutex<()>,
    audit: Mutex<Audit>,
    metrics: Metrics,
    stop: CancellationToken,
    tasks: TaskTracker,
}

// Every critical section leaves its value consistent at each step, so a poisoned lock is still good.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RedisPresence {
    /// Starts the node's heartbeat, which goes on until [`Self::leave`] or [`Self::stop`].
    pub(crate) fn start(
        id: GatewayId,
        topology: Arc<Topology>,
        registry: &Registry,
    ) -> Result<Arc<Self>, prometheus::Error> {
        let metrics = Metrics::register(registry)?;
        let status = NodeStatus { id: id.clone(), sessions: 0, version: "".into(), draining: false };
        let presence = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            topology,
            sessions: Sessions::default(),
            ledger: Ledger::new(metrics.debts_dropped.clone()),
            eras: Eras::new(),
            view: Mutex::default(),
            status: Mutex::new(status),
            beat: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            was_shown: AtomicBool::new(false),
            burying: Mutex::default(),
            reseating: tokio::sync::Mutex::default(),
            audit: Mutex::default(),
            metrics,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        presence.tasks.spawn(Arc::clone(&presence).keep_beating());
        Ok(presence)
    }

    /// Whether presence answers: this node has said whom it has, and sees the others' beats.
    pub(crate) fn is_settled(&self) -> bool {
        self.eras.are_settled() && lock(&self.view).is_current(Instant::now())
    }

    /// Ends all tasks. The node's sessions stay in Redis until others find it dead; see [`Self::leave`].
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[async_trait]
impl Presence for RedisPresence {
    async fn claim_within(
        &self,
        space: &SpaceName,
        peer: &PeerId,
        visit: Visit,
        most: u32,
    ) -> Result<Claim, BusError> {
        let who = (space.clone(), peer.clone());
        // Until it is answered, nobody knows whether it was made.
        let doubt = self.ledger.owe(Debt::Doubt { who: who.clone(), since: Instant::now() });
        let (visit, stays_listed) = (write_visit(&visit), u8::from(space.is_room()));
        let arguments = |call: Call| call.arg(peer.as_str()).arg(&visit[..]).arg(most).arg(stays_listed);
        let answered = self.ask(space, &SCRIPTS.claim, arguments).await?;
        if answered.outcome == Outcome::Full {
            doubt.paid();
            return Err(BusError::Full);
        }
        let epoch = Epoch(answered.number(1)?);
        let former = previous(&answered);
        let place = former.as_ref().and_then(|former| former.place);
        self.sessions.began(who, Own { epoch, place });
        doubt.paid();
        let view = lock(&self.view);
        let lives = |node: &GatewayId, of| view.may_live(node, of, epoch, Instant::now());
        let previous =
            former.filter(|former| former.gateway == self.id || lives(&former.gateway, former.epoch));
        Ok(Claim { epoch, previous })
    }

    async fn place(
        &self,
        space: &SpaceName,
        peer: &PeerId,
        epoch: Epoch,
        place: Place,
    ) -> Result<Placement, BusError> {
        let wanted = match place {
            Place::New => "new",
            Place::Same => "same",
        };
        let call = self
            .ask_with_list(space, &SCRIPTS.place, |call| call.arg(peer.as_str()).arg(epoch.0).arg(wanted));
        let answered = call.await?;
        if answered.outcome == Outcome::Newer {
            return Err(BusError::Superseded);
        }
        let place = answered.number(1)?;
        self.sessions.placed(space, peer, epoch, Some(place));
        Ok(Placement { place, members: member_list(&answered.list, place) })
    }

    async fn hide(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<(), BusError> {
        let call = self.ask(space, &SCRIPTS.hide, |call| call.arg(peer.as_str()).arg(epoch.0));
        call.await.map(drop)
    }

    async fn unplace(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError> {
        let call = self.ask(space, &SCRIPTS.unplace, |call| call.arg(peer.as_str()).arg(epoch.0));
        let had_place = call.await?.number(1)? == 1;
        self.sessions.placed(space, peer, epoch, None);
        Ok(had_place)
    }

    async fn release(&self, space: &SpaceName, peer: &PeerId, epoch: Epoch) -> Result<bool, BusError> {
        let place = self.sessions.ended(space, peer, epoch);
        let debt = Debt::Release { who: (space.clone(), peer.clone()), epoch, place };
        let owing = self.ledger.owe(debt);
        let Some(era) = self.eras.now(Partition::of_space(space)) else { return Ok(place.is_some()) };
        let call = self.release_call(space, peer, epoch, place, era);
        let released = self.topology.invoke(call.partition, &call.invocation()).await.and_then(answer);
        match released {
            Ok(released) if released.outcome == Outcome::Done => {
                owing.paid();
                Ok(released.number(1)? == 1)
            }
            Ok(_other_era) => {
                self.eras.over(call.partition, era);
                Ok(place.is_some())
            }
            Err(error) => {
                tracing::debug!(%error, "redis: a release is put off");
                Ok(place.is_some())
            }
        }
    }

    async fn online(&self, space: &SpaceName) -> Result<u64, BusError> {
        let (partition, key) = self.space_key(space, "order");
        self.topology.query(partition, redis::cmd("ZCARD").arg(key)).await
    }

    async fn locate(&self, space: &SpaceName, peer: &PeerId) -> Result<Option<Whereabouts>, BusError> {
        let (partition, key) = self.space_key(space, "seats");
        let seat: Option<String> =
            self.topology.query(partition, redis::cmd("HGET").arg(key).arg(peer.as_str())).await?;
        let found = seat.as_deref().and_then(read_seat);
        let view = lock(&self.view);
        // It is not new: so it may be of a node that was not seen yet.
        let lives = |seat: &Whereabouts| view.may_live(&seat.gateway, seat.epoch, seat.epoch, Instant::now());
        Ok(found.filter(|seat| seat.gateway == self.id || lives(seat)))
    }

    fn upheavals(&self) -> watch::Receiver<u64> {
        self.eras.upheavals()
    }

    /// Sessions that were not claimed here, or were released since, are passed over as if they were kept.
    async fn reseat(&self, seats: &[Seat]) -> Result<Vec<Reseated>, BusError> {
        self.say_all(seats).await
    }

    fn report(&self, status: NodeStatus) {
        *lock(&self.status) = NodeStatus { id: self.id.clone(), ..status };
    }

    async fn gateways(&self) -> Result<Vec<NodeStatus>, BusError> {
        let unseen = || BusError::Unavailable("no heartbeat reached Redis lately".into());
        let mut nodes = lock(&self.view).alive(Instant::now()).ok_or_else(unseen)?;
        // What this node says of itself is newer than what it last said to Redis.
        let status = lock(&self.status).clone();
        nodes.retain(|node| node.id != self.id);
        nodes.push(status);
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }
}
