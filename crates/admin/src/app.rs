//! What all handlers share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use heliograph_auth::secret::{Hasher, Purpose};
use heliograph_bus::Link;
use heliograph_core::authority::waiter_term;
use heliograph_core::limits::Limits;
use heliograph_store::{By, SecretHash, Store, UnixMillis};
use prometheus::Registry;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use crate::budgets::FailureBudgets;
use crate::devices::Waiting;
use crate::enforcement::{self, Enforcement};
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::{Clock, Mode, NodeControl, Parts};

/// Streams of `/api/events` that may be open at once.
const MAX_STREAMS: usize = 64;
/// Checks of the whole audit log that may run at once.
const MAX_WALKS: usize = 2;
/// Redemptions that run at once. Whether a failure budget is left is looked at before a redemption and counted
/// after it; this bounds how many guesses can slip in between.
const MAX_REDEMPTIONS: usize = 4;

/// The state of all routers. Cheap to clone.
#[derive(Clone)]
pub struct Admin(pub(crate) Arc<App>);

impl Admin {
    /// Registers the metrics and starts to follow the log and the leases, until the last clone is dropped. Has to
    /// be called within a tokio runtime. An error means that a metric's name is registered twice.
    pub fn new(parts: Parts) -> prometheus::Result<Self> {
        Ok(Self(Arc::new(App::new(parts)?)))
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("mode", &self.0.mode).finish_non_exhaustive()
    }
}

/// What handlers take as their state.
pub(crate) type Shared = Arc<App>;

pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) link: Link,
    pub(crate) limits: Limits,
    pub(crate) node: Arc<dyn NodeControl>,
    pub(crate) mode: Mode,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    pub(crate) budgets: FailureBudgets,
    pub(crate) enforcement: Arc<Enforcement>,
    pub(crate) feed: Feed,
    pub(crate) waiting: Waiting,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) walks: Semaphore,
    pub(crate) redemptions: Semaphore,
    hasher: Arc<Hasher>,
    clock: Clock,
    /// Whether the node has held a lease once.
    started: AtomicBool,
    sweeper: AbortHandle,
}

impl App {
    fn new(parts: Parts) -> prometheus::Result<Self> {
        let metrics = Metrics::register(&parts.registry)?;
        let budgets = FailureBudgets::new(parts.link.budget.clone(), &parts.limits, parts.rate_limited);
        let term = waiter_term(parts.lease_term);
        let enforcement = Arc::new(Enforcement::new(parts.store.clone(), term, metrics.enforced.clone()));
        let sweeper = tokio::spawn(enforcement::sweep(enforcement.clone(), parts.lease_term)).abort_handle();
        Ok(Self {
            feed: Feed::start(parts.store.clone()),
            store: parts.store,
            link: parts.link,
            limits: parts.limits,
            node: parts.node,
            mode: parts.mode,
            registry: parts.registry,
            metrics,
            budgets,
            enforcement,
            waiting: Waiting::default(),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            walks: Semaphore::new(MAX_WALKS),
            redemptions: Semaphore::new(MAX_REDEMPTIONS),
            hasher: parts.hasher,
            clock: parts.clock,
            started: AtomicBool::new(false),
            sweeper,
        })
    }

    pub(crate) fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    pub(crate) fn hash(&self, purpose: Purpose, secret: &str) -> SecretHash {
        self.hasher.hash(purpose, secret)
    }

    /// The signature of a change that `actor` makes now.
    pub(crate) fn by<'a>(&self, actor: &'a str) -> By<'a> {
        By { actor, now: self.now() }
    }

    /// Whether the node has held a lease, now or before.
    pub(crate) fn has_started(&self) -> bool {
        if self.node.authorization_current() {
            self.started.store(true, Ordering::Relaxed);
        }
        self.started.load(Ordering::Relaxed)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}
