//! DESIGN G9: of two peers exactly one gets the other in its first list.

use std::collections::BTreeSet;

use super::super::event::{Event, Peer, What};
use super::facts::{Facts, Session};
use super::{Expectations, Findings, Introduced, Rule};

/// The last session of a peer, as others may have met it.
struct Newcomer<'a> {
    peer: &'a Peer,
    first_list: &'a Event,
    /// Whom its first list showed, and whom any later one.
    shown: BTreeSet<&'a str>,
    shown_later: BTreeSet<&'a str>,
    /// Whether it is the only session of the peer, so that whoever was shown the peer was shown this session.
    only: bool,
    lives: bool,
}

pub(super) fn check(facts: &Facts<'_>, expected: &Expectations, findings: &mut Findings) {
    let counts = |peer: &Peer| match &expected.introduced {
        Introduced::Nobody => false,
        Introduced::Everyone => true,
        Introduced::These(peers) => peers.contains(peer),
    };
    let newcomers: Vec<_> = facts
        .by_peer
        .iter()
        .filter(|(peer, _)| counts(peer))
        .filter_map(|(_, nos)| newcomer(facts, nos))
        .collect();
    for (i, one) in newcomers.iter().enumerate() {
        for other in &newcomers[i + 1..] {
            pair(one, other, findings);
        }
    }
    if let Introduced::These(peers) = &expected.introduced {
        for peer in peers.iter().filter(|peer| !facts.by_peer.contains_key(*peer)) {
            findings.add(Rule::NeverIntroduced, format!("{peer} got no list at all"), []);
        }
    }
}

fn newcomer<'a>(facts: &Facts<'a>, nos: &[usize]) -> Option<Newcomer<'a>> {
    let session = &facts.sessions[*nos.last()?];
    let What::FirstList { peers, .. } = &session.begin.what else { return None };
    Some(Newcomer {
        peer: session.peer,
        first_list: session.begin,
        shown: peers.iter().map(|peer| &**peer).collect(),
        shown_later: later_lists(session).map(|peer| &**peer).collect(),
        only: nos.len() == 1,
        lives: session.broken.is_none(),
    })
}

/// A client that was away when another one registered is told of it when it comes back.
fn later_lists<'a>(session: &Session<'a>) -> impl Iterator<Item = &'a Peer> {
    let lists = session.lists.iter();
    lists
        .filter_map(|event| if let What::List { peers, .. } = &event.what { Some(peers) } else { None })
        .flatten()
}

fn pair(one: &Newcomer<'_>, other: &Newcomer<'_>, findings: &mut Findings) {
    let evidence = [one.first_list, other.first_list];
    let met_later = one.shown_later.contains(&**other.peer) || other.shown_later.contains(&**one.peer);
    match (one.shown.contains(&**other.peer), other.shown.contains(&**one.peer)) {
        // A former session may have been shown: that was another introduction.
        (true, true) if one.only && other.only => findings.add(Rule::IntroducedTwice, "", evidence),
        (false, false) if one.lives && other.lives && !met_later => {
            findings.add(Rule::NeverIntroduced, "", evidence);
        }
        _ => {}
    }
}
