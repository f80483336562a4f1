//! Who may reach whom: a lock-free replica of the pairing state, and the lease that says whether it is current.
//!
//! A [`Right`] is one peer's standing as one atomic word. Changes carry the version at which they were made, and
//! the highest version wins whatever the order of arrival, so a right can be filled from a database read and
//! from the change feed at the same time without a lock. [`Authority`] holds the lease: without one nothing is
//! relayed (DESIGN G8), however favourable the rights look.
//!
//! Order that makes a revoke true (DESIGN §6): the feed applies a change to every [`Right`], then drops what is
//! queued, then acknowledges the version. A check that runs after the acknowledgement reads the new word.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::id::Version;
use crate::limits::CLOCK_RATE_MARGIN;

/// What the pairing service says of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Standing {
    /// Never enrolled. Keeps its socket, sees nobody.
    Unknown = 0,
    /// Redeemed an invite, waits for approval. Keeps its socket, sees nobody.
    Pending = 1,
    /// May signal.
    Approved = 2,
    /// Was turned down.
    Rejected = 3,
    /// Had a right and lost it, for good.
    Revoked = 4,
}

impl Standing {
    fn from_bits(bits: u64) -> Self {
        match bits & 0b111 {
            1 => Self::Pending,
            2 => Self::Approved,
            3 => Self::Rejected,
            4 => Self::Revoked,
            _ => Self::Unknown,
        }
    }

    /// Whether a new socket may be opened with this standing.
    pub fn may_connect(self) -> bool {
        !matches!(self, Self::Rejected | Self::Revoked)
    }
}

/// One peer's standing and the version at which it got it.
#[derive(Debug, Default)]
pub struct Right(AtomicU64);

impl Right {
    /// A right that nothing is known of.
    pub const fn unknown() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Applies a change, unless a later one was applied before; the version never goes back. Returns whether
    /// this call changed the standing.
    pub fn apply(&self, version: Version, standing: Standing) -> bool {
        let word = version.0 << 3 | standing as u64;
        self.0.fetch_max(word, Ordering::AcqRel) < word
    }

    /// The standing now.
    pub fn standing(&self) -> Standing {
        Standing::from_bits(self.0.load(Ordering::Acquire))
    }

    /// The version of the last applied change.
    pub fn version(&self) -> Version {
        Version(self.0.load(Ordering::Acquire) >> 3)
    }

    /// Whether the peer may signal.
    pub fn is_approved(&self) -> bool {
        self.standing() == Standing::Approved
    }
}

/// Why a message may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Denial {
    /// This node cannot prove that its view is current; the sender may try again.
    #[error("authorization unavailable")]
    NoLease,
    /// The sender is not approved.
    #[error("sender not approved")]
    Sender(Standing),
    /// The target is not approved.
    #[error("target not approved")]
    Target(Standing),
}

/// A node's view of the pairing state as a whole: how far it is applied and how long it may be believed.
#[derive(Debug)]
pub struct Authority {
    origin: Instant,
    applied: AtomicU64,
    /// Nanoseconds after `origin` until which the view may be believed; 0: never had a lease.
    lease_until: AtomicU64,
    /// Revocations up to this version may be unknown here; `u64::MAX`: nothing is followed yet.
    horizon: AtomicU64,
    /// The lease is being given back, and not believed any more.
    given_back: AtomicBool,
}

