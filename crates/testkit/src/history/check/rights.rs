//! DESIGN G2: nothing that was sent, and no write that began, after a revocation was answered.
//!
//! That a write began afterwards is known in three ways: from the node that writes; because the message was sent
//! afterwards; or because it lies, on its target's socket, behind the answer to a question that was asked afterwards.

use std::collections::BTreeMap;

use super::super::event::{Event, Peer, What};
use super::facts::{Facts, Index};
use super::{Findings, Rule};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut revoked: BTreeMap<&Peer, (Index, &Event)> = BTreeMap::new();
    let mut sockets: BTreeMap<(&Peer, u32), Written> = BTreeMap::new();
    for (index, event) in facts.history.0.iter().enumerate() {
        let socket = sockets.entry((&event.peer, event.socket)).or_default();
        let (id, began) = match &event.what {
            What::RevokeAnswered(peer) => {
                revoked.entry(peer).or_insert((index, event));
                continue;
            }
            What::WriteBegan(id) => (id, index),
            What::Received { id, .. } => (id, socket.after),
            what => {
                socket.note(index, what);
                continue;
            }
        };
        let sent = facts.messages.get(&**id).and_then(|message| message.sent);
        let Some((sent_at, sent)) = sent else { continue };
        let What::Sent { to, .. } = &sent.what else { continue };
        for peer in [&sent.peer, to] {
            if let Some((_, answer)) =
                revoked.get(peer).filter(|(answered, _)| *answered < began.max(sent_at))
            {
                findings.add(Rule::AfterRevoke, "", [answer, sent, event]);
            }
        }
    }
}

/// What is known of when the next thing on a socket was written: not before the socket was there, and not before the
/// last question was asked that is answered already.
#[derive(Default)]
struct Written {
    after: Index,
    asked: BTreeMap<u64, Index>,
}

impl Written {
    fn note(&mut self, index: Index, what: &What) {
        match what {
            What::Connected => self.after = index,
            What::Asked(question) => drop(self.asked.insert(*question, index)),
            What::Answered(question) => {
                let asked = self.asked.remove(question).unwrap_or(0);
                self.after = self.after.max(asked);
            }
            _ => {}
        }
    }
}
