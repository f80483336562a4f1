//! What the database does, and who looks at the leases in it.

use crate::state::{Look, MAX_WAITERS, Node, Progress, Request, Sight, Snap, State, Wait};
use crate::{Mutation, Promotion, Revocation};

impl Revocation {
    pub(crate) fn lock(&self, state: &mut State, n: usize, late: bool) -> Option<()> {
        if state.changing && !self.has(Mutation::NoShareLock) {
            return None;
        }
        let reached = state.version;
        let request = state.nodes[n].request_mut(late);
        let Request::Queued { applied } = *request else { return None };
        *request = Request::Locked { applied, reached };
        if !self.bounds.locks {
            self.grant(&mut state.nodes[n], late)?;
        }
        Some(())
    }

    pub(crate) fn grant(&self, node: &mut Node, late: bool) -> Option<()> {
        let request = node.request_mut(late);
        let Request::Locked { applied, reached } = *request else { return None };
        *request = if late { Request::No } else { Request::Done { reached } };
        node.row = Some(node.row.map_or(applied, |before| before.max(applied)));
        // Beats are never used twice: whoever compares with the one that was seen finds another from now on.
        if !self.has(Mutation::IgnoresBeat) {
            node.sights = [Sight::Unseen; MAX_WAITERS];
        }
        if !self.has(Mutation::RemovesMovedRow) {
            node.snaps.iter_mut().flatten().for_each(|snap| snap.over = false);
        }
        Some(())
    }

    pub(crate) fn change(&self, state: &mut State) -> Option<()> {
        let blocked = state.is_shared() && !self.has(Mutation::NoShareLock);
        if state.changing || blocked || state.version == self.bounds.changes {
            return None;
        }
        state.changing = true;
        if !self.bounds.locks {
            self.commit(state)?;
        }
        Some(())
    }

    pub(crate) fn commit(&self, state: &mut State) -> Option<()> {
        if !state.changing {
            return None;
        }
        state.changing = false;
        state.version += 1;
        if state.version == self.bounds.changes && state.wait == Wait::NotYet {
            state.wait = Wait::Committed;
            for node in &mut state.nodes {
                node.live_at_commit = node.is_leased();
            }
        }
        Some(())
    }

    pub(crate) fn look(&self, state: &mut State, waiter: usize) -> Option<()> {
        if state.looks[waiter] != Look::No || state.wait == Wait::Answered {
            return None;
        }
        let after_commit = state.wait != Wait::NotYet || self.has(Mutation::StaleLook);
        state.looks[waiter] = Look::Read { after_commit };
        for node in &mut state.nodes {
            node.snaps[waiter] = node.row.map(|acknowledged| {
                let over = node.sights[waiter] == Sight::Still(self.waiter_term());
                Snap { acknowledged: acknowledged >= self.bounds.changes, over }
            });
            if self.bounds.time && node.row.is_some() && node.sights[waiter] == Sight::Unseen {
                node.sights[waiter] = Sight::Still(0);
            }
        }
        Some(())
    }

    pub(crate) fn finish(&self, state: &mut State, waiter: usize) -> Option<()> {
        let Look::Read { after_commit } = state.looks[waiter] else { return None };
        state.looks[waiter] = Look::No;
        let notes = waiter == 0 && after_commit && state.version == self.bounds.changes;
        let first = state.wait == Wait::Committed;
        for node in &mut state.nodes {
            let snap = node.snaps[waiter].take();
            if snap.is_some_and(|snap| snap.over) && node.row.is_some() {
                node.remove_row();
            }
            if notes {
                node.note(snap, first);
            }
        }
        if !notes {
            return Some(());
        }
        state.wait = Wait::Following;
        if state.nodes.iter().all(|node| node.progress != Progress::Waiting) {
            answer(state);
        }
        Some(())
    }

    pub(crate) fn promote(&self, state: &mut State) -> Option<()> {
        if state.promoted || state.changing || state.is_shared() {
            return None;
        }
        state.promoted = true;
        match self.bounds.promotion {
            Promotion::Lossless => return None,
            Promotion::LosesChange => state.version = state.version.checked_sub(1)?,
            Promotion::LosesLeases => state.nodes.iter_mut().for_each(|node| {
                node.row = None;
            }),
        }
        Some(())
    }
}

/// From here on only nodes and their turns matter; what the waiters knew is dropped.
fn answer(state: &mut State) {
    state.wait = Wait::Answered;
    state.looks = [Look::No; MAX_WAITERS];
    for node in &mut state.nodes {
        state.broken.unnamed |= node.live_at_commit && node.progress == Progress::Unlisted;
        node.live_at_commit = false;
        node.sights = [Sight::Unseen; MAX_WAITERS];
        node.snaps = [None; MAX_WAITERS];
    }
}

impl Node {
    fn request_mut(&mut self, late: bool) -> &mut Request {
        if late { &mut self.late_request } else { &mut self.request }
    }

    fn note(&mut self, snap: Option<Snap>, first: bool) {
        if first && snap.is_some() {
            self.progress = Progress::Waiting;
        }
        if self.progress == Progress::Waiting {
            self.progress = match snap {
                Some(Snap { acknowledged: true, .. }) => Progress::Acknowledged,
                Some(Snap { over: false, .. }) => Progress::Waiting,
                Some(_) | None => Progress::Expired,
            };
        }
    }
}
