//! What waits to be published on one shard.
//!
//! Sending writes the command into one buffer, ready for the socket; the publisher takes the whole buffer. So a message
//! costs no allocation of its own, and the more wait the larger the next write.

use std::sync::{Mutex, MutexGuard, PoisonError};

use heliograph_core::id::GatewayId;
use tokio::sync::Notify;

use super::frame::{TooLarge, encode};
use super::keys::Prefix;
use super::resp::{write_argument, write_command};
use crate::{Destination, Heir, Parcel, Sent, TakeOver, Witness};

/// Most parcels that wait.
const MAX_PARCELS: usize = 16_384;
/// Most bytes that wait.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Buffers that grew beyond this are given back, in bytes.
const KEEP_BYTES: usize = 1024 * 1024;

/// What to do when the answer to a command is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Tell the sender if nobody received it.
    Signal(Destination, Witness),
    /// Tell the session that waits if nobody received it.
    TakeOver(Heir),
    /// Nobody asks.
    Other,
    /// A probe of that number.
    Probe(u64),
}

impl Note {
    /// What has to be known of a parcel until its answer is there.
    pub(crate) fn of(destination: Destination, parcel: Parcel) -> Self {
        match parcel {
            Parcel::Signal(signal) => {
                let witness = Witness { from: signal.from, from_epoch: signal.from_epoch, id: signal.id };
                Self::Signal(destination, witness)
            }
            Parcel::TakeOver(TakeOver { space, peer, by, .. }) => Self::TakeOver(Heir { space, peer, by }),
            _ => Self::Other,
        }
    }
}

/// Commands in the order of sending, and a note for each.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) notes: Vec<Note>,
}

#[derive(Default)]
struct Waiting {
    /// Whether there is a connection. Under the same lock, so that nothing slips in after the last batch was failed.
    open: bool,
    batch: Batch,
    channel: Vec<u8>,
    frame: Vec<u8>,
}

/// The queue between senders and the publisher of one shard.
pub(crate) struct Outbound {
    /// `SPUBLISH` or `PUBLISH`.
    word: &'static [u8],
    waiting: Mutex<Waiting>,
    filled: Notify,
}

