//! A bus that keeps the promises of `heliograph_bus::Bus` and no others: order from one node to one destination, one
//! order for all who receive a destination, at most once. With one server behind it also all that one node sends is in
//! order, with several it is not. When the backend is away what is under way is lost, with or without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use heliograph_bus::{Lost, Parcel, Sent, Witness};
use heliograph_core::id::PeerId;

use crate::net::{Event, HandleNo, Net, NodeNo};

/// Where a parcel goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// To the node that holds a peer's live session.
    Peer(PeerId),
    /// To a node.
    Node(NodeNo),
}

/// The backend as it is, and what is under way to and from it.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    pub(crate) down: bool,
    /// Whether nodes have noticed.
    pub(crate) known_down: bool,
    /// Counts outages: what is under way over one is lost.
    pub(crate) era: u32,
    subscribers: BTreeMap<Channel, BTreeSet<NodeNo>>,
    /// Servers over which channels are spread.
    pub(crate) servers: usize,
    /// When the latest parcel of a node gets to a server, and when that of a server gets to a node.
    published: BTreeMap<(NodeNo, usize), Duration>,
    arrived: BTreeMap<(usize, NodeNo), Duration>,
}

impl Bus {
    fn server(&self, channel: &Channel) -> usize {
        let number = match channel {
            Channel::Peer(peer) => peer.as_str().bytes().map(usize::from).sum(),
            Channel::Node(node) => *node,
        };
        number % self.servers.max(1)
    }

    pub(crate) fn subscribe(&mut self, channel: Channel, node: NodeNo) {
        self.subscribers.entry(channel).or_default().insert(node);
    }

    fn unsubscribe(&mut self, channel: &Channel, node: NodeNo) {
        if let Some(nodes) = self.subscribers.get_mut(channel) {
            nodes.remove(&node);
        }
    }

    /// The connection of a node, or all of them (`None`), broke.
    pub(crate) fn forget(&mut self, node: Option<NodeNo>) {
        match node {
            Some(node) => {
                for nodes in self.subscribers.values_mut() {
                    nodes.remove(&node);
                }
            }
            None => self.subscribers.clear(),
        }
    }
}

impl Net {
    /// A node sends without waiting.
    pub(crate) fn publish(&mut self, node: NodeNo, channel: Channel, parcel: Parcel) -> Sent {
        if self.bus.known_down {
            return Sent::Down;
        }
        let at = self.clock.now() + self.dice.delay();
        let server = self.bus.server(&channel);
        let last = self.bus.published.entry((node, server)).or_default();
        *last = at.max(*last);
        let (at, era) = (*last, self.bus.era);
        self.clock.at(at, Event::Published { node, channel, parcel, era });
        Sent::Queued
    }

    /// A parcel got to the backend.
    pub(crate) fn published(&mut self, node: NodeNo, channel: &Channel, parcel: &Parcel, era: u32) {
        if self.bus.down || era != self.bus.era {
            return self.lost(node, channel, parcel, Lost::Down);
        }
        let comes_back = matches!(parcel, Parcel::Superseded { .. });
        let all = self.bus.subscribers.get(channel).cloned().unwrap_or_default();
        let receivers: Vec<_> = all.into_iter().filter(|to| comes_back || *to != node).collect();
        if receivers.is_empty() {
            return self.lost(node, channel, parcel, Lost::Offline);
        }
        let server = self.bus.server(channel);
        for to in receivers {
            let at = self.clock.now() + self.dice.delay();
            let last = self.bus.arrived.entry((server, to)).or_default();
            *last = at.max(*last);
            let event = Event::Arrived { to, channel: channel.clone(), parcel: parcel.clone(), era };
            self.clock.at(*last, event);
        }
    }

    /// A node receives nothing of a channel any more, and hears of it after the last parcel.
    pub(crate) fn unsubscribe(&mut self, node: NodeNo, channel: &Channel, handle: HandleNo) {
        self.bus.unsubscribe(channel, node);
        let last = self.bus.arrived.get(&(self.bus.server(channel), node)).copied().unwrap_or_default();
        let at = (self.clock.now() + self.dice.delay()).max(last);
        self.clock.at(at, Event::Unsubscribed { node, handle });
    }

    fn lost(&mut self, node: NodeNo, channel: &Channel, parcel: &Parcel, why: Lost) {
        let (Channel::Peer(peer), Parcel::Signal(signal)) = (channel, parcel) else { return };
        let witness =
            Witness { from: signal.from.clone(), from_epoch: signal.from_epoch, id: signal.id.clone() };
        let delay = self.dice.delay();
        self.clock.after(delay, Event::Returned { node, peer: peer.clone(), witness, why });
    }
}
