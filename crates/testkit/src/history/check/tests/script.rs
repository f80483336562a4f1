//! Histories by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::super::event::{End, Event, History, Resumed, Verdict, What};

/// A history that grows by a millisecond with each line.
#[derive(Default)]
pub(super) struct Script {
    now: Duration,
    events: Vec<Event>,
    /// On which socket each peer is.
    sockets: BTreeMap<String, u32>,
}

impl Script {
    pub(super) fn add(&mut self, peer: &str, socket: u32, what: What) {
        self.now += Duration::from_millis(1);
        self.events.push(Event { at: self.now, peer: peer.into(), socket, what });
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// The history up to now.
    pub(super) fn end(mut self) -> History {
        self.add("clock", 0, What::Joined("nobody".into()));
        History(self.events)
    }

    pub(super) fn on(&mut self, peer: &str, socket: u32) {
        self.sockets.insert(peer.to_owned(), socket);
    }

    fn here(&mut self, peer: &str, what: What) {
        let socket = self.sockets.get(peer).copied().unwrap_or(0);
        self.add(peer, socket, what);
    }

    pub(super) fn join(&mut self, peer: &str, socket: u32, epoch: u64, before: &[&str]) {
        self.on(peer, socket);
        self.add(peer, socket, What::Connected);
        let peers = before.iter().map(|&peer| peer.into()).collect();
        self.add(peer, socket, What::FirstList { epoch, peers });
    }

    pub(super) fn resume(&mut self, peer: &str, socket: u32, epoch: u64, recovered: u64, lost: u64) {
        self.on(peer, socket);
        self.add(peer, socket, What::Connected);
        self.add(peer, socket, What::Resumed(Resumed::Recovered { recovered, lost }));
        self.list(peer, epoch, &[]);
    }

    /// A later list.
    pub(super) fn list(&mut self, peer: &str, epoch: u64, peers: &[&str]) {
        let peers = peers.iter().map(|&peer| peer.into()).collect();
        self.here(peer, What::List { epoch, peers });
    }

    pub(super) fn end_socket(&mut self, peer: &str, socket: u32, end: End) {
        self.add(peer, socket, What::Ended(end));
    }

    pub(super) fn send(&mut self, peer: &str, id: &str, to: &str) {
        self.here(peer, What::Sent { id: id.into(), to: to.into(), hash: 1 });
    }

    pub(super) fn received(&mut self, peer: &str, from: &str, id: &str) {
        self.here(peer, What::Received { from: from.into(), id: id.into(), seq: None, hash: 1 });
    }

    pub(super) fn numbered(&mut self, peer: &str, from: &str, id: &str, seq: u64) {
        self.here(peer, What::Received { from: from.into(), id: id.into(), seq: Some(seq), hash: 1 });
    }

    pub(super) fn told(&mut self, peer: &str, id: &str, word: &str) {
        let verdict =
            if word == "delivered" { Verdict::Delivered } else { Verdict::Undeliverable(word.into()) };
        self.here(peer, What::Told { id: id.into(), verdict, seq: None });
    }

    /// A message that is sent, arrives and is answered.
    pub(super) fn pass(&mut self, peer: &str, id: &str, to: &str) {
        self.send(peer, id, to);
        self.received(to, peer, id);
        self.told(peer, id, "delivered");
    }
}
