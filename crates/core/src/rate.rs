//! A token bucket that is handed the time.

use std::time::Instant;

/// Lets `burst` events pass at once and `per_second` of them in the long run.
///
/// Kept as "when would the bucket be full again" (the generic cell rate algorithm): 16 bytes, no refill task.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    full_at: Option<Instant>,
}

/// The two numbers of a bucket; kept apart so that thousands of buckets share one copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Events per second in the long run; 0 is off.
    pub per_second: u32,
    /// Events at once; 0 is off.
    pub burst: u32,
}

impl Default for TokenBucket {
    fn default() -> Self {
        Self::new()
    }
}

impl TokenBucket {
    /// A full bucket.
    pub const fn new() -> Self {
        Self { full_at: None }
    }

    /// Takes one token; false when there is none.
    pub fn take(&mut self, rate: Rate, now: Instant) -> bool {
        if rate.per_second == 0 || rate.burst == 0 {
            return true;
        }
        let cost_nanos = 1_000_000_000 / u64::from(rate.per_second);
        let capacity_nanos = cost_nanos * u64::from(rate.burst);
        let debt = match self.full_at {
            Some(full_at) => full_at.saturating_duration_since(now),
            None => std::time::Duration::ZERO,
        };
        let debt_after = debt + std::time::Duration::from_nanos(cost_nanos);
        if debt_after > std::time::Duration::from_nanos(capacity_nanos) {
            return false;
        }
        self.full_at = Some(now + debt_after);
        true
    }

    /// Whether the bucket is full again, so that it may be forgotten.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const RATE: Rate = Rate { per_second: 10, burst: 5 };

    #[test]
    fn lets_a_burst_pass_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new();
        assert_eq!((0..10).filter(|_| bucket.take(RATE, start)).count(), 5);
        assert!(!bucket.take(RATE, start + Duration::from_millis(99)));
        assert!(bucket.take(RATE, start + Duration::from_millis(100)));
        assert!(!bucket.take(RATE, start + Duration::from_millis(100)));
    }

    #[test]
    fn zero_is_off() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new();
        let off = Rate { per_second: 0, burst: 5 };
        assert!((0..100_000).all(|_| bucket.take(off, start)));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_plus_rate_times_time(steps in prop::collection::vec(0u64..300, 1..200)) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new();
            let (mut elapsed, mut passed) = (0u64, 0u64);
            for step in steps {
                elapsed += step;
                passed += u64::from(bucket.take(RATE, start + Duration::from_millis(elapsed)));
                prop_assert!(passed <= 5 + elapsed / 100 + 1);
            }
        }
    }
}
