//! The one way of a message to its target, here or on another node, and what becomes of parcels that arrive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_bus::{Destination, Heir, Inbox, Lost, Parcel, RemoteSignal, Sent, Witness};
use heliograph_core::authority::{Authority, Denial, Standing};
use heliograph_core::id::{Epoch, PeerId, SpaceName, Version};
use heliograph_core::message::{Receipt, Signal, Undeliverable};
use heliograph_core::session::Mail;
use heliograph_core::stage::{Arrival, Stage, Way};

use crate::directory::{Handle, Space};
use crate::gateway::{Gateway, unix_micros};
use crate::metrics::Side;
use crate::outbox::Pushed;
use crate::trace::{self, Leg};

/// Clocks of nodes differ: what a message seems to have been under way for is believed up to here.
const LONGEST_TRANSIT: Duration = Duration::from_mins(1);

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relayed {
    /// Into the queue of a client that is here.
    Here,
    /// To another node, or where it may have to go there.
    Away,
}

impl Gateway {
    /// Brings a message on its way to `target`, here or on another node.
    pub(crate) fn relay(
        &self,
        space: &Space,
        target: &str,
        signal: Signal,
    ) -> Result<Relayed, Undeliverable> {
        if let Some(handle) = space.session(target) {
            match handle.stage.get().way() {
                Way::Here => {
                    // What waits for a client that is away may be handed to another node with it.
                    let stays = !handle.is_parked() && !handle.outbox.is_held();
                    let way = if stays { Relayed::Here } else { Relayed::Away };
                    return self.deliver(&handle, signal).map(|()| way);
                }
                Way::None => return Err(Undeliverable::Unavailable),
                Way::Bus => {}
            }
        }
        let target = PeerId::parse(target).map_err(|_| Undeliverable::Unavailable)?;
        let parcel = Parcel::Signal(into_remote(signal, &self.authority));
        match self.link.bus.send(Destination::Peer(space.name.clone(), target), parcel) {
            Sent::Queued => Ok(Relayed::Away),
            Sent::Offline => Err(Undeliverable::Unavailable),
            Sent::Full => Err(Undeliverable::QueueFull),
            Sent::Down => Err(Undeliverable::BusUnavailable),
        }
    }

    /// Brings a message to all others in the room: here one by one, to the other nodes by one publish. Each copy is
    /// checked before it is written, as any message is; what becomes of a copy is nobody's concern.
    pub(crate) fn broadcast(&self, space: &Space, signal: Signal) -> Result<(), Undeliverable> {
        self.spread(space, &signal);
        let parcel = Parcel::Broadcast(into_remote(signal, &self.authority));
        match self.link.bus.send(Destination::Space(space.name.clone()), parcel) {
            Sent::Queued | Sent::Offline => Ok(()),
            Sent::Full => Err(Undeliverable::QueueFull),
            Sent::Down => Err(Undeliverable::BusUnavailable),
        }
    }

    /// A copy into the queue of each member here but the sender.
    fn spread(&self, space: &Space, signal: &Signal) {
        space.for_each_other(&signal.from.id, |handle| {
            let _slow_or_gone = self.deliver(handle, signal.clone());
        });
    }

    /// The one delivery: messages from this node and from others pass here into the target's queue.
    pub(crate) fn deliver(&self, handle: &Handle, signal: Signal) -> Result<(), Undeliverable> {
        let standing = handle.peer.right.standing();
        if standing != Standing::Approved {
            self.metrics.denied(Side::Target, Denial::Target(standing));
            return Err(Undeliverable::Unavailable);
        }
        match handle.outbox.push(Mail::Signal(signal), &self.config.limits) {
            Pushed::Queued(dropped) => {
                for stale in dropped {
                    self.metrics.dropped("stale_candidate");
                    self.tell_sender(&stale, &handle.peer.id, Some(Undeliverable::QueueFull));
                }
                Ok(())
            }
            Pushed::Full => {
                self.metrics.dropped("slow_consumer");
                Err(Undeliverable::QueueFull)
            }
            Pushed::Closed => Err(Undeliverable::Unavailable),
        }
    }

