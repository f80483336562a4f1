//! What all sessions of a node share, and the one way of a message to its target.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use heliograph_auth::secret::Hasher;
use heliograph_auth::token::KeySet;
use heliograph_auth::turn::IceConfig;
use heliograph_bus::{Destination, Inbox, Link, Parcel, RemoteSignal, Sent};
use heliograph_core::authority::{Authority, Standing};
use heliograph_core::close::CloseCode;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::limits::Limits;
use heliograph_core::message::{IceServer, MeshHealth, Receipt, Signal, Undeliverable};
use heliograph_core::session::{Mail, Session};
use heliograph_http::TrustedProxies;
use heliograph_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::Admission;
use crate::directory::{Directory, Handle, Space};
use crate::metrics::Metrics;
use crate::outbox::Pushed;

/// What an operator may say about the gateway.
#[derive(Debug)]
pub struct Config {
    /// Every bound.
    pub limits: Limits,
    /// Length of the authorization lease.
    pub lease_term: Duration,
    /// Origins (scheme, host, port) of other sites whose pages may connect; the own one always may.
    pub allowed_origins: Vec<String>,
    /// Proxies whose `X-Forwarded-For` counts.
    pub trusted_proxies: TrustedProxies,
    /// ICE servers for clients.
    pub ice: IceConfig,
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
    origin: Instant,
    draining: AtomicBool,
    pub(crate) live: AtomicU64,
}

impl Gateway {
    /// A gateway that serves nobody yet; [`Self::start`] sets its background tasks going.
    pub fn new(parts: Parts) -> Arc<Self> {
        let origin = Instant::now();
        let refused = parts.metrics.rate_limited().with_label_values(&["connections"]);
        let admission = Admission::new(&parts.config.limits, parts.metrics.connections.clone(), refused);
        Arc::new(Self {
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
            origin,
            draining: AtomicBool::new(false),
            live: AtomicU64::new(0),
        })
    }

    /// Starts the authority feed and the sweep.
    pub fn start(self: &Arc<Self>) {
        self.tasks.spawn(crate::feed::run(Arc::clone(self)));
        self.tasks.spawn(crate::sweep::run(Arc::clone(self)));
    }