impl Outbound {
    pub(crate) fn new(sharded: bool) -> Self {
        Self {
            word: if sharded { b"SPUBLISH" } else { b"PUBLISH" },
            waiting: Mutex::default(),
            filled: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // What a panic could leave behind is a command cut short, which `open` would have to follow first.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a parcel.
    pub(crate) fn send(
        &self,
        prefix: &Prefix,
        sender: &GatewayId,
        destination: Destination,
        parcel: Parcel,
    ) -> Result<Sent, TooLarge> {
        let mut waiting = self.lock();
        let Waiting { open, batch, channel, frame } = &mut *waiting;
        if !*open {
            return Ok(Sent::Down);
        }
        if batch.notes.len() >= MAX_PARCELS || batch.bytes.len() >= MAX_BYTES {
            return Ok(Sent::Full);
        }
        channel.clear();
        frame.clear();
        prefix.write_channel(channel, &destination);
        encode(frame, sender, &parcel)?;
        self.write(batch, channel, frame);
        batch.notes.push(Note::of(destination, parcel));
        trim(frame);
        drop(waiting);
        self.filled.notify_one();
        Ok(Sent::Queued)
    }

    /// Queues a probe; answers whether it could.
    pub(crate) fn probe(&self, channel: &[u8], number: u64) -> bool {
        let mut waiting = self.lock();
        let Waiting { open, batch, .. } = &mut *waiting;
        let queued = *open && batch.notes.len() < MAX_PARCELS;
        if queued {
            self.write(batch, channel, number.to_string().as_bytes());
            batch.notes.push(Note::Probe(number));
        }
        drop(waiting);
        self.filled.notify_one();
        queued
    }

    fn write(&self, batch: &mut Batch, channel: &[u8], frame: &[u8]) {
        write_command(&mut batch.bytes, 3);
        for argument in [self.word, channel, frame] {
            write_argument(&mut batch.bytes, argument);
        }
    }

    /// There is a connection.
    pub(crate) fn open(&self) {
        self.lock().open = true;
    }

    /// There is none; answers what waited.
    pub(crate) fn close(&self) -> Vec<Note> {
        let mut waiting = self.lock();
        waiting.open = false;
        std::mem::take(&mut waiting.batch).notes
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().open
    }

    /// Swaps what waits with `spent`, which becomes the next buffer. False if nothing waits.
    pub(crate) fn take(&self, spent: &mut Batch) -> bool {
        spent.bytes.clear();
        spent.notes.clear();
        trim(&mut spent.bytes);
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.batch, spent);
        !spent.notes.is_empty()
    }

    /// Returns when something may wait.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}

fn trim(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP_BYTES {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use heliograph_core::id::{Epoch, MeshName, PeerId};

    use super::*;
    use crate::redis::resp::{Value, parse};
    use crate::testing::signal;

    fn to() -> Destination {
        Destination::Peer(MeshName::default_mesh().into(), PeerId::parse("b").unwrap())
    }

    fn send(outbound: &Outbound, parcel: Parcel) -> Result<Sent, TooLarge> {
        outbound.send(&Prefix::default(), &GatewayId::parse("gw").unwrap(), to(), parcel)
    }

    fn opened() -> Outbound {
        let outbound = Outbound::new(true);
        outbound.open();
        outbound
    }

    #[test]
    fn a_batch_is_commands_in_order_with_a_note_each() {
        let outbound = opened();
        assert_eq!(send(&outbound, signal("a", "1")), Ok(Sent::Queued));
        assert_eq!(send(&outbound, Parcel::Drain { on: true }), Ok(Sent::Queued));
        assert!(outbound.probe(b"c", 7));
        let mut batch = Batch::default();
        assert!(outbound.take(&mut batch));
        let witness = Witness { from: PeerId::parse("a").unwrap(), from_epoch: Epoch(1), id: None };
        assert_eq!(batch.notes, [Note::Signal(to(), witness), Note::Other, Note::Probe(7)]);
        let mut rest = &batch.bytes[..];
        for _ in 0..3 {
            let (command, length) = parse(rest).unwrap().unwrap();
            assert_eq!(command.elements()[0], Value::Text(b"SPUBLISH"));
            rest = &rest[length..];
        }
        assert!(rest.is_empty());
        assert!(!outbound.take(&mut batch));
    }

    #[test]
    fn no_more_wait_than_allowed() {
        let outbound = opened();
        for _ in 0..MAX_PARCELS {
            assert_eq!(send(&outbound, Parcel::Drain { on: true }), Ok(Sent::Queued));
        }
        assert_eq!(send(&outbound, Parcel::Drain { on: true }), Ok(Sent::Full));
        assert!(!outbound.probe(b"c", 1));
        let big = "x".repeat(MAX_BYTES / 8);
        let outbound = opened();
        let sent: Vec<_> = (0..10).map(|_| send(&outbound, signal("a", &big))).collect();
        assert_eq!(sent.iter().filter(|sent| **sent == Ok(Sent::Queued)).count(), 8);
        assert_eq!(sent.last(), Some(&Ok(Sent::Full)));
    }

    #[test]
    fn without_a_connection_nothing_is_queued() {
        let outbound = Outbound::new(false);
        assert_eq!(send(&outbound, signal("a", "1")), Ok(Sent::Down));
        outbound.open();
        assert_eq!(send(&outbound, signal("a", "2")), Ok(Sent::Queued));
        assert_eq!(outbound.close().len(), 1);
        assert_eq!(send(&outbound, signal("a", "3")), Ok(Sent::Down));
        assert!(!outbound.probe(b"c", 1));
    }

    #[test]
    fn what_is_too_large_leaves_nothing_behind() {
        let outbound = opened();
        assert_eq!(send(&outbound, signal("a", &"x".repeat(17 * 1024 * 1024))), Err(TooLarge));
        assert!(!outbound.take(&mut Batch::default()));
    }
}
