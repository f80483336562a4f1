//! Messages that wait for `delivered` or `undeliverable`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits;
use crate::session::LinkId;

/// Whose outcome is waited for, in the order in which they were sent. Numbers come from who sends.
pub(crate) struct Pending {
    // What each message is called: with a part by chance, so that an answer to a former run of the program is not
    // taken for one to this.
    prefix: String,
    // All wait equally long, so the first one is the next one to be given up.
    waiting: BTreeMap<u64, Waiting>,
}

struct Waiting {
    link: LinkId,
    until: Instant,
}

impl Pending {
    pub(crate) fn new(chance: f64) -> Self {
        // 2^32: as many as eight digits tell apart.
        let prefix =
            format!("m-{:x}-", Duration::from_secs(1 << 32).mul_f64(chance.clamp(0.0, 1.0)).as_secs());
        Self { prefix, waiting: BTreeMap::new() }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= limits::PENDING
    }

    /// What the message with this number is called.
    pub(crate) fn id(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    pub(crate) fn add(&mut self, number: u64, link: LinkId, until: Instant) {
        self.waiting.insert(number, Waiting { link, until });
    }

    /// Takes the message of this name out, if it is one that waits.
    pub(crate) fn take(&mut self, id: &str) -> Option<u64> {
        let number = id.strip_prefix(&self.prefix)?.parse().ok()?;
        self.remove(number).then_some(number)
    }

    pub(crate) fn remove(&mut self, number: u64) -> bool {
        self.waiting.remove(&number).is_some()
    }

    /// When the next one is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|(_, waiting)| waiting.until)
    }

    /// Takes out those that have waited long enough.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<u64> {
        self.take_where(|waiting| waiting.until <= now)
    }

    /// Takes out those that went over a link for which this holds.
    pub(crate) fn of_links(&mut self, which: impl Fn(LinkId) -> bool) -> Vec<u64> {
        self.take_where(|waiting| which(waiting.link))
    }

    fn take_where(&mut self, which: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        self.waiting.extract_if(.., |_, waiting| which(waiting)).map(|(number, _)| number).collect()
    }
}
