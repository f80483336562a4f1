//! Which channels this node wants to receive, and what its subscribers have said to Redis so far.
//!
//! Everything is a level, nothing an event: callers set what is wanted, a subscriber compares that with what it said on
//! its present connection and says the difference. So a connection that breaks in the middle of saying everything again
//! leaves nothing out, and whoever calls last has the last word.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use tokio::sync::oneshot;

use super::keys::{PARTITIONS, Partition};
use super::resp::{write_argument, write_command};
use crate::Destination;

/// Most channels in one command.
pub(crate) const MAX_CHANNELS: usize = 512;

/// Which connection said something; no two have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Generation(pub(crate) u64);

/// Answers a caller when Redis has confirmed the last that was said: whether the channel is subscribed.
type Answer = oneshot::Sender<bool>;

struct Entry {
    destination: Destination,
    wanted: bool,
    /// Whether it stands in `changed`.
    noted: bool,
    /// The connection that `said` and `unconfirmed` are about.
    generation: Generation,
    /// Whether the last command was to subscribe.
    said: bool,
    /// Commands that Redis has not confirmed yet.
    unconfirmed: u32,
    waiting: Vec<Answer>,
}

impl Entry {
    fn is_settled(&self) -> bool {
        !self.noted && self.unconfirmed == 0 && self.wanted == self.said
    }

    fn answer(&mut self) {
        for waiting in self.waiting.drain(..) {
            let _caller_left = waiting.send(self.said);
        }
    }

    /// Nothing was said on `generation` yet.
    fn begin(&mut self, generation: Generation) {
        if self.generation != generation {
            (self.generation, self.said, self.unconfirmed) = (generation, false, 0);
        }
    }
}

#[derive(Default)]
struct Part {
    channels: HashMap<Arc<[u8]>, Entry, RandomState>,
    /// Channels of which something is to be said, each once.
    changed: VecDeque<Arc<[u8]>>,
}

/// What a confirmation was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// The answer to a command.
    Asked,
    /// Redis unsubscribed us on its own: another node serves the channel now. It is said again at the next
    /// [`Subscriptions::restart`].
    Lost,
    /// Of no meaning.
    Stale,
}

/// Whether and how this node is subscribed to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Own {
    No,
    Yes,
    /// A command is on its way.
    Perhaps,
}

/// A command to write, and how many confirmations it will have.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Commands {
    pub(crate) subscribed: usize,
    pub(crate) unsubscribed: usize,
}

/// All channels of this node.
pub(crate) struct Subscriptions {
    parts: Box<[Mutex<Part>]>,
    /// Whether a part has anything in `changed`; saves its lock.
    pending: Box<[AtomicBool]>,
}

