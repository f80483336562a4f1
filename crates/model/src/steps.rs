//! What may happen next, and what it leads to.

use stateright::{Model, Property};

use crate::node::{accept, begin, check, give_up, left, remember, send, settle, write};
use crate::state::{Broken, Feed, Life, Node, Sight, State};
use crate::{HOLDER_TERM, Promotion, Revocation, properties};

/// One step. Numbers say at which place of the sorted nodes it happens, or which waiter does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the comment of the variant says what its fields are")]
pub enum Action {
    /// Time passes. Bit `n`: the clock of node `n` is a fast one this time; above the nodes those of the waiters.
    Tick(u8),
    /// A process starts.
    Boot(usize),
    /// Its feed reads the version to begin from.
    Begin(usize),
    /// It crashes.
    Crash(usize),
    /// It begins to stop: its lease is not used from now on.
    Leave(usize),
    /// It gives the lease back.
    Left(usize),
    /// The feed sends a renewal, with all that it has applied as acknowledged.
    Send(usize),
    /// The feed waits no longer for it.
    GiveUp(usize),
    /// The database locks `head` for it and reads the version; `late`: for one that was given up.
    Lock { node: usize, late: bool },
    /// The database writes the row and commits.
    Grant { node: usize, late: bool },
    /// The answer arrives.
    Receive(usize),
    /// The rights are changed.
    Swap(usize),
    /// All turns that began before are over; the version is applied and the lease counts.
    Settle(usize),
    /// A frame of the peer is accepted from its socket, and published with this node's word for the peer.
    Accept(usize),
    /// A frame of the peer arrives, with another node's word as of a version.
    Arrive { node: usize, as_of: u8 },
    /// The peer connects: its right is read from the database.
    Read(usize),
    /// The answer of that read is applied.
    Remember(usize),
    /// The peer's right is needed by nobody and forgotten.
    LetGo(usize),
    /// A turn begins that has a frame to or from the peer: its clock reading.
    BeginTurn(usize),
    /// The last check.
    Check(usize),
    /// The write, and the end of the turn.
    Write(usize),
    /// A change locks `head`.
    Change,
    /// It commits.
    Commit,
    /// A waiter reads the leases.
    Look(usize),
    /// It removes those that have run out, and notes what it saw.
    Finish(usize),
    /// A replica takes the database's place.
    Promote,
}

impl Model for Revocation {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::START]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken != Broken::default() {
            return; // what comes after a violation says nothing more
        }
        let nodes = &state.nodes[..self.bounds.nodes];
        for (n, node) in nodes.iter().enumerate() {
            if n == 0 || nodes[n - 1] != *node {
                self.actions_of(n, node, actions); // of nodes that are alike one is enough
            }
        }
        actions.push(Action::Change);
        if self.bounds.locks {
            actions.push(Action::Commit);
        }
        for waiter in 0..self.bounds.waiters {
            actions.extend([Action::Look(waiter), Action::Finish(waiter)]);
        }
        if self.bounds.promotion != Promotion::Lossless && !state.promoted {
            actions.push(Action::Promote);
        }
        if !self.bounds.time {
            return;
        }
        let clocks = self.bounds.nodes + self.bounds.waiters;
        actions.extend((0..1u8 << clocks).map(Action::Tick));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = *last;
        self.step(&mut state, action)?;
        let mut same = state.nodes.iter().zip(&last.nodes).filter(|(now, before)| now.life == before.life);
        state.broken.went_back |= same.any(|(now, before)| now.applied < before.applied);
        state.nodes[..self.bounds.nodes].sort_unstable();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut all = properties::all();
        if self.progress {
            all.extend(properties::progress());
        }
        all
    }
}

impl Revocation {
    fn actions_of(&self, n: usize, node: &Node, actions: &mut Vec<Action>) {
        if node.life == Life::Down {
            actions.push(Action::Boot(n));
            return;
        }
        for late in [false, true] {
            actions.push(Action::Lock { node: n, late });
            if self.bounds.locks {
                actions.push(Action::Grant { node: n, late });
            }
        }
        if node.life == Life::Dead {
            return;
        }
        if self.bounds.ends {
            actions.extend([Action::Crash(n), Action::Leave(n), Action::Left(n)]);
        }
        if self.bounds.gives_up {
            actions.push(Action::GiveUp(n));
        }
        if self.bounds.words {
            actions.extend((0..=self.bounds.changes).map(|as_of| Action::Arrive { node: n, as_of }));
            actions.extend([Action::Accept(n), Action::Read(n), Action::Remember(n), Action::LetGo(n)]);
        }
        actions.extend([
            Action::Begin(n),
            Action::Send(n),
            Action::Receive(n),
            Action::Swap(n),
            Action::Settle(n),
            Action::BeginTurn(n),
            Action::Check(n),
            Action::Write(n),
        ]);
    }

    /// Carries out a step, if it is possible.
    pub(crate) fn step(&self, state: &mut State, action: Action) -> Option<()> {
        match action {
            Action::Tick(fast) => self.tick(state, fast),
            Action::Boot(n) => self.boot(state, n),
            Action::Begin(n) => begin(state, n)?,
            Action::Crash(n) => state.nodes[n].crash(),
            Action::Leave(n) => self.leave(&mut state.nodes[n])?,
            Action::Left(n) => left(&mut state.nodes[n])?,
            Action::Send(n) => send(&mut state.nodes[n])?,
            Action::GiveUp(n) => give_up(&mut state.nodes[n])?,
            Action::Lock { node, late } => self.lock(state, node, late)?,
            Action::Grant { node, late } => self.grant(&mut state.nodes[node], late)?,
            Action::Receive(n) => self.receive(&mut state.nodes[n])?,
            Action::Swap(n) => self.swap(&mut state.nodes[n])?,
            Action::Settle(n) => settle(&mut state.nodes[n])?,
            Action::Accept(n) => accept(state, n)?,
            Action::Arrive { node, as_of } => self.arrive(state, node, as_of)?,
            Action::Read(n) => self.read(state, n)?,
            Action::Remember(n) => remember(&mut state.nodes[n])?,
            Action::LetGo(n) => self.let_go(&mut state.nodes[n])?,
            Action::BeginTurn(n) => self.begin_turn(state, n)?,
            Action::Check(n) => check(&mut state.nodes[n])?,
            Action::Write(n) => write(state, n)?,
            Action::Change => self.change(state)?,
            Action::Commit => self.commit(state)?,
            Action::Look(waiter) => self.look(state, waiter)?,
            Action::Finish(waiter) => self.finish(state, waiter)?,
            Action::Promote => self.promote(state)?,
        }
        Some(())
    }

    fn tick(&self, state: &mut State, fast: u8) {
        let step = |clock: usize| 1 + (fast >> clock & 1);
        for n in 0..self.bounds.nodes {
            let node = &mut state.nodes[n];
            node.lease = node.lease.saturating_sub(step(n));
            match &mut node.feed {
                Feed::Sent { age } | Feed::Answered { age, .. } | Feed::Settling { age, .. } => {
                    *age = HOLDER_TERM.min(*age + step(n));
                }
                _ => {}
            }
            for waiter in 0..self.bounds.waiters {
                if let Sight::Still(age) = &mut node.sights[waiter] {
                    *age = self.waiter_term().min(*age + step(self.bounds.nodes + waiter));
                }
            }
        }
    }
}
