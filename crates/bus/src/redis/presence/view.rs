//! What this node sees of the others' heartbeats, and when it takes one for dead.
//!
//! No clocks are compared: a node is dead when its beat did not change for a while by the observer's own monotonic
//! clock, in which the observer looked without a pause. After a pause, its own or that of Redis, everyone gets the whole
//! time again: otherwise a Redis that stood still would make everybody bury everybody.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use heliograph_core::id::{Epoch, GatewayId};

use crate::NodeStatus;

/// How often a node shows that it lives.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
/// A beat that stands still for so long is that of a dead node.
const DEAD: Duration = Duration::from_secs(5);
/// Looks that are further apart do not say what was between them.
const PAUSE: Duration = Duration::from_millis(2_500);
/// What was seen longer ago is not shown any more.
const STALE: Duration = Duration::from_secs(5);
/// Whoever found a node dead may have died too if its sessions are not ended after so long.
const UNBURIED: Duration = Duration::from_secs(2);
/// The dead are remembered for so long, and so many of them at most.
const REMEMBERED: Duration = Duration::from_hours(1);
const MAX_REMEMBERED: usize = 1_000;
/// A session that is older than this and whose node shows no beat has no node.
const YOUNG_US: u64 = 10_000_000;

/// A node's beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    /// Grows with each.
    pub(crate) number: u64,
    pub(crate) status: NodeStatus,
}

impl Beat {
    /// As it stands in Redis.
    pub(crate) fn write(&self) -> String {
        let NodeStatus { sessions, version, draining, .. } = &self.status;
        format!("{}\n{sessions}\n{}\n{version}", self.number, u8::from(*draining))
    }

    pub(crate) fn read(node: &str, text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '\n');
        let mut next = || parts.next();
        Some(Self {
            number: next()?.parse().ok()?,
            status: NodeStatus {
                id: GatewayId::parse(node).ok()?,
                sessions: next()?.parse().ok()?,
                draining: next()? == "1",
                version: next()?.to_owned().into(),
            },
        })
    }
}

struct Seen {
    beat: Beat,
    /// When its beat was first seen at this number, or after a pause.
    since: Instant,
}

/// What was seen.
#[derive(Default)]
pub(crate) struct View {
    nodes: HashMap<GatewayId, Seen>,
    dead: HashMap<GatewayId, Instant>,
    /// Whose sessions are to be ended, by whoever found them dead; since when that is known.
    condemned: HashMap<GatewayId, (u64, Instant)>,
    looked: Option<Instant>,
}

impl View {
    /// Takes in what a look showed; answers whose beat stands still for too long, with its number.
    pub(crate) fn look(&mut self, beats: Vec<Beat>, now: Instant) -> Vec<(GatewayId, u64)> {
        let paused = self.looked.is_none_or(|looked| now.saturating_duration_since(looked) > PAUSE);
        self.looked = Some(now);
        let mut before = std::mem::take(&mut self.nodes);
        for beat in beats {
            let since = match before.remove(&beat.status.id) {
                Some(seen) if seen.beat.number == beat.number && !paused => seen.since,
                _ => now,
            };
            self.nodes.insert(beat.status.id.clone(), Seen { beat, since });
        }
        self.dead.retain(|_, died| now.saturating_duration_since(*died) < REMEMBERED);
        let still = |seen: &&Seen| now.saturating_duration_since(seen.since) >= DEAD;
        self.nodes
            .values()
            .filter(still)
            .map(|seen| (seen.beat.status.id.clone(), seen.beat.number))
            .collect()
    }

    /// Takes in whose sessions are to be ended; answers those which nobody has ended for too long.
    pub(crate) fn look_at_condemned(
        &mut self,
        condemned: Vec<(GatewayId, u64)>,
        now: Instant,
    ) -> Vec<(GatewayId, u64)> {
        let mut before = std::mem::take(&mut self.condemned);
        for (node, beat) in condemned {
            let since =
                before.remove(&node).filter(|(known, _)| *known == beat).map_or(now, |(_, since)| since);
            self.condemned.insert(node, (beat, since));
        }
        let late = |(_, (_, since)): &(&GatewayId, &(u64, Instant))| {
            now.saturating_duration_since(*since) >= UNBURIED
        };
        self.condemned.iter().filter(late).map(|(node, (beat, _))| (node.clone(), *beat)).collect()
    }

