//! Limits that are counted across sockets (and, with a shared backend, across nodes).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;
use foldhash::quality::RandomState;
use heliograph_core::rate::{Rate, TokenBucket};

/// Most addresses that are remembered for one limit. Beyond it those with nothing to remember are forgotten, and
/// if all have something, newcomers share one bucket: an attacker with many addresses limits himself first.
const MAX_KEYS: usize = 100_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// WebSocket upgrades.
    Upgrades,
    /// Wrong invite codes.
    RedeemFailures,
    /// Wrong API keys and device tokens.
    AuthFailures,
    /// Uses of an assertion, which is good once.
    Assertions,
}

impl Limit {
    /// The label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upgrades => "upgrades",
            Self::RedeemFailures => "redeem_failures",
            Self::AuthFailures => "auth_failures",
            Self::Assertions => "assertions",
        }
    }
}

/// Whom it is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// One client address; of IPv6 the /64, which is what one customer gets.
    Address(IpAddr),
    /// One thing, by a keyed hash of its name.
    Thing(u128),
    /// Everyone together.
    Everyone,
}

impl Scope {
    /// The scope of a client address.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::Address(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
            }
            v4 @ IpAddr::V4(_) => Self::Address(v4),
        }
    }
}

/// Counts events against rates.
#[async_trait]
pub trait Budget: Send + Sync {
    /// Counts one event; false when the rate is used up (it is then not counted).
    async fn take(&self, limit: Limit, scope: Scope, rate: Rate) -> bool;
    /// Whether an event would still pass; counts nothing.
    async fn has(&self, limit: Limit, scope: Scope, rate: Rate) -> bool;
}

/// Counts in this process.
#[derive(Default)]
pub struct LocalBudget {
    buckets: Mutex<HashMap<(Limit, Scope), TokenBucket, RandomState>>,
}

impl LocalBudget {
    fn with_bucket<T>(
        &self,
        limit: Limit,
        scope: Scope,
        now: Instant,
        run: impl FnOnce(&mut TokenBucket) -> T,
    ) -> T {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (limit, scope);
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| !bucket.is_full(now));
            if buckets.len() >= MAX_KEYS {
                key = (limit, Scope::Everyone);
            }
        }
        run(buckets.entry(key).or_default())
    }
}

#[async_trait]
impl Budget for LocalBudget {
    async fn take(&self, limit: Limit, scope: Scope, rate: Rate) -> bool {
        let now = Instant::now();
        self.with_bucket(limit, scope, now, |bucket| bucket.take(rate, now))
    }

    async fn has(&self, limit: Limit, scope: Scope, rate: Rate) -> bool {
        let now = Instant::now();
        self.with_bucket(limit, scope, now, |bucket| bucket.clone().take(rate, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_have_budgets_of_their_own() {
        let budget = LocalBudget::default();
        let rate = Rate::per_second(1, 2);
        let (a, b) = (Scope::of([127, 0, 0, 1].into()), Scope::of([127, 0, 0, 2].into()));
        assert!(budget.take(Limit::RedeemFailures, a, rate).await);
        assert!(budget.take(Limit::RedeemFailures, a, rate).await);
        assert!(!budget.has(Limit::RedeemFailures, a, rate).await);
        assert!(!budget.take(Limit::RedeemFailures, a, rate).await);
        assert!(budget.take(Limit::RedeemFailures, b, rate).await);
        assert!(budget.take(Limit::Upgrades, a, rate).await);
    }

    #[test]
    fn one_ipv6_customer_is_one_scope() {
        let parse = |text: &str| Scope::of(text.parse().unwrap());
        assert_eq!(parse("2001:db8:1:2::1"), parse("2001:db8:1:2:ffff::9"));
        assert_ne!(parse("2001:db8:1:2::1"), parse("2001:db8:1:3::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
    }
}
