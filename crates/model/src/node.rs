//! What a node does: its feed, the rights that it holds, its turns of writing.

use crate::state::{Feed, Life, Node, Progress, Request, Right, State, Turn, Wait};
use crate::{HOLDER_TERM, Mutation, Revocation};

impl Revocation {
    /// No rights are read before the feed has begun, so that the two are one step.
    pub(crate) fn boot(&self, state: &mut State, n: usize) {
        state.nodes[n].life = Life::Up;
        if !self.has(Mutation::ReadsBeforeBegin) {
            begin(state, n);
        }
        if !self.bounds.words && state.version < self.bounds.changes {
            state.nodes[n].right = Right::Approved { beyond: false };
        }
    }

    pub(crate) fn leave(&self, node: &mut Node) -> Option<()> {
        if node.feed != Feed::Idle || !node.begun {
            return None;
        }
        if self.has(Mutation::GivesBackInUse) {
            node.remove_row();
            node.feed = Feed::Gone;
            return Some(());
        }
        node.lease = 0;
        node.feed = Feed::Leaving { busy: node.turn != Turn::No };
        Some(())
    }

    pub(crate) fn receive(&self, node: &mut Node) -> Option<()> {
        let (Feed::Sent { age }, Request::Done { reached }) = (node.feed, node.request) else { return None };
        node.request = Request::No;
        if reached < node.applied && !self.has(Mutation::BelievesOldDatabase) {
            node.feed = Feed::Idle; // the database went back: a lease from it says nothing
            return Some(());
        }
        let age = if self.has(Mutation::LeaseFromReceipt) { 0 } else { age };
        if self.has(Mutation::LeaseBeforeApply) {
            node.renewed(age);
        }
        if self.has(Mutation::AcknowledgesBeforeSwap)
            && reached == self.bounds.changes
            && node.applied < reached
        {
            node.renewed(age);
            node.applied = reached;
            node.feed = Feed::Owing { reached };
            return Some(());
        }
        node.feed = Feed::Answered { age, reached };
        if !self.has(Mutation::LeaseBeforeApply) {
            self.swap(node)?; // nothing happens between that others could see
        }
        Some(())
    }

    pub(crate) fn swap(&self, node: &mut Node) -> Option<()> {
        match node.feed {
            Feed::Answered { age, reached } => {
                let revokes = reached == self.bounds.changes && node.applied < reached;
                if revokes {
                    node.revoked();
                }
                if !revokes {
                    node.carried_out(age, reached);
                    if self.has(Mutation::BelievesOldDatabase) {
                        node.applied = reached;
                    }
                    return Some(());
                }
                let waits = !self.has(Mutation::AcknowledgesBeforeSettling);
                node.feed = Feed::Settling { age, reached, busy: waits && node.turn != Turn::No };
            }
            Feed::Owing { .. } => {
                node.revoked();
                node.feed = Feed::Idle;
            }
            _ => return None,
        }
        Some(())
    }

    pub(crate) fn arrive(&self, state: &mut State, n: usize, as_of: u8) -> Option<()> {
        let node = &mut state.nodes[n];
        let known = as_of >= node.horizon || self.has(Mutation::VouchesForever);
        if state.frames >> as_of & 1 == 0 || !node.begun || !known {
            return None;
        }
        node.vouched(as_of >= self.bounds.changes);
        Some(())
    }

    pub(crate) fn read(&self, state: &mut State, n: usize) -> Option<()> {
        let approved = state.version < self.bounds.changes;
        let node = &mut state.nodes[n];
        let may = node.begun || self.has(Mutation::ReadsBeforeBegin);
        if !may || node.reading.is_some() || node.right != Right::Unknown {
            return None;
        }
        node.reading = Some(approved);
        Some(())
    }

    /// Some minutes after it was needed last. A read that is under way needs it.
    pub(crate) fn let_go(&self, node: &mut Node) -> Option<()> {
        if node.reading.is_some() {
            return None;
        }
        if node.right == Right::Revoked {
            node.horizon = node.horizon.max(self.bounds.changes);
        }
        node.right = Right::Unknown;
        Some(())
    }

    pub(crate) fn begin_turn(&self, state: &mut State, n: usize) -> Option<()> {
        let late = state.wait == Wait::Answered;
        let node = &mut state.nodes[n];
        if node.turn != Turn::No || !node.is_leased() {
            return None;
        }
        node.turn = Turn::Begun { late };
        if !self.bounds.words {
            check(node)?; // where rights only ever get lost, the earliest check is the worst one
        }
        Some(())
    }
}

pub(crate) fn settle(node: &mut Node) -> Option<()> {
    let Feed::Settling { age, reached, busy: false } = node.feed else { return None };
    node.carried_out(age, reached);
    Some(())
}

pub(crate) fn begin(state: &mut State, n: usize) -> Option<()> {
    let version = state.version;
    let node = &mut state.nodes[n];
    if node.begun {
        return None;
    }
    node.begun = true;
    (node.applied, node.horizon) = (version, version);
    Some(())
}

pub(crate) fn left(node: &mut Node) -> Option<()> {
    if node.feed != (Feed::Leaving { busy: false }) {
        return None;
    }
    node.remove_row();
    node.feed = Feed::Gone;
    Some(())
}

pub(crate) fn send(node: &mut Node) -> Option<()> {
    let idle = matches!(node.feed, Feed::Idle | Feed::Owing { .. });
    if !idle || !node.begun || node.request != Request::No {
        return None;
    }
    node.request = Request::Queued { applied: node.applied };
    if node.feed == Feed::Idle {
        node.feed = Feed::Sent { age: 0 };
    }
    Some(())
}

pub(crate) fn give_up(node: &mut Node) -> Option<()> {
    let Feed::Sent { .. } = node.feed else { return None };
    match (node.request, node.late_request) {
        (Request::Done { .. }, _) => {}
        (request, Request::No) => node.late_request = request,
        _ => return None,
    }
    node.request = Request::No;
    node.feed = Feed::Idle;
    Some(())
}

pub(crate) fn accept(state: &mut State, n: usize) -> Option<()> {
    let node = &state.nodes[n];
    if !node.is_leased() || !matches!(node.right, Right::Approved { .. }) {
        return None;
    }
    state.frames |= 1 << node.applied;
    Some(())
}

pub(crate) fn remember(node: &mut Node) -> Option<()> {
    let approved = node.reading.take()?;
    if approved {
        node.vouched(false);
    } else {
        node.revoked();
    }
    Some(())
}

/// The lease was checked with the clock reading at the turn's begin, however long ago that is; the right now.
pub(crate) fn check(node: &mut Node) -> Option<()> {
    let Turn::Begun { late } = node.turn else { return None };
    if matches!(node.right, Right::Approved { .. }) {
        node.turn = Turn::Checked { late };
    } else {
        node.end_turn();
    }
    Some(())
}

pub(crate) fn write(state: &mut State, n: usize) -> Option<()> {
    let answered = state.wait == Wait::Answered;
    let node = &mut state.nodes[n];
    let Turn::Checked { late } = node.turn else { return None };
    node.end_turn();
    state.broken.late_check |= late;
    state.broken.late_write |= answered && node.progress == Progress::Acknowledged;
    Some(())
}

impl Node {
    fn carried_out(&mut self, age: u8, reached: u8) {
        self.applied = self.applied.max(reached);
        self.renewed(age);
        self.feed = Feed::Idle;
    }

    fn renewed(&mut self, age: u8) {
        self.lease = self.lease.max(HOLDER_TERM - age);
    }
}
