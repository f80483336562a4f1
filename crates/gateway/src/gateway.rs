//! What all sessions of a node share.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use foldhash::quality::RandomState;

use heliograph_auth::secret::Hasher;
use heliograph_auth::token::KeySet;
use heliograph_auth::turn::IceConfig;
use heliograph_bus::{Inbox, Link, NodeStatus};
use heliograph_core::authority::Authority;
use heliograph_core::id::{GatewayId, PeerId, Version};
use heliograph_core::limits::Limits;
use heliograph_core::manners::RoomPolicies;
use heliograph_core::message::MeshHealth;
use heliograph_core::session::Session;
use heliograph_http::TrustedProxies;
use heliograph_store::Store;
use tokio::sync::{Mutex, MutexGuard, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Admission;
use crate::directory::Directory;
use crate::drain::Drain;
use crate::metrics::Metrics;
use crate::resume::HandOvers;

/// So many peers may come and go at the same moment without waiting for one another.
const TURNSTILES: usize = 256;

/// What an operator may say about the gateway.
#[derive(Debug)]
pub struct Config {
    /// Every bound.
    pub limits: Limits,
    /// Length of the authorization lease.
    pub lease_term: Duration,
    /// How long the queue of a session that lost its connection is kept.
    pub resume_window: Duration,
    /// How long a drain may take.
    pub drain_window: Duration,
    /// Origins (scheme, host, port) of other sites whose pages may connect; the own one always may.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// ICE servers for clients.
    pub ice: IceConfig,
    /// Who may enter rooms.
    pub rooms: RoomPolicies,
}

/// What a gateway is made of.
pub struct Parts {
    /// Its name, fresh per boot.
    pub id: GatewayId,
    /// Its settings.
    pub config: Config,
    /// The way to other nodes.
    pub link: Link,
    /// The pairing state.
    pub store: Arc<dyn Store>,
    /// Signs and verifies tokens.
    pub tokens: KeySet,
    /// Hashes keys and tokens for look-up.
    pub hasher: Arc<Hasher>,
    /// Its instruments.
    pub metrics: Metrics,
}

/// A node's sockets and what they share.
pub struct Gateway {
    pub(crate) id: GatewayId,
    pub(crate) config: Config,
    pub(crate) link: Link,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tokens: KeySet,
    pub(crate) hasher: Arc<Hasher>,
    pub(crate) metrics: Metrics,
    pub(crate) authority: Authority,
    pub(crate) directory: Directory,
    pub(crate) admission: Arc<Admission>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) presence_changes: watch::Sender<u64>,
    pub(crate) assertions: crate::token::SeenAssertions,
    pub(crate) drain: Drain,
    pub(crate) hand_overs: HandOvers,
    origin: Instant,
    pub(crate) live: AtomicU64,
    /// Sessions whose client is away and may come back.
    pub(crate) parked: AtomicU64,
    turnstiles: Vec<Mutex<()>>,
    turnstile_of: RandomState,
    me: Weak<Self>,
}

impl Gateway {
    /// A gateway that serves nobody yet; [`Self::start`] sets its background tasks going.
    pub fn new(parts: Parts) -> Arc<Self> {
        let origin = Instant::now();
        let refused = parts.metrics.rate_limited().with_label_values(&["connections"]);
        let admission = Admission::new(&parts.config.limits, parts.metrics.connections.clone(), refused);
        Arc::new_cyclic(|me| Self {
            id: parts.id,
            config: parts.config,
            link: parts.link,
            store: parts.store,
            tokens: parts.tokens,
            hasher: parts.hasher,
            metrics: parts.metrics,
            authority: Authority::new(origin),
            directory: Directory::default(),
            admission: Arc::new(admission),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            presence_changes: watch::Sender::new(0),
            assertions: crate::token::SeenAssertions::default(),
            drain: Drain::default(),
            hand_overs: HandOvers::default(),
            origin,
            live: AtomicU64::new(0),
            parked: AtomicU64::new(0),
            turnstiles: (0..TURNSTILES).map(|_| Mutex::default()).collect(),
            turnstile_of: RandomState::default(),
            me: Weak::clone(me),
        })
    }

