//! The metrics of administration. Names that users rely on are in the interface.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// Seconds; within a node a revoke takes milliseconds, and with a lost node up to a lease term.
const ENFORCED_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Steps of a pairing, for the `transition` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Pair,
    Approve,
    Reject,
    Revoke,
}

impl Step {
    const ALL: [Self; 4] = [Self::Pair, Self::Approve, Self::Reject, Self::Revoke];

    fn as_str(self) -> &'static str {
        match self {
            Self::Pair => "pair",
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Revoke => "revoke",
        }
    }
}

pub(crate) struct Metrics {
    transitions: IntCounterVec,
    /// From the commit of a revoke until no node can relay for the peer any more.
    pub(crate) enforced: Histogram,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let transitions = IntCounterVec::new(
            Opts::new("heliograph_pairing_transitions_total", "Changes of state of pairings"),
            &["transition"],
        )?;
        let enforced = Histogram::with_opts(
            HistogramOpts::new(
                "heliograph_revoke_enforced_seconds",
                "Time from committing a revoke until no node can relay for the peer any more",
            )
            .buckets(ENFORCED_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(transitions.clone()))?;
        registry.register(Box::new(enforced.clone()))?;
        for step in Step::ALL {
            transitions.with_label_values(&[step.as_str()]);
        }
        Ok(Self { transitions, enforced })
    }

    pub(crate) fn stepped(&self, step: Step) {
        self.stepped_by(step, 1);
    }

    /// So many at once.
    pub(crate) fn stepped_by(&self, step: Step, count: usize) {
        self.transitions.with_label_values(&[step.as_str()]).inc_by(count as u64);
    }
}
