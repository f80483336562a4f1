//! The instruments of the bus.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

/// Every instrument of the message path over Redis.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    pub(crate) batch: Histogram,
    pub(crate) waiting: IntGauge,
    pub(crate) received: IntCounter,
    pub(crate) nobody: IntCounter,
    pub(crate) failed: IntCounter,
    pub(crate) refused_full: IntCounter,
    pub(crate) refused_down: IntCounter,
    pub(crate) refused_large: IntCounter,
    pub(crate) arrived: IntCounter,
    pub(crate) dropped_full: IntCounter,
    pub(crate) dropped_unknown: IntCounter,
    pub(crate) dropped_malformed: IntCounter,
    pub(crate) subscriptions: IntGauge,
    pub(crate) publisher_connects: IntCounter,
    pub(crate) subscriber_connects: IntCounter,
}

impl Metrics {
    /// Registers them.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let batch =
            HistogramOpts::new("heliograph_bus_publish_batch", "Parcels that went to Redis in one write")
                .buckets(exponential_buckets(1.0, 2.0, 15)?);
        let batch = Histogram::with_opts(batch)?;
        let vec = |name: &str, help: &str, label: &str| {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        registry.register(Box::new(batch.clone()))?;
        let sent =
            vec("heliograph_bus_published_total", "Parcels for Redis, by what became of them", "outcome")?;
        let dropped = vec("heliograph_bus_dropped_total", "Parcels that arrived and were dropped", "reason")?;
        let connects =
            vec("heliograph_bus_connects_total", "Connections to Redis servers that were opened", "path")?;
        let arrived =
            IntCounter::new("heliograph_bus_arrived_total", "Parcels that arrived from other nodes")?;
        registry.register(Box::new(arrived.clone()))?;
        Ok(Self {
            batch,
            arrived,
            waiting: gauge(
                "heliograph_bus_publish_waiting",
                "Parcels that wait for Redis or for its answer",
            )?,
            subscriptions: gauge("heliograph_bus_subscriptions", "Channels that this node wants to receive")?,
            received: sent.with_label_values(&["received"]),
            nobody: sent.with_label_values(&["nobody"]),
            failed: sent.with_label_values(&["failed"]),
            refused_full: sent.with_label_values(&["queue_full"]),
            refused_down: sent.with_label_values(&["down"]),
            refused_large: sent.with_label_values(&["too_large"]),
            dropped_full: dropped.with_label_values(&["queue_full"]),
            dropped_unknown: dropped.with_label_values(&["unknown_version"]),
            dropped_malformed: dropped.with_label_values(&["malformed"]),
            publisher_connects: connects.with_label_values(&["publish"]),
            subscriber_connects: connects.with_label_values(&["subscribe"]),
        })
    }
}
