//! What recording clients send: numbered messages of the usual kinds and sizes to random others.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::time::Instant;

use super::event::{Id, Peer, What, hash};

/// Most messages of one client that wait for an answer; before it sends more it waits.
const MAX_OPEN: usize = 256;

/// How long an answer is waited for to a message that the service perhaps never read.
const GRACE: Duration = Duration::from_secs(3);

/// One client's messages.
pub(super) struct Traffic {
    peer: Peer,
    others: Vec<Peer>,
    count: u64,
    answer_within: Duration,
    /// Without an answer: since which socket, and until when one may come.
    open: HashMap<Id, (u32, Instant)>,
    pub(super) dice: StdRng,
}

/// A message that is about to be written.
pub(super) struct Outgoing {
    /// For the history.
    pub(super) what: What,
    /// For the socket.
    pub(super) text: String,
}

impl Traffic {
    pub(super) fn new(peer: Peer, others: Vec<Peer>, seed: u64, answer_within: Duration) -> Self {
        let dice = StdRng::seed_from_u64(seed);
        Self { peer, others, count: 0, answer_within, open: HashMap::new(), dice }
    }

    /// From now on all messages are for these peers.
    pub(super) fn write_to(&mut self, peers: Vec<Peer>) {
        self.others = peers;
    }

    /// The next message, if there is somebody to send it to and not too much is open.
    pub(super) fn next(&mut self, socket: u32) -> Option<Outgoing> {
        if self.others.is_empty() || self.open.len() >= MAX_OPEN {
            return None;
        }
        let to = Peer::clone(&self.others[self.dice.random_range(0..self.others.len())]);
        self.count += 1;
        let id = Id::from(format!("{}.{}", self.peer, self.count));
        let (kind, size) = self.kind_and_size();
        let filler = "x".repeat(size);
        // Sender, target and number are part of what is compared.
        let payload = json!({ "from": self.peer, "to": to, "n": self.count, "sdp": filler }).to_string();
        let hash = hash(payload.as_bytes());
        let text = format!(
            r#"{{"type":"{kind}","peer_id":"{}","target_id":"{to}","id":"{id}","payload":{payload}}}"#,
            self.peer
        );
        self.open.insert(Id::clone(&id), (socket, Instant::now() + self.answer_within));
        Some(Outgoing { what: What::Sent { id, to, hash }, text })
    }

    /// As in real signaling: many small candidates, some descriptions of a few kilobytes, now and then a long one.
    fn kind_and_size(&mut self) -> (&'static str, usize) {
        match self.dice.random_range(0..100) {
            0..50 => ("ice_candidate", self.dice.random_range(60..300)),
            50..70 => ("offer", self.dice.random_range(800..4_000)),
            70..88 => ("answer", self.dice.random_range(800..4_000)),
            88..98 => ("app.note", self.dice.random_range(0..500)),
            _ => ("offer", self.dice.random_range(8_000..32_000)),
        }
    }

    /// An answer came.
    pub(super) fn answered(&mut self, id: &Id) {
        self.open.remove(id);
    }

    /// A socket ended: what was sent on it was perhaps never read, and then nobody answers.
    pub(super) fn socket_ended(&mut self, socket: u32) {
        let soon = Instant::now() + GRACE;
        for (since, until) in self.open.values_mut() {
            if *since == socket {
                *until = (*until).min(soon);
            }
        }
    }

    /// The session began anew: nobody answers for the former one.
    pub(super) fn began_anew(&mut self, socket: u32) {
        self.open.retain(|_, (since, _)| *since >= socket);
    }

    /// How many may still be answered.
    pub(super) fn open(&self) -> usize {
        let now = Instant::now();
        self.open.values().filter(|(_, until)| *until > now).count()
    }
}
