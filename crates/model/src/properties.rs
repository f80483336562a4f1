//! What must always hold, and what must be possible.

use stateright::Property;

use crate::state::{Feed, Life, Node, Progress, Right, State, Turn, Wait};
use crate::{Action, Revocation};

/// I1: what is checked after a revoke was answered is not written, by any node.
pub const NOTHING_CHECKED_LATE: &str = "I1: nothing that is checked after the answer is written";
/// I1, of nodes that acknowledged: not even what was checked before.
pub const ACKNOWLEDGED_WRITES_NOTHING: &str = "I1: a node that acknowledged writes nothing after the answer";
/// I2: the holder of a lease stops to believe in it before anybody calls it run out.
pub const RUN_OUT_IS_NOT_BELIEVED: &str = "I2: a lease that was called run out is not believed";
/// I3.
pub const VERSION_NEVER_GOES_BACK: &str = "I3: the applied version never goes back";
/// I4.
pub const ANSWER_NAMES_ALL: &str = "I4: the answer names every lease that was live at the commit";

pub(crate) fn all() -> Vec<Property<Revocation>> {
    vec![
        Property::always(NOTHING_CHECKED_LATE, |_, state: &State| !state.broken.late_check),
        Property::always(ACKNOWLEDGED_WRITES_NOTHING, |_, state: &State| !state.broken.late_write),
        Property::always(RUN_OUT_IS_NOT_BELIEVED, |_, state: &State| {
            state.nodes.iter().all(|node| !node.is_leased() || node.row.is_some())
        }),
        Property::always(VERSION_NEVER_GOES_BACK, |_, state: &State| !state.broken.went_back),
        Property::always(ANSWER_NAMES_ALL, |_, state: &State| !state.broken.unnamed),
        Property::sometimes("frames are relayed", |_, state: &State| {
            state.nodes.iter().any(|node| matches!(node.turn, Turn::Checked { .. }))
        }),
        Property::sometimes("another node's word is taken", |_, state: &State| {
            let knows = |node: &Node| matches!(node.right, Right::Approved { .. });
            state.frames != 0 && state.nodes.iter().filter(|node| knows(node)).count() > 1
        }),
        Property::sometimes("a revoke is acknowledged by all", |_, state: &State| {
            state.wait == Wait::Answered
                && state.listed(Progress::Acknowledged) >= 2
                && state.listed(Progress::Expired) == 0
        }),
        Property::sometimes("a lease runs out, and its holder is paused and lives", |_, state: &State| {
            let paused = |node: &Node| node.progress == Progress::Expired && node.life == Life::Up;
            state.wait == Wait::Answered && state.nodes.iter().any(paused)
        }),
        Property::sometimes("a node that was called run out relays again", |_, state: &State| {
            state.nodes.iter().any(|node| node.progress == Progress::Expired && node.is_leased())
        }),
        Property::sometimes("a node that starts later is not waited for", |_, state: &State| {
            let late = |node: &Node| node.progress == Progress::Unlisted && node.is_leased();
            state.wait == Wait::Answered && state.nodes.iter().any(late)
        }),
    ]
}

/// Only with [`Revocation::with_progress`].
pub const ENDS_WITHOUT_NODES: &str = "a committed revoke ends although no node does anything any more";
/// Only with [`Revocation::with_progress`].
pub const RECOVERS_ALONE: &str = "a node gets a lease again by itself";

pub(crate) fn progress() -> Vec<Property<Revocation>> {
    vec![
        Property::always(ENDS_WITHOUT_NODES, ends_without_nodes),
        Property::always(RECOVERS_ALONE, recovers_alone),
    ]
}

/// Only time passes, and the waiter looks. What the database was doing is done first: it does not wait for nodes.
fn ends_without_nodes(model: &Revocation, state: &State) -> bool {
    let every = 0..model.bounds.nodes;
    let database = every.flat_map(|node| [false, true].map(|late| Action::Grant { node, late }));
    let looks = [Action::Finish(0), Action::Look(0), Action::Finish(0), Action::Tick(0)];
    let waiting = std::iter::repeat_n(looks, usize::from(model.waiter_term()) + 3).flatten();
    let end = model.run(*state, database.chain(waiting));
    matches!(end.wait, Wait::NotYet | Wait::Answered)
}

/// With one node, since steps sort nodes.
fn recovers_alone(model: &Revocation, state: &State) -> bool {
    let [node, ..] = state.nodes;
    if node.life != Life::Up || matches!(node.feed, Feed::Leaving { .. } | Feed::Gone) {
        return true;
    }
    let database = [Action::Lock { node: 0, late: false }, Action::Grant { node: 0, late: false }];
    let feed = [Action::Check(0), Action::Write(0), Action::Receive(0), Action::Settle(0), Action::Send(0)];
    let turn: Vec<Action> = [Action::Commit].into_iter().chain(database).chain(feed).collect();
    let end = model.run(*state, turn.iter().copied().cycle().take(3 * turn.len()));
    end.nodes[0].is_leased()
}
