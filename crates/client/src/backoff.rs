//! How long to wait before coming back.

use std::time::Duration;

const BASE: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_secs(30);

/// The pause before attempt number `attempt` (0 is the first): full jitter, anything between nothing and a ceiling
/// that doubles, so that the clients of a node that died do not come back in one wave. A floor is added, not mixed
/// in: those who were all told "in 5 s" are spread as well. `chance` is from 0 up to 1.
pub(crate) fn pause(attempt: u32, floor: Duration, chance: f64) -> Duration {
    let ceiling = BASE.saturating_mul(2_u32.saturating_pow(attempt)).min(CAP);
    floor.saturating_add(ceiling.mul_f64(chance.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_half_a_minute() {
        let check = |attempt, seconds| {
            assert_eq!(
                pause(attempt, Duration::ZERO, 1.0),
                Duration::from_secs(seconds),
                "attempt {attempt}"
            );
        };
        check(0, 1);
        check(1, 2);
        check(4, 16);
        check(5, 30);
        check(u32::MAX, 30);
    }

    #[test]
    fn a_thousand_clients_come_back_evenly() {
        let mut quarters = [0_u32; 4];
        for _ in 0..1000 {
            let share = pause(3, Duration::ZERO, rand::random()).as_secs_f64() / 8.0;
            let quarter = [0.25, 0.5, 0.75].iter().filter(|bound| share >= **bound).count();
            quarters[quarter] += 1;
        }
        // Six standard deviations to each side.
        assert!(quarters.iter().all(|count| (168..=332).contains(count)), "{quarters:?}");
    }

    proptest! {
        #[test]
        fn no_pause_is_below_its_floor_or_over_the_cap(attempt: u32, floor in 0..100_000_u64, chance in -1.0..2.0) {
            let floor = Duration::from_millis(floor);
            let pause = pause(attempt, floor, chance);
            prop_assert!(pause >= floor && pause <= floor + CAP);
        }
    }
}