impl Authority {
    /// A view without a lease. `origin` is the zero of its clock and must not lie after any `now` given later.
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            applied: AtomicU64::new(0),
            lease_until: AtomicU64::new(0),
            horizon: AtomicU64::new(u64::MAX),
            given_back: AtomicBool::new(false),
        }
    }

    /// Changes are followed from `version` on. Rights that were read from the store before this must not be used: a
    /// change between that read and `version` would never be heard of. Only the first call counts.
    pub fn begins(&self, version: Version) {
        let _begun = self.horizon.compare_exchange(u64::MAX, version.0, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether changes are followed, so that rights may be read from the store.
    pub fn has_begun(&self) -> bool {
        self.horizon.load(Ordering::Acquire) != u64::MAX
    }

    /// A revocation is not remembered any more.
    pub fn forgets(&self, revoked: Version) {
        self.horizon.fetch_max(revoked.0, Ordering::AcqRel);
    }

    /// Whether another node's word for a peer counts that was given with all changes up to `as_of` applied. Of older
    /// ones nobody here knows whether the peer was revoked since.
    pub fn takes_word(&self, as_of: Version) -> bool {
        as_of.0 >= self.horizon.load(Ordering::Acquire)
    }

    /// From now on nothing is relayed, so that the lease can be given back.
    pub fn give_back(&self) {
        self.given_back.store(true, Ordering::SeqCst);
    }

    /// The check of both ends of a message: on accept, and last before the socket write. Takes no lock and
    /// allocates nothing.
    pub fn may_relay(&self, from: &Right, to: &Right, now: Instant) -> Result<(), Denial> {
        self.may_send(from, now)?;
        match to.standing() {
            Standing::Approved => Ok(()),
            standing => Err(Denial::Target(standing)),
        }
    }

    /// The sender's half of [`Self::may_relay`].
    pub fn may_send(&self, from: &Right, now: Instant) -> Result<(), Denial> {
        if !self.is_current(now) {
            return Err(Denial::NoLease);
        }
        match from.standing() {
            Standing::Approved => Ok(()),
            standing => Err(Denial::Sender(standing)),
        }
    }

    /// Whether the lease covers `now`.
    pub fn is_current(&self, now: Instant) -> bool {
        self.lease_remaining(now) > Duration::ZERO
    }

    /// What is left of the lease.
    pub fn lease_remaining(&self, now: Instant) -> Duration {
        if self.given_back.load(Ordering::SeqCst) {
            return Duration::ZERO;
        }
        let until = Duration::from_nanos(self.lease_until.load(Ordering::Acquire));
        until.saturating_sub(now.saturating_duration_since(self.origin))
    }

    /// A renewal was granted that was *sent* at `sent_at`. Counting from the send and giving up a margin makes
    /// the holder stop before the waiter calls the lease run out, without comparing two clocks.
    pub fn renewed(&self, sent_at: Instant, term: Duration) {
        let until = sent_at.saturating_duration_since(self.origin) + holder_term(term);
        let nanos = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.lease_until.fetch_max(nanos, Ordering::AcqRel);
    }

    /// Every change up to `version` is applied to the rights. Never goes back.
    pub fn applied(&self, version: Version) {
        self.applied.fetch_max(version.0, Ordering::AcqRel);
    }

    /// How far changes are applied.
    pub fn version(&self) -> Version {
        Version(self.applied.load(Ordering::Acquire))
    }
}

/// How long a holder believes a lease of `term`, from the send of its renewal.
pub fn holder_term(term: Duration) -> Duration {
    term.mul_f64(1.0 - CLOCK_RATE_MARGIN)
}

/// How long a waiter waits on its own clock, after a lease row last changed, before it calls the lease run out.
pub fn waiter_term(term: Duration) -> Duration {
    term.mul_f64(1.0 + CLOCK_RATE_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TERM: Duration = Duration::from_secs(3);

    fn right(standing: Standing) -> Right {
        let right = Right::unknown();
        right.apply(Version(1), standing);
        right
    }

    fn check(from: Standing, to: Standing, leased: bool, expect: Result<(), Denial>) {
        let now = Instant::now();
        let authority = Authority::new(now);
        if leased {
            authority.renewed(now, TERM);
        }
        assert_eq!(
            authority.may_relay(&right(from), &right(to), now),
            expect,
            "{from:?} to {to:?}, {leased}"
        );
    }

    #[test]
    fn only_approved_peers_under_a_lease_reach_each_other() {
        use Standing::{Approved, Pending, Rejected, Revoked, Unknown};
        check(Approved, Approved, true, Ok(()));
        check(Approved, Approved, false, Err(Denial::NoLease));
        for other in [Unknown, Pending, Rejected, Revoked] {
            check(other, Approved, true, Err(Denial::Sender(other)));
            check(Approved, other, true, Err(Denial::Target(other)));
            check(other, other, true, Err(Denial::Sender(other)));
        }
    }

    #[test]
    fn a_lease_counts_from_the_send_and_ends_before_the_waiter_gives_up() {
        let start = Instant::now();
        let authority = Authority::new(start);
        authority.renewed(start, TERM);
        assert!(authority.is_current(start + holder_term(TERM).saturating_sub(Duration::from_millis(1))));
        assert!(!authority.is_current(start + holder_term(TERM)));
        assert!(holder_term(TERM) < TERM && TERM < waiter_term(TERM));
    }

    #[test]
    fn an_older_renewal_does_not_shorten_a_lease() {
        let start = Instant::now();
        let authority = Authority::new(start);
        authority.renewed(start + TERM, TERM);
        authority.renewed(start, TERM);
        assert!(authority.is_current(start + TERM + TERM / 2));
    }

    #[test]
    fn a_word_counts_as_far_back_as_revocations_are_known() {
        let authority = Authority::new(Instant::now());
        assert!(!authority.has_begun() && !authority.takes_word(Version(7)));
        authority.begins(Version(5));
        authority.begins(Version(6));
        assert!(
            authority.has_begun() && authority.takes_word(Version(5)) && !authority.takes_word(Version(4))
        );
        authority.forgets(Version(8));
        assert!(authority.takes_word(Version(8)) && !authority.takes_word(Version(7)));
    }

    #[test]
    fn a_lease_that_is_given_back_is_not_used_any_more() {
        let now = Instant::now();
        let authority = Authority::new(now);
        authority.renewed(now, TERM);
        authority.give_back();
        authority.renewed(now, TERM);
        assert!(!authority.is_current(now));
    }

    proptest! {
        /// Whatever the order in which changes arrive, the latest version decides.
        #[test]
        fn the_highest_version_wins(mut versions in prop::collection::vec(1u64..1000, 1..20)) {
            let right = Right::unknown();
            for &version in &versions {
                let standing = if version % 2 == 0 { Standing::Approved } else { Standing::Revoked };
                right.apply(Version(version), standing);
            }
            versions.sort_unstable();
            let last = versions[versions.len() - 1];
            prop_assert_eq!(right.version(), Version(last));
            prop_assert_eq!(right.is_approved(), last % 2 == 0);
        }
    }
}
