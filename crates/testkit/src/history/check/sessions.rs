//! One session per peer, its numbers, and how sockets end.

use std::collections::{BTreeMap, BTreeSet};

use super::super::event::{End, Event, What};
use super::facts::{Facts, Socket};
use super::{Expectations, Findings, Rule};

pub(super) fn check(facts: &Facts<'_>, expected: &Expectations, findings: &mut Findings) {
    one_at_a_time(facts, expected, findings);
    epochs(facts, findings);
    numbers(facts, findings);
    if expected.codes {
        for (_, end) in facts.sockets.values().filter_map(|socket| socket.ended) {
            if end.what == What::Ended(End::NoCode) {
                findings.add(Rule::NoCode, "", [end]);
            }
        }
    }
}

/// DESIGN G5: when a newer session stands, the older one ends within a bound, and nothing comes on it afterwards.
fn one_at_a_time(facts: &Facts<'_>, expected: &Expectations, findings: &mut Findings) {
    let mut newest: BTreeMap<_, (u32, &Event)> = BTreeMap::new();
    for (&(peer, number), socket) in facts.sockets.iter().rev() {
        let Some(stands) = socket.stands else { continue };
        // From the newest socket down: the first one that stands after this one.
        if let Some(&(_, newer)) = newest.get(peer) {
            overlap(facts, expected, socket, stands, newer, findings);
        }
        newest.insert(peer, (number, stands));
    }
    for event in &facts.history.0 {
        if !matches!(event.what, What::Received { .. }) {
            continue;
        }
        let stands = facts.sockets.range((&event.peer, event.socket + 1)..=(&event.peer, u32::MAX));
        if let Some(newer) = stands.into_iter().find_map(|(_, socket)| socket.stands)
            && event.at > newer.at + expected.settle
        {
            findings.add(Rule::TwoLive, "the older session still gets messages", [newer, event]);
        }
    }
}

fn overlap(
    facts: &Facts<'_>,
    expected: &Expectations,
    older: &Socket<'_>,
    stood: &Event,
    newer: &Event,
    findings: &mut Findings,
) {
    if older.abandoned.is_some() {
        return; // nobody looks whether it ends
    }
    let ended = older.ended.map_or(facts.history.end(), |(_, event)| event.at);
    if ended > newer.at + expected.settle {
        let end = older.ended.map(|(_, event)| event);
        findings.add(Rule::TwoLive, "the older session does not end", [stood, newer].into_iter().chain(end));
    }
}

/// Of two sessions of a peer that were opened one after the other the later one has the higher epoch.
fn epochs(facts: &Facts<'_>, findings: &mut Findings) {
    let mut highest: BTreeMap<_, (u64, &Event)> = BTreeMap::new();
    for event in &facts.history.0 {
        let (What::FirstList { epoch, .. } | What::List { epoch, .. }) = &event.what else { continue };
        let last = highest.entry(&event.peer).or_insert((*epoch, event));
        if event.socket == last.1.socket {
            continue;
        }
        let connected = facts.socket(event).and_then(|socket| socket.connected);
        let later = connected.is_some_and(|connected| connected.at > last.1.at);
        if later && *epoch <= last.0 {
            findings.add(Rule::EpochWentBack, "", [last.1, event]);
        }
        if *epoch > last.0 {
            *last = (*epoch, event);
        }
    }
}

/// What a session numbers comes without holes, but for those that its resumptions told. A revoked sender's messages
/// are left out when they would come again, so nothing can be said where somebody was revoked.
fn numbers(facts: &Facts<'_>, findings: &mut Findings) {
    let revoked = |event: &Event| matches!(event.what, What::RevokeAnswered(_) | What::Revoked(_));
    if facts.history.0.iter().any(revoked) {
        return;
    }
    let mut seen: BTreeMap<_, (BTreeSet<u64>, &Event)> = BTreeMap::new();
    for event in &facts.history.0 {
        let seq = match &event.what {
            What::Received { seq, .. } | What::Told { seq, .. } => *seq,
            What::Repeated { seq } => Some(*seq),
            _ => None,
        };
        if let (Some(seq), Some(no)) = (seq, facts.session_no(event)) {
            let (numbers, last) = seen.entry(no).or_insert_with(|| (BTreeSet::new(), event));
            numbers.insert(seq);
            *last = event;
        }
    }
    for (no, (numbers, last)) in seen {
        let highest = numbers.last().copied().unwrap_or(0);
        let missing = highest - numbers.len() as u64;
        let lost = facts.sessions[no].lost;
        if missing > lost {
            let hole = (1..=highest).find(|seq| !numbers.contains(seq)).unwrap_or(0);
            let detail = format!("{missing} numbers are missing, the first is {hole}; {lost} were told lost");
            findings.add(Rule::Gap, detail, [facts.sessions[no].begin, last]);
        }
    }
}
