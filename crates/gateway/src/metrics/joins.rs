//! How clients get in: from the claim of a session, or from a registration, to the list that answers it.

use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Registry};

use super::counters;

/// Seconds; a place is taken in one step of the bus, milliseconds over Redis; in a storm clients wait for one another.
const JOIN_BUCKETS: [f64; 12] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// The client has its list.
    Listed,
    /// A newer session of the peer took its place meanwhile.
    Superseded,
    /// The peer's right was gone or not there yet.
    NotApproved,
    /// The client left before it had its list.
    Left,
    /// Presence could not be asked.
    Unavailable,
}

impl Join {
    const ALL: [Self; 5] = [Self::Listed, Self::Superseded, Self::NotApproved, Self::Left, Self::Unavailable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Listed => "listed",
            Self::Superseded => "superseded",
            Self::NotApproved => "not_approved",
            Self::Left => "left",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Joins {
    total: IntCounterVec,
    seconds: Histogram,
}

impl Joins {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let total = counters(
            registry,
            "heliograph_joins_total",
            "Registrations and sessions that could not be opened, by what became of them",
            &["outcome"],
        )?;
        for join in Join::ALL {
            total.with_label_values(&[join.as_str()]);
        }
        let seconds = HistogramOpts::new(
            "heliograph_join_seconds",
            "Time from a client's registration to the list written to its socket",
        );
        let seconds = Histogram::with_opts(seconds.buckets(JOIN_BUCKETS.to_vec()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { total, seconds })
    }

    /// Counts one that began at `since`.
    pub(crate) fn ended(&self, join: Join, since: Instant) {
        self.total.with_label_values(&[join.as_str()]).inc();
        if join == Join::Listed {
            self.seconds.observe(since.elapsed().as_secs_f64());
        }
    }
}