impl Subscriptions {
    pub(crate) fn new() -> Self {
        Self {
            parts: (0..PARTITIONS).map(|_| Mutex::default()).collect(),
            pending: (0..PARTITIONS).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    fn part(&self, partition: Partition) -> MutexGuard<'_, Part> {
        // Each critical section leaves a part consistent at every step.
        self.parts[partition.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, partition: Partition, part: &mut Part, channel: &Arc<[u8]>) {
        if let Some(entry) = part.channels.get_mut(channel).filter(|entry| !entry.noted) {
            entry.noted = true;
            part.changed.push_back(Arc::clone(channel));
        }
        self.pending[partition.index()].store(true, Ordering::Release);
    }

    /// Makes the channel wanted. Answers what to wait for; `None` if it is subscribed already. The flag says whether
    /// this call made the difference.
    pub(crate) fn want(
        &self,
        partition: Partition,
        channel: &[u8],
        destination: &Destination,
    ) -> (Option<oneshot::Receiver<bool>>, bool) {
        let mut part = self.part(partition);
        let (channel, entry) = match part.channels.get_key_value(channel) {
            Some((known, _)) => (Arc::clone(known), None),
            None => (Arc::from(channel), Some(destination)),
        };
        if let Some(destination) = entry {
            let entry = Entry {
                destination: destination.clone(),
                wanted: false,
                noted: false,
                generation: Generation::default(),
                said: false,
                unconfirmed: 0,
                waiting: vec![],
            };
            part.channels.insert(Arc::clone(&channel), entry);
        }
        let Some(entry) = part.channels.get_mut(&channel) else { return (None, false) };
        let changed = !entry.wanted;
        entry.wanted = true;
        if entry.is_settled() {
            return (None, changed);
        }
        let (answer, receiver) = oneshot::channel();
        entry.waiting.retain(|waiting| !waiting.is_closed());
        entry.waiting.push(answer);
        self.note(partition, &mut part, &channel);
        (Some(receiver), changed)
    }

    /// Makes the channel unwanted. Answers what to wait for; `None` if it is not subscribed.
    pub(crate) fn unwant(&self, partition: Partition, channel: &[u8]) -> Option<oneshot::Receiver<bool>> {
        let mut part = self.part(partition);
        let (channel, entry) = part.channels.get_key_value(channel)?;
        let channel = Arc::clone(channel);
        let idle = !entry.said && entry.unconfirmed == 0;
        let entry = part.channels.get_mut(&channel)?;
        entry.wanted = false;
        if idle {
            entry.answer();
            if entry.noted {
                // While Redis is away nobody reads the list: it must not grow with each that comes and goes.
                part.changed.retain(|changed| !Arc::ptr_eq(changed, &channel));
            }
            part.channels.remove(&channel);
            return None;
        }
        let (answer, receiver) = oneshot::channel();
        entry.waiting.retain(|waiting| !waiting.is_closed());
        entry.waiting.push(answer);
        self.note(partition, &mut part, &channel);
        Some(receiver)
    }

    /// Takes back a [`Self::want`] that was not answered in time, unless the channel was subscribed since.
    pub(crate) fn give_up(&self, partition: Partition, channel: &[u8]) {
        let settled = |entry: &Entry| entry.wanted && entry.is_settled();
        if !self.part(partition).channels.get(channel).is_some_and(settled) {
            let _nobody_waits = self.unwant(partition, channel);
        }
    }

    /// How many channels are wanted.
    pub(crate) fn len(&self) -> usize {
        Partition::all().map(|partition| self.part(partition).channels.len()).sum()
    }

    /// Whose channel it is, if it is wanted.
    pub(crate) fn destination(&self, partition: Partition, channel: &[u8]) -> Option<Destination> {
        let part = self.part(partition);
        part.channels.get(channel).filter(|entry| entry.wanted).map(|entry| entry.destination.clone())
    }

    /// Whether this node counts among the receivers of the channel.
    pub(crate) fn own(&self, partition: Partition, channel: &[u8]) -> Own {
        match self.part(partition).channels.get(channel) {
            Some(entry) if entry.unconfirmed > 0 => Own::Perhaps,
            Some(entry) if entry.said => Own::Yes,
            _ => Own::No,
        }
    }

    /// Everything in the partition is to be said anew on `generation`.
    pub(crate) fn restart(&self, partition: Partition, generation: Generation) {
        let mut part = self.part(partition);
        let channels: Vec<_> = part.channels.keys().cloned().collect();
        for channel in channels {
            if let Some(entry) = part.channels.get_mut(&channel) {
                entry.begin(generation);
            }
            self.note(partition, &mut part, &channel);
        }
    }

    /// A connection is gone, and what was said on it.
    pub(crate) fn forget(&self, generation: Generation) {
        for partition in Partition::all() {
            let mut part = self.part(partition);
            // What nobody wants is forgotten altogether, and whoever waits for that is answered.
            let Part { channels, changed } = &mut *part;
            channels.retain(|_, entry| entry.wanted || entry.generation != generation);
            changed.retain(|channel| channels.contains_key(channel));
            let said = part.channels.iter().filter(|(_, entry)| entry.generation == generation);
            let said: Vec<_> = said.map(|(channel, _)| Arc::clone(channel)).collect();
            for channel in said {
                if let Some(entry) = part.channels.get_mut(&channel) {
                    entry.begin(Generation::default());
                }
                self.note(partition, &mut part, &channel);
            }
        }
    }

    /// Whether something is to be said in one of the partitions.
    pub(crate) fn is_pending(&self, partitions: &[Partition]) -> bool {
        partitions.iter().any(|partition| self.pending[partition.index()].load(Ordering::Acquire))
    }

    /// Writes commands for what changed: at most one to subscribe and one to unsubscribe, of one slot each if
    /// `one_slot`.
    pub(crate) fn write_commands(
        &self,
        partitions: &[Partition],
        generation: Generation,
        (sharded, one_slot): (bool, bool),
        to: &mut Vec<u8>,
    ) -> Commands {
        let (mut subscribe, mut unsubscribe) = (vec![], vec![]);
        for &partition in partitions {
            if !self.pending[partition.index()].swap(false, Ordering::AcqRel) {
                continue;
            }
            let mut part = self.part(partition);
            while subscribe.len().max(unsubscribe.len()) < MAX_CHANNELS {
                let Some(channel) = part.changed.pop_front() else { break };
                match part.say(&channel, generation) {
                    Some(true) => subscribe.push(channel),
                    Some(false) => unsubscribe.push(channel),
                    None => {}
                }
            }
            if !part.changed.is_empty() {
                self.pending[partition.index()].store(true, Ordering::Release);
                break;
            }
            if one_slot && !(subscribe.is_empty() && unsubscribe.is_empty()) {
                break;
            }
        }
        let words =
            if sharded { [&b"SSUBSCRIBE"[..], b"SUNSUBSCRIBE"] } else { [&b"SUBSCRIBE"[..], b"UNSUBSCRIBE"] };
        for (word, channels) in words.into_iter().zip([&subscribe, &unsubscribe]) {
            if !channels.is_empty() {
                write_command(to, channels.len() + 1);
                write_argument(to, word);
                for channel in channels {
                    write_argument(to, channel);
                }
            }
        }
        Commands { subscribed: subscribe.len(), unsubscribed: unsubscribe.len() }
    }

    /// Redis confirmed that a channel is subscribed, or is not.
    pub(crate) fn confirm(
        &self,
        partition: Partition,
        channel: &[u8],
        subscribed: bool,
        generation: Generation,
    ) -> Confirmed {
        let mut part = self.part(partition);
        let Some((channel, _)) = part.channels.get_key_value(channel) else { return Confirmed::Stale };
        let channel = Arc::clone(channel);
        let Some(entry) = part.channels.get_mut(&channel) else { return Confirmed::Stale };
        if entry.generation != generation {
            return Confirmed::Stale;
        }
        if entry.unconfirmed == 0 {
            if subscribed || !entry.said {
                return Confirmed::Stale;
            }
            entry.said = false;
            return Confirmed::Lost;
        }
        entry.unconfirmed -= 1;
        if entry.is_settled() {
            entry.answer();
            if !entry.wanted {
                part.channels.remove(&channel);
            }
        }
        Confirmed::Asked
    }
}

impl Part {
    /// What to say of a channel that changed: to subscribe, to unsubscribe, or nothing.
    fn say(&mut self, channel: &Arc<[u8]>, generation: Generation) -> Option<bool> {
        let entry = self.channels.get_mut(channel)?;
        entry.noted = false;
        entry.begin(generation);
        if entry.wanted != entry.said {
            entry.said = entry.wanted;
            entry.unconfirmed += 1;
            return Some(entry.said);
        }
        if entry.is_settled() {
            entry.answer();
            if !entry.wanted {
                self.channels.remove(channel);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
