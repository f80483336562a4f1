//! Messages that left for another node and of which their sender has not heard: if that node dies with them, nobody
//! else would tell (DESIGN G3).

use std::collections::VecDeque;
use std::time::Instant;

use crate::limits;
use crate::message::{Receipt, Undeliverable};

#[derive(Debug)]
struct Entry {
    id: Box<str>,
    target: Box<str>,
    /// After this nobody will answer any more.
    give_up: Instant,
}

impl Entry {
    fn expired(self) -> Receipt {
        Receipt { id: Some(self.id), target: self.target, failure: Some(Undeliverable::Expired) }
    }
}

/// The open messages of one session, in the order of their sending. At most [`limits::MAX_UNANSWERED`]: beyond,
/// the oldest is given up for lost.
#[derive(Debug, Default)]
pub struct Unanswered(VecDeque<Entry>);

impl Unanswered {
    /// A message left. Answers what to tell of one that had to be given up for it.
    pub fn sent(&mut self, id: Box<str>, target: Box<str>, give_up: Instant) -> Option<Receipt> {
        let evicted = (self.0.len() >= limits::MAX_UNANSWERED).then(|| self.0.pop_front()).flatten();
        self.0.push_back(Entry { id, target, give_up });
        evicted.map(Entry::expired)
    }

    /// What became of a message is known.
    pub fn answered(&mut self, receipt: &Receipt) {
        // Answers come nearly in the order of sending, so it is near the front.
        let matches =
            |entry: &Entry| Some(&entry.id) == receipt.id.as_ref() && entry.target == receipt.target;
        if let Some(at) = self.0.iter().position(matches) {
            self.0.remove(at);
        }
        if self.0.is_empty() {
            self.0 = VecDeque::new(); // an idle session holds no buffer
        }
    }

    /// When the next one is given up.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.front().map(|entry| entry.give_up)
    }

    /// The next one of which nobody answered in time.
    pub fn overdue(&mut self, now: Instant) -> Option<Receipt> {
        if self.next_deadline()? > now {
            return None;
        }
        self.0.pop_front().map(Entry::expired)
    }

    /// What is open: id and target.
    pub fn drain(&mut self) -> impl Iterator<Item = (Box<str>, Box<str>)> + '_ {
        self.0.drain(..).map(|entry| (entry.id, entry.target))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn receipt(id: &str, target: &str) -> Receipt {
        Receipt { id: Some(id.into()), target: target.into(), failure: None }
    }

    #[test]
    fn what_nobody_answers_is_told_in_order() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut open = Unanswered::default();
        for id in ["1", "2", "3"] {
            assert_eq!(open.sent(id.into(), "b".into(), later), None);
        }
        open.answered(&receipt("2", "b"));
        open.answered(&receipt("3", "another"));
        assert_eq!(open.overdue(now), None);
        let told: Vec<_> = std::iter::from_fn(|| open.overdue(later)).filter_map(|r| r.id).collect();
        assert_eq!(told, ["1".into(), "3".into()]);
        assert_eq!(open.next_deadline(), None);
    }

    #[test]
    fn the_bound_gives_up_the_oldest() {
        let mut open = Unanswered::default();
        let at = Instant::now();
        for n in 0..limits::MAX_UNANSWERED {
            assert_eq!(open.sent(n.to_string().into(), "b".into(), at), None);
        }
        let told = open.sent("more".into(), "b".into(), at);
        assert_eq!(told.and_then(|receipt| receipt.id).as_deref(), Some("0"));
    }
}
