//! Medians, percentiles and spreads of small sets of figures.

use serde::Serialize;

/// Times of a run, in nanoseconds. All are kept: a few ten thousand are cheaper than being wrong about a tail.
#[derive(Debug, Default, Clone)]
pub struct Samples {
    nanos: Vec<u64>,
    sorted: bool,
}

impl Samples {
    /// Adds one, in nanoseconds.
    pub fn add(&mut self, nanos: u64) {
        self.nanos.push(nanos);
        self.sorted = false;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.nanos.extend_from_slice(&other.nanos);
        self.sorted = false;
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.nanos.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nanos.is_empty()
    }

    /// The smallest sample that at least `percent` of all do not exceed (the nearest rank), in nanoseconds; 0
    /// where there is none.
    pub fn percentile(&mut self, percent: f64) -> u64 {
        if !self.sorted {
            self.nanos.sort_unstable();
            self.sorted = true;
        }
        // The share is at most one and the count far below 2^53, so nothing is lost.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 0 and the count"
        )]
        let rank = (percent.clamp(0.0, 100.0) / 100.0 * self.nanos.len() as f64).ceil() as usize;
        self.nanos.get(rank.saturating_sub(1)).copied().unwrap_or(0)
    }
}

/// The figures of several runs of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Spread {
    /// The middle one, or the mean of the middle two.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// All, in the order in which they were measured.
    pub runs: Vec<f64>,
}

impl Spread {
    /// Of at least one run.
    pub fn of(runs: Vec<f64>) -> Option<Self> {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median =
            if sorted.len() % 2 == 1 { upper } else { f64::midpoint(upper, *sorted.get(middle - 1)?) };
        Some(Self { median, min, max, runs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut samples = Samples::default();
        assert_eq!(samples.percentile(50.0), 0);
        for nanos in (1..=100).rev() {
            samples.add(nanos);
        }
        assert_eq!(
            [0.0, 1.0, 50.0, 99.0, 99.5, 100.0].map(|p| samples.percentile(p)),
            [1, 1, 50, 99, 100, 100]
        );
        let mut other = Samples::default();
        other.add(1_000);
        samples.merge(&other);
        assert_eq!((samples.percentile(100.0), samples.len()), (1_000, 101));
    }

    #[test]
    fn spreads_have_a_middle() {
        assert_eq!(Spread::of(vec![]), None);
        let odd = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(vec![4.0, 1.0]).map(|even| even.median), Some(2.5));
    }
}
