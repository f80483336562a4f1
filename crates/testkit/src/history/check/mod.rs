//! The checker: a history goes in, what it proves against the service comes out.

mod facts;
mod introductions;
mod messages;
mod rights;
mod sessions;
#[cfg(test)]
mod tests;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::event::{End, Event, History, Peer, Resumed, Verdict, What};
use facts::Facts;

/// Most violations that are reported; the first ones tell enough.
const MAX_VIOLATIONS: usize = 100;

/// What a history must show beyond what always holds.
#[derive(Debug, Clone)]
pub struct Expectations {
    /// How long after a message was sent its sender may wait for the answer: the resume window and a grace.
    pub answer_within: Duration,
    /// How long after a newer session of a peer stands the older one may still be open.
    pub settle: Duration,
    /// Whether no socket may end without a close code.
    pub codes: bool,
    /// Whether every message must arrive, and every session be resumed without a loss.
    pub nothing_lost: bool,
    /// Of which peers each pair must be introduced exactly once (DESIGN G9).
    pub introduced: Introduced,
}

/// Peers that must be introduced to one another.
#[derive(Debug, Clone, Default)]
pub enum Introduced {
    /// Not looked at.
    #[default]
    Nobody,
    /// All of the history.
    Everyone,
    /// These.
    These(BTreeSet<Peer>),
}

impl Default for Expectations {
    fn default() -> Self {
        Self {
            answer_within: Duration::from_secs(75), // a resume window of a minute, and a grace
            settle: Duration::from_secs(15),
            codes: false,
            nothing_lost: false,
            introduced: Introduced::Nobody,
        }
    }
}

/// What is ruled out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Two messages have one name: the history itself is no good.
    IdUsedTwice,
    /// A message arrived that nobody sent (G1).
    NeverSent,
    /// A message arrived with another sender than its own (G1).
    WrongSender,
    /// A message arrived at another peer than its target.
    WrongPeer,
    /// A message arrived with another payload.
    Corrupted,
    /// A message arrived twice, whatever the sockets and sessions.
    Twice,
    /// Of two messages from one sender to one target the later arrived first (G4).
    OutOfOrder,
    /// A message neither arrived nor was its sender told (G3).
    LostWithoutWord,
    /// A message arrived, and its sender was not told (G3).
    Unanswered,
    /// A sender was told `delivered`, and the target did not get it, although its session lived (G3).
    DeliveredToNobody,
    /// A sender was told for good that a message is undeliverable, and it arrived.
    ToldLostButArrived,
    /// A sender was told something else after the last word.
    Contradiction,
    /// A client was told of a message that it did not send.
    StrangeVerdict,
    /// Numbers are missing that no resumption said were lost (G7).
    Gap,
    /// A session was resumed that never was.
    ResumedNothing,
    /// An older session went on after a newer one of the same peer stood (G5).
    TwoLive,
    /// A newer session had no higher epoch (G5).
    EpochWentBack,
    /// A socket ended without a code.
    NoCode,
    /// A message did not arrive, or a session was not resumed wholly, where nothing may be lost (G7).
    Lost,
    /// Both of a pair had the other in their first list (G9).
    IntroducedTwice,
    /// Neither of a pair had the other in its first list (G9).
    NeverIntroduced,
    /// A message to or from a peer was delivered after its revocation was answered (G2).
    AfterRevoke,
}

/// A broken promise and the events that prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// In words, where the rule alone does not say it.
    pub detail: String,
    /// The proof.
    pub evidence: Vec<Event>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.rule)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        self.evidence.iter().try_for_each(|event| write!(f, "\n    {event}"))
    }
}

/// What a history counts up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Sockets that were opened.
    pub sockets: u64,
    /// Upgrades that were refused.
    pub refused: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that arrived.
    pub received: u64,
    /// Messages of which a node said that it begins to write them.
    pub writes: u64,
    /// Things that came again after a resumption and were dropped by their numbers.
    pub repeated: u64,
    /// Messages of which their senders were told that they arrived.
    pub delivered: u64,
    /// Words about messages that did not, by reason.
    pub undeliverable: BTreeMap<String, u64>,
    /// Messages that neither arrived nor were answered, and of which nobody can say whether the service had read them
    /// when the socket broke.
    pub unsure: u64,
    /// Messages without an answer whose deadline had not passed at the end, or whose sender's session ended before.
    pub open: u64,
    /// Messages that were written to a target whose session was then lost, with a word to the target.
    pub gone: u64,
    /// Sessions that were resumed.
    pub resumed: u64,
    /// Attempts to resume that began anew.
    pub fresh: u64,
    /// What resumptions brought again.
    pub recovered: u64,
    /// What resumptions said was lost.
    pub lost: u64,
    /// Frames that the service said it could not read.
    pub errors: u64,
    /// How sockets ended.
    pub ends: BTreeMap<End, u64>,
}

impl Summary {
    fn of(history: &History) -> Self {
        let mut sums = Self::default();
        for event in &history.0 {
            sums.count(&event.what);
        }
        sums
    }

    fn count(&mut self, what: &What) {
        match what {
            What::Connected => self.sockets += 1,
            What::Refused(_) => self.refused += 1,
            What::Sent { .. } => self.sent += 1,
            What::Received { .. } => self.received += 1,
            What::WriteBegan(_) => self.writes += 1,
            What::Repeated { .. } => self.repeated += 1,
            What::Told { verdict: Verdict::Delivered, .. } => self.delivered += 1,
            What::Told { verdict: Verdict::Undeliverable(reason), .. } => {
                *self.undeliverable.entry(reason.to_string()).or_default() += 1;
            }
            What::Resumed(Resumed::Fresh) => self.fresh += 1,
            What::Resumed(Resumed::Recovered { recovered, lost }) => {
                self.resumed += 1;
                self.recovered += recovered;
                self.lost += lost;
            }
            What::Error(_) => self.errors += 1,
            What::Ended(end) => *self.ends.entry(*end).or_default() += 1,
            _ => {}
        }
    }
}

/// What the rules find.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn add<'a>(
        &mut self,
        rule: Rule,
        detail: impl Into<String>,
        evidence: impl IntoIterator<Item = &'a Event>,
    ) {
        if self.0.len() < MAX_VIOLATIONS {
            let evidence = evidence.into_iter().cloned().collect();
            self.0.push(Violation { rule, detail: detail.into(), evidence });
        }
    }
}

/// Looks for what DESIGN G1-G9 rule out.
pub fn check(history: &History, expected: &Expectations) -> Result<Summary, Vec<Violation>> {
    let mut findings = Findings::default();
    let mut summary = Summary::of(history);
    let facts = Facts::of(history, &mut findings);
    messages::check(&facts, &mut findings);
    verdicts::check(&facts, expected, &mut summary, &mut findings);
    sessions::check(&facts, expected, &mut findings);
    introductions::check(&facts, expected, &mut findings);
    rights::check(&facts, &mut findings);
    if findings.0.is_empty() { Ok(summary) } else { Err(findings.0) }
}

/// As [`check`], for a test: panics with the first violations and what proves them.
#[track_caller]
pub fn expect_clean(history: &History, expected: &Expectations) -> Summary {
    check(history, expected).unwrap_or_else(|violations| {
        let shown: Vec<_> = violations.iter().take(10).map(Violation::to_string).collect();
        panic!("{} violations in {} events:\n{}", violations.len(), history.0.len(), shown.join("\n"))
    })
}