    /// Tells a message's sender what became of it, wherever the sender is. Nothing is said of success unless asked.
    pub(crate) fn tell_sender(&self, signal: &Signal, target: &PeerId, failure: Option<Undeliverable>) {
        if signal.to_all || (failure.is_none() && !signal.receipt) {
            return;
        }
        let receipt = Receipt { id: signal.id.clone(), target: Box::from(target.as_str()), failure };
        let space = self.directory.space(&signal.from.space);
        if let Some(handle) = space.session(signal.from.id.as_str())
            && handle.stage.get().way() == Way::Here
        {
            self.receive(&handle, signal.from_epoch, receipt);
            return;
        }
        let destination = Destination::Peer(signal.from.space.clone(), signal.from.id.clone());
        let _sender_gone =
            self.link.bus.send(destination, Parcel::Receipt { epoch: signal.from_epoch, receipt });
    }

    /// Says in the peer's channel that what comes from now on is for this session.
    pub(crate) fn fence(&self, handle: &Handle) -> Sent {
        let mine = Destination::Peer(handle.peer.space.clone(), handle.peer.id.clone());
        self.link.bus.send(mine, Parcel::Superseded { by: handle.epoch })
    }

    /// Puts a receipt into its sender's queue; a session of the sender that began anew knows nothing of the message.
    fn receive(&self, handle: &Handle, epoch: Epoch, receipt: Receipt) {
        let mail = if handle.accepts(epoch) {
            Mail::Receipt(receipt)
        } else if handle.outbox.is_held() {
            Mail::FormerReceipt(epoch, receipt) // its client has not said yet whether it goes on for that one
        } else {
            return;
        };
        let _sender_gone = handle.outbox.push(mail, &self.config.limits);
    }

    /// Something for all members of a space.
    fn arrived_for_space(&self, name: &SpaceName, parcel: Parcel) {
        let space = self.directory.space(name);
        match parcel {
            Parcel::Broadcast(remote) => {
                self.spread(&space, &Signal { to_all: true, ..from_remote(self, &space, remote) });
            }
            news => self.arrived_news(&space, &news),
        }
    }

    /// Tells the members of a space that want to know, and administrators.
    fn arrived_news(&self, space: &Space, parcel: &Parcel) {
        let about = match parcel {
            Parcel::Joined(member) | Parcel::Left { member, .. } => &member.peer,
            _ => return,
        };
        space.for_each_listener(about, |handle| {
            let mail = match parcel {
                Parcel::Left { member, at } => Mail::Left { peer: member.peer.clone(), at: *at },
                Parcel::Joined(member) => Mail::Joined(member.clone()),
                _ => return,
            };
            let _session_over = handle.outbox.push(mail, &self.config.limits);
        });
        self.presence_changed();
    }

    /// Administrators look again.
    pub(crate) fn presence_changed(&self) {
        self.presence_changes.send_modify(|sessions| *sessions = self.sessions());
    }

    fn arrived_for_peer(&self, space: &SpaceName, peer: &PeerId, parcel: Parcel) {
        let space = self.directory.space(space);
        match parcel {
            Parcel::Signal(remote) => self.arrived_signal(&space, peer, remote),
            Parcel::Receipt { epoch, receipt } => {
                if let Ok(handle) = space.receiver(peer.as_str()) {
                    self.receive(&handle, epoch, receipt);
                }
            }
            Parcel::Superseded { by } => self.arrived_fence(&space, peer, by),
            Parcel::Joined(_)
            | Parcel::Left { .. }
            | Parcel::Broadcast(_)
            | Parcel::TakeOver(_)
            | Parcel::HandOver(_)
            | Parcel::Drain { .. } => {}
        }
    }

    /// A fence came by in the channel of a peer: what comes from now on is for the session that `by` names.
    fn arrived_fence(&self, space: &Space, peer: &PeerId, by: Epoch) {
        for handle in space.session(peer.as_str()).into_iter().chain(space.former(peer.as_str())) {
            if handle.epoch == by {
                handle.stage.change(Stage::after_own_fence);
                handle.outbox.stir();
            } else if handle.epoch < by {
                self.pass(&handle);
            }
        }
    }

    fn arrived_signal(&self, space: &Space, peer: &PeerId, remote: RemoteSignal) {
        let receiver = space.receiver(peer.as_str());
        if matches!(receiver, Err(Arrival::Leave)) {
            return; // another session of the peer has it
        }
        let mut signal = from_remote(self, space, remote);
        let span = trace::go_on(Leg::Receive, signal.trace, Instant::now());
        signal.trace = span.as_ref().map_or(signal.trace, |span| Some(span.context()));
        let witness = Signal { payload: bytes::Bytes::new(), ..signal.clone() };
        let result = receiver.map_or(Err(Undeliverable::Unavailable), |handle| self.deliver(&handle, signal));
        if let Some(mut span) = span {
            span.note("heliograph.gateway", self.id.to_string());
            span.end(result.err().map(Undeliverable::as_str));
        }
        if let Err(reason) = result {
            self.tell_sender(&witness, peer, Some(reason));
        }
    }

