//! Limits that all nodes share, counted in Redis.
//!
//! Each node asks a bucket of its own first, with the same rate: what one node lets pass is never more than all of them
//! together may, and a flood at one node costs no call. While Redis is away or slow, that bucket decides alone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use heliograph_core::rate::Rate;
use tokio::time::timeout;

use super::keys::Partition;
use super::scripts::{Call, SCRIPTS};
use super::topology::Topology;
use crate::BusError;
use crate::budget::{Budget, Limit, LocalBudget, Scope};

/// How long a limit waits for Redis: it stands before every upgrade.
const PATIENCE: Duration = Duration::from_millis(250);
/// While Redis does not answer, one question in so long is enough.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Counts across nodes.
pub(crate) struct RedisBudget {
    topology: Arc<Topology>,
    local: LocalBudget,
    /// When to ask Redis again, while it does not answer.
    ask_at: Mutex<Option<Instant>>,
}

impl RedisBudget {
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        Self { topology, local: LocalBudget::default(), ask_at: Mutex::default() }
    }

    /// What Redis says; yes if it says nothing.
    async fn ask(&self, limit: Limit, scope: Scope, rate: Rate, take: bool) -> bool {
        let is_away = self.ask_at().is_some_and(|at| Instant::now() < at);
        if rate.is_off() || is_away {
            return true;
        }
        let call = self.call(limit, scope, rate, take);
        let invocation = call.invocation();
        let asking = self.topology.invoke(call.partition, &invocation);
        let late = |_| Err(BusError::Unavailable("no answer in time".into()));
        match timeout(PATIENCE, asking).await.unwrap_or_else(late) {
            Ok(passes) => {
                if self.ask_at().take().is_some() {
                    tracing::info!("redis: nodes share limits again");
                }
                passes
            }
            Err(error) => {
                if self.ask_at().replace(Instant::now() + ASK_AGAIN).is_none() {
                    tracing::warn!(%error, "redis: each node counts limits for itself");
                }
                true
            }
        }
    }

    // A value that is replaced as a whole is good also behind a poisoned lock.
    fn ask_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.ask_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, limit: Limit, scope: Scope, rate: Rate, take: bool) -> Call {
        let name = match scope {
            Scope::Address(address) => format!("{}:{address}", limit.as_str()),
            Scope::Thing(hash) => format!("{}:{hash:032x}", limit.as_str()),
            Scope::Everyone => format!("{}:everyone", limit.as_str()),
        };
        let partition = Partition::of_limit(&name);
        let interval_us = rate.interval().as_secs_f64() * 1e6;
        let key = self.topology.connector().options().prefix.name_of(partition, "bucket", &name);
        SCRIPTS.bucket.call(partition).key(key).arg(interval_us).arg(rate.burst()).arg(u8::from(take))
    }
}

#[async_trait]
impl Budget for RedisBudget {
    async fn take(&self, limit: Limit, scope: Scope, rate: Rate) -> bool {
        self.local.take(limit, scope, rate).await && self.ask(limit, scope, rate, true).await
    }

    async fn has(&self, limit: Limit, scope: Scope, rate: Rate) -> bool {
        self.local.has(limit, scope, rate).await && self.ask(limit, scope, rate, false).await
    }
}