    /// Starts the authority feed, the sweep and the watch over presence.
    pub fn start(self: &Arc<Self>) {
        self.report();
        self.tasks.spawn(crate::feed::run(Arc::clone(self)));
        self.tasks.spawn(crate::sweep::run(Arc::clone(self)));
        self.tasks.spawn(crate::seats::run(Arc::clone(self)));
    }

    /// Says to the other nodes how this one is.
    pub(crate) fn report(&self) {
        self.link.presence.report(NodeStatus {
            id: self.id.clone(),
            sessions: self.sessions(),
            version: env!("CARGO_PKG_VERSION").into(),
            draining: self.is_draining(),
        });
    }

    /// Held while a session of `peer` begins or ends, so that what presence and bus are told of it is told in one
    /// order: the end of the older one never takes the newer one's subscription along.
    pub(crate) async fn turnstile(&self, peer: &PeerId) -> MutexGuard<'_, ()> {
        let hash = self.turnstile_of.hash_one(peer);
        let at = usize::try_from(hash % self.turnstiles.len() as u64).unwrap_or(0);
        self.turnstiles[at].lock().await
    }

    /// Runs `work` beside the sockets, as long as the gateway lives.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: impl FnOnce(Arc<Self>) -> F) {
        if let Some(me) = self.me.upgrade() {
            self.tasks.spawn(work(me));
        }
    }

    /// Waits for the first lease and for the other nodes, at most `patience`. A client that came before it would be told to try again, and
    /// one of the original protocol would not even be told.
    pub async fn ready(&self, patience: Duration) {
        let leased = async {
            while !(self.authorization_current() && self.bus_up()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let _late = tokio::time::timeout(patience, leased).await;
    }

    /// Its name.
    pub fn id(&self) -> &GatewayId {
        &self.id
    }

    /// Sessions that are open now.
    pub fn sessions(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }

    /// The pairing version that is applied here.
    pub fn version(&self) -> Version {
        self.authority.version()
    }

    /// Whether this node may relay.
    pub fn authorization_current(&self) -> bool {
        self.authority.is_current(Instant::now())
    }

    /// Whether other nodes can be reached.
    pub fn bus_up(&self) -> bool {
        self.link.bus.is_up()
    }

    /// Whether it is about to take no sessions any more, or takes none already.
    pub fn is_draining(&self) -> bool {
        self.drain.is_on()
    }

    /// Changes whenever a session comes or goes; the value is their number.
    pub fn presence_changes(&self) -> watch::Receiver<u64> {
        self.presence_changes.subscribe()
    }

    /// Nanoseconds on this gateway's clock.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    /// How the mesh is, for a client that asks. Who may see nobody learns of nobody.
    pub(crate) async fn mesh_health(&self, session: &Session) -> MeshHealth {
        let presence = &self.link.presence;
        let online = if session.is_placed() { presence.online(&session.peer().space).await } else { Ok(0) };
        MeshHealth {
            peers_online: online.unwrap_or(0),
            gateways: presence.gateways().await.map_or(1, |gateways| gateways.len() as u64),
            version: self.version().0,
            authorization_current: self.authorization_current(),
        }
    }
}

impl Gateway {
    /// The receiver of parcels, for the bus to attach; weak, since the gateway holds the bus.
    pub fn inbox(self: &Arc<Self>) -> Weak<dyn Inbox> {
        let inbox: Arc<dyn Inbox> = Arc::clone(self) as Arc<dyn Inbox>;
        Arc::downgrade(&inbox)
    }

    /// What counts this node's connections, for its listeners.
    pub fn admission(&self) -> Arc<Admission> {
        Arc::clone(&self.admission)
    }
}

/// Seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// Microseconds since the Unix epoch.
pub(crate) fn unix_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}
