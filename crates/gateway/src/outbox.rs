//! What waits to be written to one socket: a bounded queue with a policy, and the ways to wake its owner.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use atomic_waker::AtomicWaker;
use heliograph_core::close::CloseCode;
use heliograph_core::limits::Limits;
use heliograph_core::message::Signal;
use heliograph_core::session::Mail;

/// Memory of one queued mail beside its payload, in bytes: what the bound on bytes counts for it.
const MAIL_OVERHEAD: usize = 256;

/// Most news (receipts, events) that wait for one socket. They are counted apart from messages: a burst of receipts,
/// when a slow target reads again, must not cost a sender its socket that reads as it should.
const MAX_NEWS: usize = 16_384;

/// Everyone may push; one task, the socket's, takes.
///
/// When the queue is full, candidates go first, oldest first: a stale one is replaced by the next. If that is not
/// enough the socket is a slow consumer and is closed; an offer or answer is never dropped while it stays open.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: Mutex<Queue>,
    waker: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    mail: VecDeque<Mail>,
    /// How many of them are messages; the rest is news.
    messages: usize,
    /// What the messages take.
    bytes: usize,
    tick: bool,
    close: Option<CloseCode>,
    /// Set when the owner has to stop even in the middle of a write.
    abort: bool,
    door: Door,
}

/// Who gets what is pushed.
#[derive(Debug, Default, PartialEq, Eq)]
enum Door {
    /// The owner.
    #[default]
    Open,
    /// The owner, later: its client has to say first whether it is a former one.
    Held,
    /// Nobody, ever.
    Sealed,
}

/// What the owner finds when it is woken.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) mail: VecDeque<Mail>,
    pub(crate) tick: bool,
    pub(crate) close: Option<CloseCode>,
}

/// What became of a push.
#[derive(Debug)]
pub(crate) enum Pushed {
    /// It is queued; these were dropped to make room.
    Queued(Vec<Signal>),
    /// The queue is full; the mail is lost.
    Full,
    /// The session is over; the mail is lost.
    Closed,
}

impl Outbox {
    // Every critical section leaves the queue consistent at each step, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `mail`, never waiting.
    pub(crate) fn push(&self, mail: Mail, limits: &Limits) -> Pushed {
        let pushed = {
            let mut queue = self.lock();
            if queue.door == Door::Sealed || queue.close == Some(CloseCode::SlowConsumer) {
                return Pushed::Closed;
            }
            queue.push(mail, limits)
        };
        self.waker.wake();
        pushed
    }

    /// Asks the owner to look at its deadlines.
    pub(crate) fn tick(&self) {
        self.lock().tick = true;
        self.waker.wake();
    }

    /// Asks the owner to close; the first code counts. What is queued is still written.
    pub(crate) fn close(&self, code: CloseCode) {
        self.lock().close.get_or_insert(code);
        self.waker.wake();
    }

    /// Asks the owner to close and not to wait for a write that stands still.
    pub(crate) fn abort(&self, code: CloseCode) {
        {
            let mut queue = self.lock();
            queue.close.get_or_insert(code);
            queue.abort = true;
        }
        self.waker.wake();
    }

    /// Waits until there is something to do, and takes it all. For the owner alone.
    pub(crate) async fn take(&self) -> Batch {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let mut queue = self.lock();
            let has_mail = !queue.mail.is_empty() && queue.door != Door::Held;
            if !has_mail && !queue.tick && queue.close.is_none() {
                return Poll::Pending;
            }
            Poll::Ready(queue.take())
        })
        .await
    }

    /// Asks the owner to look again at what it waits for.
    pub(crate) fn stir(&self) {
        self.waker.wake();
    }

    /// Waits until `done`, which is looked at whenever the owner is woken, or until the owner is to close. For the owner
    /// alone.
    pub(crate) async fn until(&self, done: impl Fn() -> bool) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if done() || self.lock().close.is_some() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits until a write should be given up. For the owner alone.
    pub(crate) async fn aborted(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.lock().abort { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Keeps the mail from the owner until [`Self::release`].
    pub(crate) fn hold(&self) {
        self.lock().door = Door::Held;
    }

    /// Whether the owner may not have its mail yet.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().door == Door::Held
    }

    /// Gives the owner its mail.
    pub(crate) fn release(&self) {
        self.lock().open();
        self.waker.wake();
    }

    /// The owner is gone and its mail waits for the next one: `unwritten` in front of what came since.
    pub(crate) fn park(&self, unwritten: VecDeque<Mail>) {
        let mut queue = self.lock();
        for mail in unwritten.into_iter().rev() {
            if let Some(size) = size_of_message(&mail) {
                queue.bytes += size;
                queue.messages += 1;
            }
            queue.mail.push_front(mail);
        }
        queue.close = None;
        queue.abort = false;
        queue.open();
    }

    /// Takes what is left, for good: later pushes come back as closed.
    pub(crate) fn finish(&self) -> VecDeque<Mail> {
        let mut queue = self.lock();
        queue.door = Door::Sealed;
        queue.take().mail
    }
}

impl Queue {
    fn open(&mut self) {
        if self.door == Door::Held {
            self.door = Door::Open;
        }
    }

    fn push(&mut self, mail: Mail, limits: &Limits) -> Pushed {
        let Some(size) = size_of_message(&mail) else {
            if self.mail.len() - self.messages >= MAX_NEWS {
                return self.give_up();
            }
            self.mail.push_back(mail);
            return Pushed::Queued(vec![]);
        };
        let dropped = self.make_room(size, limits);
        if self.has_room(size, limits) {
            self.bytes += size;
            self.messages += 1;
            self.mail.push_back(mail);
            return Pushed::Queued(dropped);
        }
        if is_expendable(&mail) { Pushed::Full } else { self.give_up() }
    }

