//! What was written to a client and may not have reached it: kept until the client shows that it did, so that a
//! client that lost its connection gets it again (DESIGN G7).
//!
//! The kernel takes what we write whether or not the client is still there. So messages and receipts for a client
//! that may resume are numbered; a pong shows that everything before its ping has arrived, and a client that comes
//! back says which number it saw last.

use std::collections::VecDeque;

use crate::limits;
use crate::message::{Receipt, Signal};

/// Something that was written under a number.
#[derive(Debug, Clone)]
pub enum Written {
    /// A message of another peer.
    Signal(Signal),
    /// What became of a message of the client's own.
    Receipt(Receipt),
}

impl Written {
    fn bytes(&self) -> usize {
        match self {
            Self::Signal(signal) => signal.payload.len(),
            Self::Receipt(_) => 0,
        }
    }
}

/// Numbers what is written and keeps the latest of it. Bounded by [`limits::REPLAY_ENTRIES`] and
/// [`limits::REPLAY_BYTES`]: beyond, the oldest are let go, and counted as lost if the client turns out not to have
/// them.
#[derive(Debug, Default)]
pub struct Replay {
    kept: VecDeque<(u64, Written)>,
    bytes: usize,
    /// Numbers that were given, 0 before the first.
    last: u64,
    /// Up to here senders were told that it was written.
    confirmed: u64,
}

/// What is left for a client that comes back.
#[derive(Debug, Default)]
pub struct Rest {
    /// What it has not got, with numbers. Whoever was told already that a message was written wants no receipt now.
    pub again: Vec<(u64, Written)>,
    /// What it has got, although the write was cut off before we knew: senders are still to be told.
    pub arrived: Vec<Signal>,
    /// How much that it has not got is not kept any more.
    pub lost: u64,
}

impl Replay {
    /// Goes on where a former session was: `next` is the next number, and up to `confirmed` senders were told.
    pub fn from(next: u64, confirmed: u64) -> Self {
        let last = next.saturating_sub(1);
        Self { last, confirmed: confirmed.min(last), ..Self::default() }
    }

    /// Numbers `written` and keeps it.
    pub fn push(&mut self, written: Written) -> u64 {
        self.last += 1;
        self.keep(self.last, written);
        self.last
    }

    /// Keeps what already has a number, and is written again.
    pub fn keep(&mut self, seq: u64, written: Written) {
        self.bytes += written.bytes();
        self.kept.push_back((seq, written));
        while self.kept.len() > limits::REPLAY_ENTRIES || self.bytes > limits::REPLAY_BYTES {
            self.forget_first();
        }
    }

    /// Everything so far was written wholly, and senders were told.
    pub fn confirm(&mut self) {
        self.confirmed = self.last;
    }

    /// The last number that was given; 0 before the first.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Whether so much is kept that the client should be asked for a sign.
    pub fn is_filling(&self) -> bool {
        self.kept.len() > limits::REPLAY_ENTRIES / 2 || self.bytes > limits::REPLAY_BYTES / 2
    }

    /// The client has everything up to `seq`.
    pub fn acknowledge(&mut self, seq: u64) {
        while self.kept.front().is_some_and(|(first, _)| *first <= seq) {
            self.forget_first();
        }
        if self.kept.is_empty() {
            self.kept = VecDeque::new(); // an idle session holds no buffer
        }
    }

    /// Divides what is kept for a client that says what it `received`. A client that does not say gets nothing twice: it
    /// has what was written wholly, as far as is known.
    pub fn since(self, received: Option<u64>) -> Rest {
        let received = received.unwrap_or(self.confirmed);
        let first = self.kept.front().map_or(self.last + 1, |(seq, _)| *seq);
        let mut rest = Rest { lost: first.saturating_sub(received.saturating_add(1)), ..Rest::default() };
        for (seq, mut written) in self.kept {
            if seq <= self.confirmed
                && let Written::Signal(signal) = &mut written
            {
                signal.receipt = false;
            }
            match written {
                written if seq > received => rest.again.push((seq, written)),
                Written::Signal(signal) if seq > self.confirmed => rest.arrived.push(signal),
                _ => {}
            }
        }
        rest
    }

    fn forget_first(&mut self) {
        if let Some((_, written)) = self.kept.pop_front() {
            self.bytes -= written.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(n: usize) -> Written {
        Written::Receipt(Receipt { id: None, target: n.to_string().into(), failure: None })
    }

    fn filled(count: usize) -> Replay {
        let mut replay = Replay::default();
        for n in 1..=count {
            assert_eq!(replay.push(receipt(n)), n as u64);
        }
        replay
    }

    fn numbers(rest: &Rest) -> Vec<u64> {
        rest.again.iter().map(|(seq, _)| *seq).collect()
    }

    #[test]
    fn a_client_gets_what_it_has_not_got() {
        let rest = filled(5).since(Some(3));
        assert_eq!((numbers(&rest), rest.lost), (vec![4, 5], 0));
        assert_eq!(filled(5).since(Some(5)).again.len(), 0);
        assert_eq!(
            filled(5).since(Some(u64::MAX)).lost,
            0,
            "a client that boasts gets nothing, and no overflow"
        );
    }

    #[test]
    fn a_client_that_does_not_count_gets_what_was_not_written_wholly() {
        let mut replay = filled(3);
        replay.confirm();
        replay.push(receipt(4));
        assert_eq!(numbers(&replay.since(None)), [4]);
    }

    #[test]
    fn what_is_not_kept_any_more_is_counted() {
        let count = limits::REPLAY_ENTRIES + 10;
        let rest = filled(count).since(Some(0));
        assert_eq!((rest.again.len(), rest.lost), (limits::REPLAY_ENTRIES, 10));
    }

    #[test]
    fn an_acknowledgement_lets_go() {
        let mut replay = filled(limits::REPLAY_ENTRIES);
        assert!(replay.is_filling());
        replay.acknowledge(replay.last());
        assert!(!replay.is_filling());
        assert_eq!(replay.since(Some(0)).lost, limits::REPLAY_ENTRIES as u64);
    }

    #[test]
    fn numbers_go_on_after_a_resumption() {
        assert_eq!(Replay::from(8, 7).push(receipt(1)), 8);
        assert_eq!(Replay::from(0, 0).push(receipt(1)), 1);
    }
}