    /// A node was found dead.
    pub(crate) fn died(&mut self, node: GatewayId, now: Instant) {
        self.nodes.remove(&node);
        if self.dead.len() < MAX_REMEMBERED {
            self.dead.insert(node, now);
        }
    }

    /// Whether the last look is not too long ago.
    pub(crate) fn is_current(&self, now: Instant) -> bool {
        self.looked.is_some_and(|looked| now.saturating_duration_since(looked) < STALE)
    }

    /// The nodes that live; `None` if the last look is too long ago.
    pub(crate) fn alive(&self, now: Instant) -> Option<Vec<NodeStatus>> {
        let alive = |seen: &&Seen| now.saturating_duration_since(seen.since) < DEAD;
        self.is_current(now)
            .then(|| self.nodes.values().filter(alive).map(|seen| seen.beat.status.clone()).collect())
    }

    /// Whether the node of a session may live, when a session of epoch `latest` was just claimed. What is not known
    /// counts as alive.
    pub(crate) fn may_live(&self, node: &GatewayId, epoch: Epoch, latest: Epoch, now: Instant) -> bool {
        match self.nodes.get(node) {
            Some(seen) => now.saturating_duration_since(seen.since) < DEAD,
            None if self.dead.contains_key(node) => false,
            // Epochs follow the time in microseconds.
            None => !self.is_current(now) || latest.0.saturating_sub(epoch.0) < YOUNG_US,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(node: &str, number: u64) -> Beat {
        let id = GatewayId::parse(node).unwrap();
        Beat { number, status: NodeStatus { id, sessions: 3, version: "1.2".into(), draining: true } }
    }

    /// Looks at `a` and `b` once a second; `a` beats, `b` does not.
    fn look(view: &mut View, start: Instant, seconds: std::ops::Range<u64>) -> Vec<(u64, String)> {
        let mut dead = vec![];
        for second in seconds {
            let beats = vec![beat("a", second), beat("b", 1)];
            let found = view.look(beats, start + Duration::from_secs(second));
            dead.extend(found.into_iter().map(|(node, _)| (second, node.to_string())));
        }
        dead
    }

    #[test]
    fn who_stands_still_for_five_seconds_is_dead() {
        let dead = look(&mut View::default(), Instant::now(), 0..6);
        assert_eq!(dead, [(5, "b".to_owned())]);
    }

    #[test]
    fn after_a_pause_of_the_observer_everyone_gets_the_whole_time_again() {
        let (mut view, start) = (View::default(), Instant::now());
        assert_eq!(look(&mut view, start, 0..5), []);
        // Redis stood still for eight seconds, and with it all beats.
        assert_eq!(look(&mut view, start, 13..18), []);
        assert_eq!(look(&mut view, start, 18..19), [(18, "b".to_owned())]);
    }

    #[test]
    fn the_dead_are_not_shown_and_old_looks_neither() {
        let (mut view, start) = (View::default(), Instant::now());
        look(&mut view, start, 0..6);
        let at = start + Duration::from_secs(5);
        view.died(GatewayId::parse("b").unwrap(), at);
        let shown: Vec<_> = view.alive(at).unwrap().into_iter().map(|status| status.id.to_string()).collect();
        assert_eq!(shown, ["a"]);
        assert_eq!(view.alive(at + STALE), None);
    }

    #[test]
    fn sessions_of_unknown_nodes_count_as_alive_unless_that_is_out_of_the_question() {
        let (mut view, start) = (View::default(), Instant::now());
        let check = |view: &View, node: &str, age: u64| {
            view.may_live(&GatewayId::parse(node).unwrap(), Epoch(1), Epoch(1 + age), start)
        };
        assert!(check(&view, "new", YOUNG_US * 10), "nothing was seen yet");
        view.look(vec![beat("a", 1)], start);
        assert!(check(&view, "a", YOUNG_US * 10));
        assert!(check(&view, "new", 1_000));
        assert!(!check(&view, "old", YOUNG_US));
        view.died(GatewayId::parse("a").unwrap(), start);
        assert!(!check(&view, "a", 1_000));
    }

    #[test]
    fn beats_are_read_as_they_are_written() {
        let written = beat("a", 7);
        assert_eq!(Beat::read("a", &written.write()), Some(written));
        for text in ["", "1", "x\n1\n0\nv", "1\n1\n0"] {
            assert_eq!(Beat::read("a", text), None, "{text:?}");
        }
    }
}
