//! When a revoke holds on every node (DESIGN §6).
//!
//! After the commit at version `v` each lease that exists has to acknowledge `v` or to run out. A lease runs out
//! when its row has not changed for a whole term, and a margin, on *this* process's monotonic clock: the holder
//! counted from before it wrote the row, so it has stopped to believe its lease by then. Leases granted later
//! cannot be used before `v` is applied and need no waiting.
//!
//! The order of clock readings carries the proof: a beat counts as seen from *after* the read that first showed it,
//! and as unchanged up to *before* the read that still showed it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heliograph_core::id::{GatewayId, Version};
use heliograph_store::{Hint, LeaseRow, Result, Store};
use prometheus::Histogram;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::feed::hinted;

/// How long a caller waits for enforcement when it does not say.
pub(crate) const DEFAULT_WAIT: Duration = Duration::from_secs(10);
/// Hints may get lost, and a lease runs out without any.
const UNHINTED_LOOK: Duration = Duration::from_millis(100);
/// Waits whose outcome is remembered, for those who ask later.
const MAX_WAITS: usize = 1024;

/// Watches the leases for all who wait.
pub(crate) struct Enforcement {
    store: Arc<dyn Store>,
    term: Duration,
    /// Gets the time that each change took, also of those whose caller did not wait that long.
    took: Histogram,
    observed: AsyncMutex<Option<Observation>>,
    sightings: Mutex<HashMap<GatewayId, Sighting>>,
    waits: Mutex<BTreeMap<Version, Wait>>,
}

/// How far a change has got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) version: Version,
    pub(crate) enforced: bool,
    pub(crate) acknowledged: Vec<GatewayId>,
    pub(crate) expired: Vec<GatewayId>,
    pub(crate) waited: Duration,
}

/// All leases at one moment.
#[derive(Clone)]
struct Observation {
    /// When the store was asked.
    asked: Instant,
    leases: Arc<[Observed]>,
}

struct Observed {
    gateway: GatewayId,
    acknowledged: Version,
    /// It had run out, and was removed by this look.
    over: bool,
}

/// Since when a lease's row stands still.
struct Sighting {
    beat: u64,
    since: Instant,
}

struct Wait {
    change: Change,
    started: Instant,
    took: Option<Duration>,
    leases: BTreeMap<GatewayId, Progress>,
}

/// Whether a right goes or comes: only what is revoked is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Loss,
    Gain,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Acknowledged,
    Expired,
}

impl Enforcement {
    /// `term` is the waiter's: with its margin.
    pub(crate) fn new(store: Arc<dyn Store>, term: Duration, took: Histogram) -> Self {
        Self {
            store,
            term,
            took,
            observed: AsyncMutex::default(),
            sightings: Mutex::default(),
            waits: Mutex::default(),
        }
    }

    /// Waits until a right that was taken away with the change `version` is gone everywhere, for `limit` at most. The
    /// change is committed, so errors of the store only make the wait longer.
    pub(crate) async fn wait(&self, version: Version, limit: Duration) -> Report {
        self.wait_for(version, Change::Loss, limit).await
    }

    /// [`Self::wait`] for a right that was given.
    pub(crate) async fn follow(&self, version: Version, limit: Duration) -> Report {
        self.wait_for(version, Change::Gain, limit).await
    }

    async fn wait_for(&self, version: Version, change: Change, limit: Duration) -> Report {
        let started = Instant::now();
        let deadline = started + limit;
        let mut hints = self.store.hints(Hint::Lease);
        loop {
            hints.borrow_and_update();
            let report = self.look(version, change, started).await;
            if report.enforced || Instant::now() >= deadline {
                return report;
            }
            tokio::select! {
                () = hinted(&mut hints) => {}
                () = sleep_until(deadline.min(Instant::now() + UNHINTED_LOOK)) => {}
            }
        }
    }

    /// How far the change `version` has got. Of one that was made elsewhere or long ago, only the leases that exist
    /// now are known.
    pub(crate) async fn ask(&self, version: Version) -> Report {
        if !lock(&self.waits).contains_key(&version) {
            let now = Instant::now();
            return match self.observe().await {
                Ok(observation) => {
                    let mut wait = Wait::for_all(&observation, Change::Loss, now);
                    wait.note(version, &observation);
                    wait.report(version)
                }
                Err(_) => self.last_known(version, now),
            };
        }
        self.wait(version, Duration::ZERO).await
    }

    /// Whether a lease's row is known to stand still for a whole term.
    pub(crate) fn stands_still(&self, gateway: &GatewayId) -> bool {
        let sightings = lock(&self.sightings);
        sightings.get(gateway).is_some_and(|sighting| sighting.since.elapsed() >= self.term)
    }

    async fn look(&self, version: Version, change: Change, started: Instant) -> Report {
        match self.observe().await {
            Ok(observation) => self.note(version, change, started, &observation),
            Err(error) => {
                tracing::warn!(%error, "the leases cannot be read; a change waits");
                self.last_known(version, started)
            }
        }
    }

