//! What a peer is told and has not dealt with yet.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use super::ToPeer;

/// Beyond it no signals of the other side are taken: they are what others can make many of.
const SIGNALS: usize = 256;
/// Beyond it nothing is taken but the order to close.
const WORDS: usize = 512;

/// A bounded queue in which the order to close always has a place.
#[derive(Default)]
pub(super) struct Inbox {
    words: Mutex<VecDeque<ToPeer>>,
    filled: Notify,
}

impl Inbox {
    /// `false`: it is full, and the word was dropped.
    pub(super) fn push(&self, word: ToPeer) -> bool {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        match &word {
            // What was asked for before is void: an offer in the queue would open again what is closed here.
            ToPeer::Close(_) => {
                words.retain(|word| !matches!(word, ToPeer::Connect | ToPeer::Signal(_) | ToPeer::Close(_)));
            }
            ToPeer::Signal(_) if words.len() >= SIGNALS => return false,
            _ if words.len() >= WORDS => return false,
            _ => {}
        }
        words.push_back(word);
        drop(words);
        self.filled.notify_one();
        true
    }

    /// The next word; waits for it. Dropping the future loses nothing. For one reader.
    pub(super) async fn next(&self) -> ToPeer {
        loop {
            let word = self.words.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match word {
                Some(word) => return word,
                None => self.filled.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::negotiation::Ended;
    use crate::peer::Signal;

    #[tokio::test]
    async fn a_full_inbox_takes_the_order_to_close_and_nothing_from_before_it_is_done() {
        let inbox = Inbox::default();
        let offer = || ToPeer::Signal(Signal::Offer("v=0".into()));
        let taken = (0..1_000).take_while(|_| inbox.push(offer())).count();
        assert_eq!(taken, SIGNALS);
        assert!(inbox.push(ToPeer::Present(true)), "there is room for what others cannot send");
        while inbox.push(ToPeer::SignalingBack) {}
        assert!(inbox.push(ToPeer::Close(Ended::Revoked)));
        let mut words = vec![];
        loop {
            match inbox.next().await {
                ToPeer::Close(ended) => break assert_eq!(ended, Ended::Revoked),
                word => words.push(word),
            }
        }
        assert!(matches!(words.first(), Some(ToPeer::Present(true))), "the first offers are gone");
        assert!(!words.iter().any(|word| matches!(word, ToPeer::Signal(_))));
    }
}
