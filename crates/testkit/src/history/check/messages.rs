//! What arrived: from whom, to whom, how often, in which order.

use std::collections::BTreeMap;

use super::super::event::{Event, What};
use super::facts::{Facts, Index, Message};
use super::{Findings, Rule};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    for message in facts.messages.values() {
        match message.sent {
            Some((_, sent)) => copies(message, sent, findings),
            None if !message.copies.is_empty() => {
                findings.add(Rule::NeverSent, "", message.copies.iter().copied());
            }
            None => {}
        }
    }
    order(facts, findings);
}

fn copies(message: &Message<'_>, sent: &Event, findings: &mut Findings) {
    let What::Sent { to, hash, .. } = &sent.what else { return };
    if message.copies.len() > 1 {
        findings.add(Rule::Twice, "", [sent].into_iter().chain(message.copies.iter().copied()));
    }
    for copy in &message.copies {
        let What::Received { from, hash: received, .. } = &copy.what else { continue };
        if *from != sent.peer {
            findings.add(Rule::WrongSender, "", [sent, copy]);
        }
        if copy.peer != *to {
            findings.add(Rule::WrongPeer, "", [sent, copy]);
        }
        if received != hash {
            findings.add(Rule::Corrupted, "", [sent, copy]);
        }
    }
}

/// Within a session of the sender and one of the target, resumptions included: what was lost with a session may have
/// been overtaken by what came after it.
fn order(facts: &Facts<'_>, findings: &mut Findings) {
    let mut latest: BTreeMap<_, (Index, &Event, &Event)> = BTreeMap::new();
    for copy in &facts.history.0 {
        let What::Received { id, .. } = &copy.what else { continue };
        let Some((index, sent)) = facts.messages.get(&**id).and_then(|message| message.sent) else {
            continue;
        };
        let sessions = (facts.session_no(sent), facts.session_no(copy));
        let (Some(from), Some(to)) = sessions else { continue };
        let last = latest.entry((from, to)).or_insert((index, sent, copy));
        if index < last.0 {
            findings.add(Rule::OutOfOrder, "", [sent, last.1, last.2, copy]);
        } else {
            *last = (index, sent, copy);
        }
    }
}