    fn arrived_for_node(&self, parcel: Parcel) {
        match parcel {
            Parcel::TakeOver(request) => self.spawn(|gateway| crate::resume::answer(gateway, request)),
            Parcel::HandOver(answer) => self.take_in(answer),
            Parcel::Drain { on: true } => self.begin_drain(),
            Parcel::Drain { on: false } => self.cancel_drain(),
            Parcel::Signal(_)
            | Parcel::Receipt { .. }
            | Parcel::Superseded { .. }
            | Parcel::Broadcast(_)
            | Parcel::Joined(_)
            | Parcel::Left { .. } => {}
        }
    }
}

/// As it travels to another node.
pub(crate) fn into_remote(signal: Signal, authority: &Authority) -> RemoteSignal {
    // Read before the right: whoever is approved after that is so as of this version at least.
    let as_of = authority.version();
    let vouched = signal.from.right.is_approved() && !signal.from.is_guest();
    let from_version = if vouched { as_of } else { Version(0) };
    let age = u64::try_from(signal.accepted_at.elapsed().as_micros()).unwrap_or(u64::MAX);
    RemoteSignal {
        from: signal.from.id.clone(),
        from_epoch: signal.from_epoch,
        from_version,
        kind: signal.kind,
        id: signal.id,
        payload: signal.payload,
        receipt: signal.receipt,
        accepted_unix_us: unix_micros().saturating_sub(age),
        trace: signal.trace,
        behind: signal.from.behind.as_ref().map(|behind| behind.id.clone()),
    }
}

/// As it goes on here.
pub(crate) fn from_remote(gateway: &Gateway, space: &Space, remote: RemoteSignal) -> Signal {
    let from = match &remote.behind {
        None => space.intern(&remote.from),
        Some(behind) => {
            let behind = gateway.directory.mesh(space.name.mesh()).intern(behind);
            space.intern_by_right_of(&behind, &remote.from)
        }
    };
    // The sender's node vouches for the sender as of a version; a later revocation that this node has applied has the
    // higher version and stays. A node that stood still may bring its word after all others have forgotten the
    // revocation, or to one that started since: such a word counts for nothing.
    let believed = remote.from_version > Version(0) && gateway.authority.takes_word(remote.from_version);
    if believed || from.is_guest() {
        from.right.apply(remote.from_version, Standing::Approved);
    }
    let transit =
        Duration::from_micros(unix_micros().saturating_sub(remote.accepted_unix_us)).min(LONGEST_TRANSIT);
    let now = Instant::now();
    Signal {
        from,
        from_epoch: remote.from_epoch,
        kind: remote.kind,
        id: remote.id,
        payload: remote.payload,
        receipt: remote.receipt,
        to_all: false,
        accepted_at: now.checked_sub(transit).unwrap_or(now),
        via_bus: true,
        trace: remote.trace,
    }
}

impl Inbox for Gateway {
    fn nobody_hands_over(&self, to: &Heir) {
        self.hand_overs.deserted(to);
    }

    fn arrived(&self, destination: &Destination, parcel: Parcel) {
        match destination {
            Destination::Peer(space, peer) => self.arrived_for_peer(space, peer, parcel),
            Destination::Space(space) => self.arrived_for_space(space, parcel),
            Destination::Gateway(_) => self.arrived_for_node(parcel),
        }
    }

    fn returned(&self, destination: &Destination, witness: Witness, why: Lost) {
        let Destination::Peer(name, target) = destination else { return };
        let failure = Some(match why {
            Lost::Offline => Undeliverable::Unavailable,
            Lost::Down => Undeliverable::BusUnavailable,
        });
        let receipt = Receipt { id: witness.id, target: Box::from(target.as_str()), failure };
        let space = self.directory.space(name);
        let handle: Option<Arc<Handle>> = space.session(witness.from.as_str());
        if let Some(handle) = handle.filter(|handle| handle.stage.get().way() == Way::Here) {
            self.receive(&handle, witness.from_epoch, receipt);
        } else {
            // The sender resumed on another node meanwhile, or is gone.
            let destination = Destination::Peer(name.clone(), witness.from);
            let _gone =
                self.link.bus.send(destination, Parcel::Receipt { epoch: witness.from_epoch, receipt });
        }
    }
}
