//! What operators see of a cluster: traces at a collector, metrics in a real Prometheus, dashboards, alerts and their
//! runbooks. Real processes, a real Redis, a real Postgres.

#![expect(clippy::panic, clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]

mod collector;
mod faults;
mod metrics;
mod prometheus;
mod promql;
mod reference;
mod rules;
mod traces;