    fn give_up(&mut self) -> Pushed {
        self.close = Some(CloseCode::SlowConsumer);
        self.abort = true;
        Pushed::Full
    }

    fn has_room(&self, size: usize, limits: &Limits) -> bool {
        // One message always fits, however small the bound.
        self.messages == 0
            || (self.bytes + size <= limits.outbox_bytes && self.messages < limits.outbox_messages)
    }

    fn make_room(&mut self, size: usize, limits: &Limits) -> Vec<Signal> {
        let mut dropped = vec![];
        while !self.has_room(size, limits) {
            let Some(at) = self.mail.iter().position(is_expendable) else { break };
            if let Some(Mail::Signal(signal)) = self.mail.remove(at) {
                self.bytes -= size_of_signal(&signal);
                self.messages -= 1;
                dropped.push(signal);
            }
        }
        dropped
    }

    fn take(&mut self) -> Batch {
        if self.door == Door::Held {
            return Batch { mail: VecDeque::new(), tick: std::mem::take(&mut self.tick), close: self.close };
        }
        self.bytes = 0;
        self.messages = 0;
        // Taking the whole buffer frees it once it is written: an idle socket holds none.
        Batch {
            mail: std::mem::take(&mut self.mail),
            tick: std::mem::take(&mut self.tick),
            close: self.close,
        }
    }
}

fn is_expendable(mail: &Mail) -> bool {
    matches!(mail, Mail::Signal(signal) if signal.kind.is_expendable())
}

fn size_of_signal(signal: &Signal) -> usize {
    MAIL_OVERHEAD + signal.payload.len()
}

/// What a message counts for; news count by number alone.
fn size_of_message(mail: &Mail) -> Option<usize> {
    if let Mail::Signal(signal) = mail { Some(size_of_signal(signal)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use heliograph_core::id::{Epoch, MeshName, PeerId};
    use heliograph_core::message::{Kind, Peer};
    use std::sync::Arc;
    use std::time::Instant;

    fn signal(kind: Kind, payload: &str) -> Mail {
        Mail::Signal(Signal {
            from: Arc::new(Peer::new(MeshName::default_mesh(), PeerId::parse("a").unwrap())),
            from_epoch: Epoch(1),
            kind,
            id: None,
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            receipt: false,
            to_all: false,
            accepted_at: Instant::now(),
            via_bus: false,
            trace: None,
        })
    }

    fn payloads(mail: impl IntoIterator<Item = Mail>) -> Vec<String> {
        mail.into_iter()
            .map(|mail| match mail {
                Mail::Signal(signal) => String::from_utf8_lossy(&signal.payload).into_owned(),
                other => format!("{other:?}"),
            })
            .collect()
    }

    fn three() -> Limits {
        Limits { outbox_messages: 3, ..Limits::default() }
    }

    #[test]
    fn stale_candidates_make_room_for_an_offer() {
        let outbox = Outbox::default();
        for (kind, text) in [(Kind::Offer, "o1"), (Kind::Candidate, "c1"), (Kind::Candidate, "c2")] {
            assert!(
                matches!(outbox.push(signal(kind, text), &three()), Pushed::Queued(gone) if gone.is_empty())
            );
        }
        let Pushed::Queued(gone) = outbox.push(signal(Kind::Answer, "a1"), &three()) else {
            panic!("not queued")
        };
        assert_eq!(payloads(gone.into_iter().map(Mail::Signal)), ["c1"]);
        assert_eq!(payloads(outbox.finish()), ["o1", "c2", "a1"]);
    }

    #[test]
    fn an_offer_that_does_not_fit_closes_the_slow_consumer() {
        let outbox = Outbox::default();
        for text in ["o1", "o2", "o3"] {
            outbox.push(signal(Kind::Offer, text), &three());
        }
        assert!(matches!(outbox.push(signal(Kind::Candidate, "c"), &three()), Pushed::Full));
        assert!(outbox.lock().close.is_none(), "a candidate is no reason to close");
        assert!(matches!(outbox.push(signal(Kind::Offer, "o4"), &three()), Pushed::Full));
        assert_eq!(outbox.lock().close, Some(CloseCode::SlowConsumer));
        assert!(matches!(outbox.push(signal(Kind::Offer, "o5"), &three()), Pushed::Closed));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let limits = Limits { outbox_bytes: 3 * MAIL_OVERHEAD, ..Limits::default() };
        let outbox = Outbox::default();
        assert!(matches!(outbox.push(signal(Kind::Offer, &"x".repeat(10_000)), &limits), Pushed::Queued(_)));
        assert!(matches!(outbox.push(signal(Kind::Offer, "y"), &limits), Pushed::Full));
    }

    #[test]
    fn news_have_a_bound_of_their_own() {
        let outbox = Outbox::default();
        for text in ["o1", "o2", "o3"] {
            outbox.push(signal(Kind::Offer, text), &three());
        }
        for _ in 0..MAX_NEWS {
            assert!(matches!(outbox.push(Mail::StandingChanged, &three()), Pushed::Queued(_)));
        }
        assert!(matches!(outbox.push(Mail::StandingChanged, &three()), Pushed::Full));
        assert_eq!(outbox.lock().close, Some(CloseCode::SlowConsumer));
    }

    #[tokio::test]
    async fn taking_waits_for_something_to_do() {
        let outbox = Arc::new(Outbox::default());
        let taker = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.take().await.tick }
        });
        tokio::task::yield_now().await;
        outbox.tick();
        assert!(taker.await.unwrap());
    }
}
