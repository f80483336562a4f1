//! DESIGN G2, as far as clients see it: nothing that was sent, and no write that began, after a revocation was answered.

use std::collections::BTreeMap;

use super::super::event::{Event, Peer, What};
use super::facts::{Facts, Index};
use super::{Findings, Rule};

pub(super) fn check(facts: &Facts<'_>, findings: &mut Findings) {
    let mut revoked: BTreeMap<&Peer, (Index, &Event)> = BTreeMap::new();
    for (index, event) in facts.history.0.iter().enumerate() {
        if let What::RevokeAnswered(peer) = &event.what {
            revoked.entry(peer).or_insert((index, event));
        }
    }
    if revoked.is_empty() {
        return;
    }
    for (index, event) in facts.history.0.iter().enumerate() {
        let (What::Received { id, .. } | What::WriteBegan(id)) = &event.what else { continue };
        let Some((sent_at, sent)) = facts.messages.get(&**id).and_then(|message| message.sent) else {
            continue;
        };
        let What::Sent { to, .. } = &sent.what else { continue };
        // A frame that is received may have been under way; one whose write begins may not.
        let since = if matches!(event.what, What::WriteBegan(_)) { index } else { sent_at };
        for peer in [&sent.peer, to] {
            if let Some((_, answer)) = revoked.get(peer).filter(|(answered, _)| *answered < since) {
                findings.add(Rule::AfterRevoke, "", [answer, sent, event]);
            }
        }
    }
}
