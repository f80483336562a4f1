//! The metrics of presence.

use prometheus::{IntCounter, Registry};

#[derive(Clone)]
pub(super) struct Metrics {
    pub(super) ghosts_reaped: IntCounter,
    pub(super) ghosts_found: IntCounter,
    pub(super) debts_dropped: IntCounter,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            ghosts_reaped: counter(
                "heliograph_ghosts_reaped_total",
                "Sessions of dead nodes that this node removed from presence",
            )?,
            ghosts_found: counter(
                "heliograph_presence_ghosts_found_total",
                "Sessions that Redis had as this node's although it had none such: answers or releases were lost",
            )?,
            debts_dropped: counter(
                "heliograph_presence_debts_dropped_total",
                "Releases put off during an outage of Redis that were too many to remember; found later by comparison",
            )?,
        })
    }
}