    /// Waits for the first lease, at most `patience`. A client that came before it would be told to try again, and
    /// one of the original protocol would not even be told.
    pub async fn ready(&self, patience: Duration) {
        let leased = async {
            while !self.authorization_current() {
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
        self.live.load(Ordering::Relaxed)
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

    /// Whether it takes no new sessions any more.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Changes whenever a session comes or goes; the value is their number.
    pub fn presence_changes(&self) -> watch::Receiver<u64> {
        self.presence_changes.subscribe()
    }

    /// Says goodbye to everyone: new sessions are refused from now on, clients that know `goaway` hear of it first,
    /// each socket is closed with 1012.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        for handle in self.directory.spaces().iter().flat_map(|space| space.sessions()) {
            let goaway = Mail::GoAway { reconnect_after_ms: 500, deadline_ms: 0 };
            let _closed_already = handle.outbox.push(goaway, &self.config.limits);
            handle.outbox.close(CloseCode::ServiceRestart);
        }
    }

    /// Drains and waits until the sockets are closed, at most `window`; then ends the background tasks.
    pub async fn drain(&self, window: Duration) {
        self.begin_drain();
        let gone = async {
            while self.sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(window, gone).await.is_err() {
            tracing::warn!(sessions = self.sessions(), "sockets still open at the end of the drain window");
        }
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.is_err() {
            tracing::warn!("background tasks did not end in time");
        }
    }

    /// Nanoseconds on this gateway's clock.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn ice_servers(&self, peer: &PeerId) -> Arc<Vec<IceServer>> {
        Arc::new(self.config.ice.servers_for(Some(peer), unix_seconds()))
    }

    /// How the mesh is, for a client that asks. Who may see nobody learns of nobody.
    pub(crate) async fn mesh_health(&self, session: &Session) -> MeshHealth {
        let presence = &self.link.presence;
        let online = if session.is_placed() { presence.online(&session.peer().mesh).await } else { Ok(0) };
        MeshHealth {
            peers_online: online.unwrap_or(0),
            gateways: presence.gateways().await.map_or(1, |gateways| gateways.len() as u64),
            version: self.version().0,
            authorization_current: self.authorization_current(),
        }
    }

    /// Brings a message on its way to `target`, here or on another node.
    pub(crate) fn relay(&self, space: &Space, target: &str, signal: Signal) -> Result<(), Undeliverable> {
        if let Some(handle) = space.session(target) {
            return self.deliver(&handle, signal);
        }
        let target = PeerId::parse(target).map_err(|_| Undeliverable::Unavailable)?;
        let parcel = Parcel::Signal(RemoteSignal {
            from: signal.from.id.clone(),
            from_epoch: signal.from_epoch,
            from_version: signal.from.right.version(),
            kind: signal.kind,
            id: signal.id,
            payload: signal.payload,
            receipt: signal.receipt,
            trace: signal.trace,
        });
        match self.link.bus.send(Destination::Peer(space.mesh.clone(), target), parcel) {
            Sent::Queued => Ok(()),
            Sent::Offline => Err(Undeliverable::Unavailable),
            Sent::Full => Err(Undeliverable::QueueFull),
            Sent::Down => Err(Undeliverable::BusUnavailable),
        }
    }

    /// The one delivery: messages from this node and from others pass here into the target's queue.
    pub(crate) fn deliver(&self, handle: &Handle, signal: Signal) -> Result<(), Undeliverable> {
        if !handle.peer.right.is_approved() {
            return Err(Undeliverable::Unavailable);
        }
        match handle.outbox.push(Mail::Signal(signal), &self.config.limits) {
            Pushed::Queued(dropped) => {
                for stale in dropped {
                    self.metrics.dropped("stale_candidate");
                    self.tell_sender(&stale, &handle.peer.id, Some(Undeliverable::QueueFull));
                }
                Ok(())
            }
            Pushed::Full => {
                self.metrics.dropped("slow_consumer");
                Err(Undeliverable::QueueFull)
            }
            Pushed::Closed => Err(Undeliverable::Unavailable),
        }
    }

    /// Tells a message's sender what became of it, wherever the sender is. Nothing is said of success unless asked.
    pub(crate) fn tell_sender(&self, signal: &Signal, target: &PeerId, failure: Option<Undeliverable>) {
        if failure.is_none() && !signal.receipt {
            return;
        }
        let receipt = Receipt { id: signal.id.clone(), target: Box::from(target.as_str()), failure };
        let space = self.directory.space(&signal.from.mesh);
        match space.session(signal.from.id.as_str()) {
            Some(handle) if handle.epoch == signal.from_epoch => {
                let _sender_gone = handle.outbox.push(Mail::Receipt(receipt), &self.config.limits);
            }
            Some(_) => {} // a newer session of the sender knows nothing of this message
            None => {
                let destination = Destination::Peer(signal.from.mesh.clone(), signal.from.id.clone());
                let _sender_gone =
                    self.link.bus.send(destination, Parcel::Receipt { epoch: signal.from_epoch, receipt });
            }
        }
    }

    /// Tells the members of a mesh that want to know, here and on other nodes.
    pub(crate) fn announce(&self, space: &Space, about: &PeerId, parcel: Parcel) {
        self.announce_here(space, about, &parcel);
        self.link.bus.send(Destination::Mesh(space.mesh.clone()), parcel);
        self.presence_changes.send_modify(|sessions| *sessions = self.sessions());
    }

    fn announce_here(&self, space: &Space, about: &PeerId, parcel: &Parcel) {
        space.for_each_listener(about, |handle| {
            let mail = match parcel {
                Parcel::Joined(member) => Mail::Joined(member.clone()),
                Parcel::Left(peer) => Mail::Left(peer.clone()),
                Parcel::Signal(_) | Parcel::Receipt { .. } | Parcel::Superseded { .. } => return,
            };
            let _session_over = handle.outbox.push(mail, &self.config.limits);
        });
    }

    fn arrived_for_peer(&self, mesh: &MeshName, peer: &PeerId, parcel: Parcel) {
        let space = self.directory.space(mesh);
        let handle = space.session(peer.as_str());
        match (parcel, handle) {
            (Parcel::Signal(remote), handle) => self.arrived_signal(&space, peer, remote, handle.as_deref()),
            (Parcel::Receipt { epoch, receipt }, Some(handle)) if handle.epoch == epoch => {
                let _session_over = handle.outbox.push(Mail::Receipt(receipt), &self.config.limits);
            }
            (Parcel::Superseded { by }, Some(handle)) if handle.epoch < by => {
                handle.outbox.close(CloseCode::Superseded);
            }
            _ => {}
        }
    }

    fn arrived_signal(&self, space: &Space, peer: &PeerId, remote: RemoteSignal, handle: Option<&Handle>) {
        let from = space.intern(&remote.from);
        // The sender's node vouches for the sender as of a version; a later revocation that this node has applied
        // has the higher version and stays.
        from.right.apply(remote.from_version, Standing::Approved);
        let signal = Signal {
            from,
            from_epoch: remote.from_epoch,
            kind: remote.kind,
            id: remote.id,
            payload: remote.payload,
            receipt: remote.receipt,
            accepted_at: Instant::now(),
            via_bus: true,
            trace: remote.trace,
        };
        let witness = Signal { payload: bytes::Bytes::new(), ..signal.clone() };
        let result = handle.map_or(Err(Undeliverable::Unavailable), |handle| self.deliver(handle, signal));
        if let Err(reason) = result {
            self.tell_sender(&witness, peer, Some(reason));
        }
    }
}

impl Inbox for Gateway {
    fn arrived(&self, destination: &Destination, parcel: Parcel) {
        match destination {
            Destination::Peer(mesh, peer) => self.arrived_for_peer(mesh, peer, parcel),
            Destination::Mesh(mesh) => {
                let about = match &parcel {
                    Parcel::Joined(member) => member.peer.clone(),
                    Parcel::Left(peer) => peer.clone(),
                    Parcel::Signal(_) | Parcel::Receipt { .. } | Parcel::Superseded { .. } => return,
                };
                self.announce_here(&self.directory.space(mesh), &about, &parcel);
            }
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
