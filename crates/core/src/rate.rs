//! A token bucket that is handed the time.

use std::time::{Duration, Instant};

/// Lets a number of events pass at once, and one for each interval in the long run.
///
/// Kept as "when would the bucket be full again" (the generic cell rate algorithm): 16 bytes, no refill task.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    full_at: Option<Instant>,
}

/// The two numbers of a bucket; kept apart so that thousands of buckets share one copy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Mean time between events in the long run, in nanoseconds; 0 is off.
    interval_nanos: u64,
    /// Events at once; 0 is off.
    burst: u32,
}

impl Rate {
    /// `count` events per second in the long run, `burst` at once; 0 is off in either.
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self { interval_nanos: interval(1_000_000_000, count), burst }
    }

    /// `count` events per minute, all of them at once if nothing came before; 0 is off.
    pub const fn per_minute(count: u32) -> Self {
        Self { interval_nanos: interval(60_000_000_000, count), burst: count }
    }

    /// One event, and the next so many seconds later.
    pub const fn once_in(seconds: u32) -> Self {
        Self { interval_nanos: seconds as u64 * 1_000_000_000, burst: 1 }
    }

    /// Whether everything passes.
    pub const fn is_off(self) -> bool {
        self.interval_nanos == 0 || self.burst == 0
    }

    /// How many events pass at once if nothing came before; 0 is off.
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// How long an empty bucket needs until one event passes again.
    pub const fn interval(self) -> Duration {
        Duration::from_nanos(self.interval_nanos)
    }
}

const fn interval(period_nanos: u64, count: u32) -> u64 {
    // A cast, because `From` is not for constant functions.
    if count == 0 { 0 } else { period_nanos / count as u64 }
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
        if rate.is_off() {
            return true;
        }
        let capacity = Duration::from_nanos(rate.interval_nanos.saturating_mul(u64::from(rate.burst)));
        let debt = match self.full_at {
            Some(full_at) => full_at.saturating_duration_since(now),
            None => Duration::ZERO,
        };
        let debt_after = debt + rate.interval();
        if debt_after > capacity {
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

    const RATE: Rate = Rate::per_second(10, 5);

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
        for off in [Rate::per_second(0, 5), Rate::per_second(5, 0), Rate::per_minute(0)] {
            assert!((0..100_000).all(|_| bucket.take(off, start)));
        }
    }

    #[test]
    fn minutes_are_slower_than_seconds() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new();
        let rate = Rate::per_minute(5);
        assert_eq!((0..10).filter(|_| bucket.take(rate, start)).count(), 5);
        assert!(!bucket.take(rate, start + Duration::from_secs(11)));
        assert!(bucket.take(rate, start + Duration::from_secs(12)));
        assert_eq!(rate.interval(), Duration::from_secs(12));
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
