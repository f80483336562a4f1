//! All local programs, and what is kept while there are none.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use heliograph_core::id::PeerId;
use tokio::time::{Instant, timeout_at};

use super::Bounds;
use super::forms::{self, Line, Notice};
use super::queue::Queue;

/// Tells all programs what happens. One order of notices for all, in which a new program has its place: it is told
/// once of each open channel, either when it comes or when the channel opens.
#[derive(Debug)]
pub(crate) struct Hub {
    inside: Mutex<Inside>,
    pub(super) bounds: Bounds,
}

#[derive(Debug, Default)]
struct Inside {
    programs: BTreeMap<u64, Arc<Queue>>,
    /// Programs that do not listen any more, and may have said something that has not been read yet.
    deaf: usize,
    last_number: u64,
    /// Those with an open channel.
    open: BTreeSet<PeerId>,
    kept: Kept,
}

/// Messages for the first program that comes to stay. While there are some, new ones queue up behind them.
#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
    /// How many came before those and had to go.
    missed: u64,
}

impl Hub {
    /// Without programs.
    pub(crate) fn new() -> Arc<Self> {
        Self::with(Bounds::DEFAULT)
    }

    pub(super) fn with(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { inside: Mutex::default(), bounds })
    }

    /// How many programs there are.
    pub(crate) fn programs(&self) -> usize {
        self.inside().programs.len()
    }

    /// Tells all programs, then waits until each has room for more: whoever reads slowly slows down what comes from
    /// the peers, and nothing is lost. A program that gives no room in [`Bounds::stall`] is cut off.
    ///
    /// Cancelling it takes back nothing.
    pub(crate) async fn tell(&self, notice: Notice) {
        let full = self.hand_out(&notice);
        let deadline = Instant::now() + self.bounds.stall;
        for (number, queue) in full {
            if timeout_at(deadline, queue.room()).await.is_err() {
                tracing::warn!("a local program does not read what it is sent; it is cut off");
                queue.cut();
                self.inside().programs.remove(&number);
            }
        }
    }

    /// Puts a notice into all queues. The programs whose queue is full now.
    fn hand_out(&self, notice: &Notice) -> Vec<(u64, Arc<Queue>)> {
        let line = notice.line();
        let mut inside = self.inside();
        match notice {
            Notice::Message { .. } => inside.message(line, &self.bounds),
            Notice::PeerConnected(peer) => {
                inside.open.insert(peer.clone());
                inside.push_to_all(&line);
            }
            Notice::PeerDisconnected(peer) => {
                inside.open.remove(peer);
                inside.push_to_all(&line);
            }
            Notice::Status(_) => inside.push_to_all(&line),
        }
        let full = inside.programs.iter().filter(|(_, queue)| !queue.has_room());
        full.map(|(number, queue)| (*number, Arc::clone(queue))).collect()
    }

    /// Lets a program in, unless there are too many. It is told of each open channel.
    pub(super) fn attach(self: &Arc<Self>) -> Option<Program> {
        let mut inside = self.inside();
        if inside.programs.len() + inside.deaf >= self.bounds.programs {
            return None;
        }
        let queue = Arc::new(Queue::new(self.bounds.queue_lines, self.bounds.queue_bytes));
        inside.open.iter().for_each(|peer| queue.push(forms::peer_connected(peer)));
        inside.last_number += 1;
        let number = inside.last_number;
        inside.programs.insert(number, Arc::clone(&queue));
        Some(Program { hub: Arc::clone(self), number, queue, is_deaf: false })
    }

    /// One of the programs has come to stay: what was kept is handed out.
    pub(super) fn settle(&self) {
        self.inside().hand_out_kept();
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn message(&mut self, line: Line, bounds: &Bounds) {
        let is_nobody_there = self.programs.is_empty();
        if is_nobody_there || !self.kept.lines.is_empty() {
            self.kept.push(line);
            if !self.kept.is_within(bounds) && !is_nobody_there {
                self.hand_out_kept();
            }
            self.kept.forget_oldest(bounds);
            return;
        }
        self.push_to_all(&line);
    }

    fn push_to_all(&self, line: &Line) {
        self.programs.values().for_each(|queue| queue.push(Arc::clone(line)));
    }

    fn hand_out_kept(&mut self) {
        let kept = std::mem::take(&mut self.kept);
        if kept.missed > 0 {
            self.push_to_all(&forms::missed(kept.missed));
        }
        kept.lines.iter().for_each(|line| self.push_to_all(line));
    }
}

impl Kept {
    fn push(&mut self, line: Line) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    fn is_within(&self, bounds: &Bounds) -> bool {
        self.lines.len() <= bounds.kept_lines && self.bytes <= bounds.kept_bytes
    }

    fn forget_oldest(&mut self, bounds: &Bounds) {
        while !self.is_within(bounds) {
            let Some(oldest) = self.lines.pop_front() else { return };
            self.bytes -= oldest.len();
            self.missed += 1;
        }
    }
}

/// A program that is there; it is not any more when this is dropped.
#[derive(Debug)]
pub(super) struct Program {
    hub: Arc<Hub>,
    number: u64,
    pub(super) queue: Arc<Queue>,
    is_deaf: bool,
}

impl Program {
    /// It does not listen any more: what comes is for the others, or kept for the next one.
    pub(super) fn goes_deaf(&mut self) {
        let mut inside = self.hub.inside();
        inside.programs.remove(&self.number);
        inside.deaf += usize::from(!self.is_deaf);
        self.is_deaf = true;
        self.queue.finish();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let mut inside = self.hub.inside();
        inside.programs.remove(&self.number);
        inside.deaf -= usize::from(self.is_deaf);
        self.queue.finish();
    }
}
