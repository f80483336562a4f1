//! What goes wrong in a run.

use std::time::Duration;

use crate::net::{ClientNo, Event, Net};

/// Something that goes wrong. Nodes are named by their place among those that live then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A client's connection breaks.
    Reset(ClientNo),
    /// A client's network goes away without a word.
    Abandon(ClientNo),
    /// A client's program restarts.
    Forget(ClientNo),
    /// A write to a client breaks in the middle.
    Fragile(ClientNo),
    /// A client moves without having been asked to.
    Wander(ClientNo),
    /// A node dies; another one starts later.
    Crash { node: usize, back_after: Duration },
    /// A node stands still.
    Pause { node: usize, lasts: Duration },
    /// A node sends its clients away.
    Drain { node: usize },
    /// The backend is away, and comes back with what it had or empty.
    Outage { lasts: Duration, emptied: bool },
}

/// Plans between two and nine faults before `end`.
pub(crate) fn plan(net: &mut Net, clients: usize, end: Duration) {
    for _ in 0..2 + net.dice.below(8) {
        let fault = any(net, clients);
        let at = net.dice.micros(500_000, u64::try_from(end.as_micros()).unwrap_or(u64::MAX));
        net.clock.at(at, Event::Fault(fault));
        // The worst moment for an outage is while somebody moves.
        if matches!(fault, Fault::Outage { .. }) && net.dice.chance(50) {
            let before = net.dice.micros(0, 8_000);
            let client = net.dice.below(clients);
            let moves = if net.dice.chance(50) { Fault::Wander(client) } else { Fault::Reset(client) };
            net.clock.at(at.saturating_sub(before), Event::Fault(moves));
        }
    }
}

fn any(net: &mut Net, clients: usize) -> Fault {
    let client = net.dice.below(clients);
    let node = net.dice.below(8);
    match net.dice.below(100) {
        0..25 => Fault::Reset(client),
        25..35 => Fault::Abandon(client),
        35..40 => Fault::Forget(client),
        40..50 => Fault::Fragile(client),
        50..60 => Fault::Wander(client),
        60..70 => Fault::Crash { node, back_after: net.dice.micros(500_000, 3_000_000) },
        70..80 => Fault::Pause { node, lasts: net.dice.micros(50_000, 5_000_000) },
        80..90 => Fault::Drain { node },
        _ => Fault::Outage { lasts: net.dice.micros(50_000, 3_000_000), emptied: net.dice.chance(50) },
    }
}