    /// Reads the leases and removes those that have run out. Callers that come while a look is under way share
    /// the next one.
    async fn observe(&self) -> Result<Observation> {
        let called = Instant::now();
        let mut observed = self.observed.lock().await;
        if let Some(fresh) = observed.as_ref().filter(|observation| observation.asked > called) {
            return Ok(fresh.clone());
        }
        let asked = Instant::now();
        let rows = self.store.leases().await?;
        let over = self.sight(&rows, asked, Instant::now());
        let mut leases = Vec::with_capacity(rows.len());
        for (row, over) in rows.into_iter().zip(over) {
            // If the row moved in the meantime, its holder is alive and will acknowledge.
            let over = over && self.store.remove_lease(&row.gateway, Some(row.beat)).await?;
            leases.push(Observed { gateway: row.gateway, acknowledged: row.acknowledged, over });
        }
        let observation = Observation { asked, leases: leases.into() };
        *observed = Some(observation.clone());
        Ok(observation)
    }

    /// Which of the rows have stood still for a term when the store was asked.
    fn sight(&self, rows: &[LeaseRow], asked: Instant, answered: Instant) -> Vec<bool> {
        let mut sightings = lock(&self.sightings);
        sightings.retain(|gateway, _| rows.iter().any(|row| row.gateway == *gateway));
        let mut sight = |row: &LeaseRow| {
            let fresh = || Sighting { beat: row.beat, since: answered };
            let sighting = sightings.entry(row.gateway.clone()).or_insert_with(fresh);
            if sighting.beat != row.beat {
                *sighting = fresh();
            }
            asked.saturating_duration_since(sighting.since) >= self.term
        };
        rows.iter().map(&mut sight).collect()
    }

    fn note(&self, version: Version, change: Change, started: Instant, observation: &Observation) -> Report {
        let mut waits = lock(&self.waits);
        let wait = waits.entry(version).or_insert_with(|| Wait::for_all(observation, change, started));
        self.carry_on(version, wait, observation);
        let report = wait.report(version);
        while waits.len() > MAX_WAITS {
            waits.pop_first();
        }
        report
    }

    /// Carries on the waits that nobody waits for any more.
    fn note_all(&self, observation: &Observation) {
        for (version, wait) in lock(&self.waits).iter_mut().filter(|(_, wait)| wait.took.is_none()) {
            self.carry_on(*version, wait, observation);
        }
    }

    fn carry_on(&self, version: Version, wait: &mut Wait, observation: &Observation) {
        let before = wait.took;
        wait.note(version, observation);
        if let (None, Some(took), Change::Loss) = (before, wait.took, wait.change) {
            self.took.observe(took.as_secs_f64());
        }
    }

    fn last_known(&self, version: Version, started: Instant) -> Report {
        let waited = started.elapsed();
        let unknown = || Report { version, enforced: false, acknowledged: vec![], expired: vec![], waited };
        lock(&self.waits).get(&version).map_or_else(unknown, |wait| wait.report(version))
    }
}

impl Wait {
    fn for_all(observation: &Observation, change: Change, started: Instant) -> Self {
        let leases =
            observation.leases.iter().map(|lease| (lease.gateway.clone(), Progress::Waiting)).collect();
        Self { change, started, took: None, leases }
    }

    fn note(&mut self, version: Version, observation: &Observation) {
        for (gateway, progress) in &mut self.leases {
            if *progress == Progress::Waiting {
                *progress = match observation.leases.iter().find(|lease| lease.gateway == *gateway) {
                    Some(lease) if lease.acknowledged >= version => Progress::Acknowledged,
                    Some(lease) if !lease.over => Progress::Waiting,
                    // Removed by this look, or by somebody else who saw it run out, or given back by its holder.
                    Some(_) | None => Progress::Expired,
                };
            }
        }
        if self.took.is_none() && self.leases.values().all(|progress| *progress != Progress::Waiting) {
            self.took = Some(self.started.elapsed());
        }
    }

    fn report(&self, version: Version) -> Report {
        let those = |wanted: Progress| {
            let is = |(_, progress): &(&GatewayId, &Progress)| **progress == wanted;
            self.leases.iter().filter(is).map(|(gateway, _)| gateway.clone()).collect()
        };
        Report {
            version,
            enforced: self.took.is_some(),
            acknowledged: those(Progress::Acknowledged),
            expired: those(Progress::Expired),
            waited: self.took.unwrap_or_else(|| self.started.elapsed()),
        }
    }
}

/// Removes the leases of nodes that died, so that only a revoke within a term of their end has to wait for them;
/// and follows the changes that nobody waits for any more.
pub(crate) async fn sweep(enforcement: Arc<Enforcement>, lease_term: Duration) {
    loop {
        sleep(lease_term / 2).await;
        match enforcement.observe().await {
            Ok(observation) => enforcement.note_all(&observation),
            Err(error) => tracing::debug!(%error, "the leases cannot be read"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
