//! What senders were told, held against what arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::event::{Event, Peer, Resumed, Verdict, What};
use super::facts::{Facts, Index, Message, Session};
use super::{Expectations, Findings, Rule, Summary};

pub(super) fn check(
    facts: &Facts<'_>,
    expected: &Expectations,
    summary: &mut Summary,
    findings: &mut Findings,
) {
    let mut missing = Missing::default();
    for message in facts.messages.values() {
        match message.sent {
            Some((index, sent)) => {
                words(facts, message, sent, findings);
                let Some(judgement) = judge(facts, expected, message, index, sent) else { continue };
                missing.note(judgement, message, sent, summary);
            }
            None if !message.told.is_empty() => {
                findings.add(Rule::StrangeVerdict, "nobody sent it", message.told.iter().copied());
            }
            None => {}
        }
    }
    missing.report(facts, summary, findings);
    if expected.nothing_lost {
        everything_arrived(facts, findings);
    }
}

fn verdict(event: &Event) -> Option<&Verdict> {
    if let What::Told { verdict, .. } = &event.what { Some(verdict) } else { None }
}

/// Whether what the sender was told is one story, and the true one.
fn words(facts: &Facts<'_>, message: &Message<'_>, sent: &Event, findings: &mut Findings) {
    for told in message.told.iter().filter(|told| told.peer != sent.peer) {
        findings.add(Rule::StrangeVerdict, "another peer sent it", [sent, told]);
    }
    let mut last_word: Option<&Event> = None;
    for told in message.told.iter().filter(|told| told.peer == sent.peer) {
        if let Some(last) = last_word {
            findings.add(Rule::Contradiction, "", [sent, last, told]);
        }
        let Some(word) = verdict(told).filter(|word| word.is_final()) else { continue };
        last_word = Some(told);
        if *word == Verdict::Delivered {
            continue;
        }
        for copy in &message.copies {
            // Of a session that nobody resumed the service cannot know how far the client got.
            let broken = facts.session_no(copy).is_none_or(|no| facts.sessions[no].broken.is_some());
            if !broken {
                findings.add(Rule::ToldLostButArrived, "", [sent, told, copy]);
            }
        }
    }
}

/// What is not right with a message.
enum Judgement {
    /// The service may not have read it.
    Unsure,
    /// An answer may still come, or nobody is left to hear it.
    Open,
    /// It was written to a session that was lost afterwards.
    Gone,
    /// A rule is broken, unless this peer was told that so much was lost.
    Missing(Rule, Peer),
}

fn judge(
    facts: &Facts<'_>,
    expected: &Expectations,
    message: &Message<'_>,
    index: Index,
    sent: &Event,
) -> Option<Judgement> {
    let What::Sent { to, .. } = &sent.what else { return None };
    let delivered = message.told.iter().find(|told| verdict(told) == Some(&Verdict::Delivered));
    match (message.copies.is_empty(), delivered) {
        (true, Some(told)) => Some(nobody_got_it(facts, expected, to, (sent.at, told.at))),
        _ if !message.told.is_empty() => None,
        (true, _) => Some(nobody_said_it(facts, expected, index, sent, Rule::LostWithoutWord)),
        (false, _) => Some(nobody_said_it(facts, expected, index, sent, Rule::Unanswered)),
    }
}

fn nobody_got_it(
    facts: &Facts<'_>,
    expected: &Expectations,
    to: &Peer,
    (sent, told): (Duration, Duration),
) -> Judgement {
    // An older session may get messages as long as it may take to end.
    let is_there = |session: &&Session<'_>| {
        session.begin.at <= told && session.until.saturating_add(expected.settle) >= sent
    };
    if facts.sessions_of(to).filter(is_there).any(|session| session.broken.is_some()) {
        Judgement::Gone
    } else {
        Judgement::Missing(Rule::DeliveredToNobody, Peer::clone(to))
    }
}

fn nobody_said_it(
    facts: &Facts<'_>,
    expected: &Expectations,
    index: Index,
    sent: &Event,
    rule: Rule,
) -> Judgement {
    let key = (&sent.peer, sent.socket);
    let Some(socket) = facts.sockets.get(&key) else { return Judgement::Unsure };
    let was_read = socket.lasted() || index <= socket.read_up_to;
    let Some(session) = socket.session.map(|no| &facts.sessions[no]).filter(|_| was_read) else {
        return Judgement::Unsure;
    };
    let until = session.broken.unwrap_or(Duration::MAX).min(facts.history.end());
    if sent.at + expected.answer_within <= until {
        Judgement::Missing(rule, Peer::clone(&sent.peer))
    } else {
        Judgement::Open
    }
}

/// What is missing, by who was to get it.
#[derive(Default)]
struct Missing<'a>(BTreeMap<Peer, Vec<(Rule, Vec<&'a Event>)>>);

impl<'a> Missing<'a> {
    fn note(&mut self, judgement: Judgement, message: &Message<'a>, sent: &'a Event, summary: &mut Summary) {
        match judgement {
            Judgement::Unsure => summary.unsure += 1,
            Judgement::Open => summary.open += 1,
            Judgement::Gone => summary.gone += 1,
            Judgement::Missing(rule, peer) => {
                let evidence = [sent].into_iter().chain(message.copies.iter().copied());
                let evidence = evidence.chain(message.told.iter().copied()).collect();
                self.0.entry(peer).or_default().push((rule, evidence));
            }
        }
    }

    /// A client that was told that something is lost cannot say what it was: so much may be missing for it.
    fn report(self, facts: &Facts<'_>, summary: &mut Summary, findings: &mut Findings) {
        for (peer, missing) in self.0 {
            let lost: u64 = facts.sessions_of(&peer).map(|session| session.lost).sum();
            if missing.len() as u64 <= lost {
                summary.gone += missing.len() as u64;
                continue;
            }
            let said = if lost > 0 { format!("{peer} was told of only {lost} lost") } else { String::new() };
            for (rule, evidence) in missing {
                findings.add(rule, said.clone(), evidence);
            }
        }
    }
}

fn everything_arrived(facts: &Facts<'_>, findings: &mut Findings) {
    for message in facts.messages.values().filter(|message| message.copies.is_empty()) {
        if let Some((_, sent)) = message.sent {
            findings.add(Rule::Lost, "", [sent].into_iter().chain(message.told.iter().copied()));
        }
    }
    for event in &facts.history.0 {
        let whole = match event.what {
            What::Resumed(Resumed::Fresh) => false,
            What::Resumed(Resumed::Recovered { lost, .. }) => lost == 0,
            _ => true,
        };
        if !whole {
            findings.add(Rule::Lost, "the session was not resumed wholly", [event]);
        }
    }
}
