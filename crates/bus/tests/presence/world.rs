//! Nodes that do with presence what a gateway does, and remember what they were told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use heliograph_bus::redis::{Node, Options, connect};
use heliograph_bus::testing::{Log, visit};
use heliograph_bus::{
    BusError, Destination, Inbox, Link, Parcel, Place, Placement, Presence, Reseated, Seat,
};
use heliograph_core::id::{Epoch, GatewayId, PeerId, SpaceName};
use prometheus::Registry;
use tokio::time::{sleep, timeout};

/// Longer than anything takes here that works.
const LONG: Duration = Duration::from_secs(40);
/// A part of the time between two heartbeats.
const STEP: Duration = Duration::from_millis(300);

/// Waits until something holds; panics when it takes too long.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{what}: not within {LONG:?}"));
}

/// A part of a Redis that no other test has.
pub(crate) fn of_its_own(url: &str) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    format!("{url}?prefix=test-{}", LAST.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn peer(name: impl AsRef<str>) -> PeerId {
    PeerId::parse(name.as_ref()).unwrap()
}

/// A session as its gateway knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) epoch: Epoch,
    pub(crate) place: Option<u64>,
    pub(crate) hidden: bool,
}

/// A peer and its place.
pub(crate) type Placed = (PeerId, u64);

/// What a gateway remembers.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) sessions: HashMap<PeerId, Session>,
    /// Whom each session was given in its list: its place, and whom.
    pub(crate) lists: HashMap<Placed, HashSet<Placed>>,
    /// How often all were said.
    pub(crate) said: u64,
    pub(crate) kept: usize,
    pub(crate) moved: Vec<PeerId>,
    pub(crate) superseded: Vec<PeerId>,
}

/// A gateway's use of presence, for one mesh.
pub(crate) struct Gateway {
    pub(crate) link: Link,
    pub(crate) registry: Registry,
    pub(crate) mesh: SpaceName,
    node: Arc<Node>,
    log: Arc<Log>,
    memory: Mutex<Memory>,
}

impl Gateway {
    /// A gateway that is up and hears the mesh's news.
    pub(crate) async fn start(url: &str, name: &str, mesh: SpaceName) -> Arc<Self> {
        let gateway = Self::prepare(url, name, mesh);
        until("the node is up", async || gateway.link.bus.is_up()).await;
        gateway.link.bus.subscribe(Destination::Space(gateway.mesh.clone())).await.unwrap();
        gateway
    }

    fn prepare(url: &str, name: &str, mesh: SpaceName) -> Arc<Self> {
        let registry = Registry::new();
        let id = GatewayId::parse(name).unwrap();
        let node = connect(Options::parse(url).unwrap(), id, &registry).unwrap();
        let log = Arc::new(Log::default());
        let inbox: Weak<dyn Inbox> = Arc::downgrade(&(Arc::clone(&log) as Arc<dyn Inbox>));
        node.attach(inbox);
        let gateway =
            Arc::new(Self { link: node.link(), registry, mesh, node, log, memory: Mutex::default() });
        tokio::spawn(say_again(Arc::downgrade(&gateway)));
        gateway
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap()
    }

    pub(crate) fn presence(&self) -> &dyn Presence {
        &*self.link.presence
    }

    pub(crate) fn session(&self, name: &str) -> Option<Session> {
        self.memory().sessions.get(name).copied()
    }

    /// Claims and registers; a client whose registration fails comes back until it succeeds.
    pub(crate) async fn register(&self, name: &str) {
        let registering = async {
            while let Err(error) = self.try_to_register(name).await {
                assert_ne!(error, BusError::Superseded, "{name}");
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LONG, registering).await.unwrap_or_else(|_| panic!("{name} is not registered"));
    }

    pub(crate) async fn try_to_register(&self, name: &str) -> Result<(), BusError> {
        let me = peer(name);
        let epoch = self.claim(name).await?;
        let placed = self.presence().place(&self.mesh, &me, epoch, Place::New).await;
        match placed {
            Ok(placement) => {
                self.memory().place(&me, placement);
                Ok(())
            }
            Err(error) => {
                self.end(name).await;
                Err(error)
            }
        }
    }

    pub(crate) async fn claim(&self, name: &str) -> Result<Epoch, BusError> {
        let epoch = self.presence().claim(&self.mesh, &peer(name), visit()).await?.epoch;
        self.memory().sessions.insert(peer(name), Session { epoch, place: None, hidden: false });
        Ok(epoch)
    }

    /// The session's client is away.
    pub(crate) async fn hide(&self, name: &str) {
        let epoch = {
            let mut memory = self.memory();
            let session = memory.sessions.get_mut(name).unwrap();
            session.hidden = true;
            session.epoch
        };
        self.presence().hide(&self.mesh, &peer(name), epoch).await.unwrap();
    }

    /// Its client is back; answers its place.
    pub(crate) async fn show(&self, name: &str) -> u64 {
        let epoch = self.session(name).unwrap().epoch;
        let placement = self.presence().place(&self.mesh, &peer(name), epoch, Place::Same).await.unwrap();
        self.memory().sessions.get_mut(name).unwrap().hidden = false;
        placement.place
    }

    /// The session ends.
    pub(crate) async fn end(&self, name: &str) -> bool {
        let session = self.memory().sessions.remove(name).unwrap();
        self.presence().release(&self.mesh, &peer(name), session.epoch).await.unwrap()
    }

    /// The peers that a newcomer would be told of now.
    pub(crate) async fn listed(&self) -> Vec<String> {
        let observer = peer("observer");
        let presence = self.presence();
        let epoch = presence.claim(&self.mesh, &observer, visit()).await.unwrap().epoch;
        let placement = presence.place(&self.mesh, &observer, epoch, Place::New).await.unwrap();
        presence.release(&self.mesh, &observer, epoch).await.unwrap();
        placement.members.into_iter().map(|member| member.peer.to_string()).collect()
    }

    /// The news that arrived, without those of the observer.
    pub(crate) fn news(&self) -> Vec<Parcel> {
        let news = self.log.all().into_iter().map(|(_, parcel)| parcel);
        news.filter(|parcel| about(parcel) != Some("observer")).collect()
    }

    /// How often it was told that a peer left.
    pub(crate) fn departures(&self) -> BTreeMap<String, usize> {
        let mut departures = BTreeMap::new();
        for parcel in self.news() {
            if let Parcel::Left { member, .. } = parcel {
                *departures.entry(member.peer.to_string()).or_default() += 1;
            }
        }
        departures
    }

    /// A counter of this node.
    pub(crate) fn count(&self, name: &str) -> u64 {
        let family = self.registry.gather().into_iter().find(|family| family.name() == name).unwrap();
        let value: f64 = family.get_metric().iter().map(|metric| metric.get_counter().get_value()).sum();
        format!("{value}").parse().unwrap()
    }

    /// Whether all upheavals so far are over.
    pub(crate) fn is_up(&self) -> bool {
        self.link.bus.is_up()
    }

    /// To the others it is as if the node were killed.
    pub(crate) fn die(self: Arc<Self>) {
        assert!(Arc::into_inner(self).is_some(), "nobody else holds the gateway");
    }

    pub(crate) async fn shutdown(&self) {
        self.node.shutdown().await;
    }
}

impl Memory {
    fn place(&mut self, me: &PeerId, placement: Placement) {
        if let Some(session) = self.sessions.get_mut(me) {
            session.place = Some(placement.place);
        }
        let members = placement.members.into_iter().map(|member| (member.peer, member.place)).collect();
        self.lists.insert((me.clone(), placement.place), members);
    }
}

fn about(parcel: &Parcel) -> Option<&str> {
    match parcel {
        Parcel::Joined(member) | Parcel::Left { member, .. } => Some(member.peer.as_str()),
        _ => None,
    }
}

/// After every upheaval a gateway says whom it has.
async fn say_again(gateway: Weak<Gateway>) {
    let Some(mut upheavals) = gateway.upgrade().map(|gateway| gateway.presence().upheavals()) else { return };
    loop {
        upheavals.mark_unchanged();
        let Some((presence, seats)) = gateway.upgrade().map(|gateway| gateway.seats()) else { return };
        // Not held meanwhile: so a gateway can die at any time.
        let outcomes = presence.reseat(&seats).await;
        drop(presence);
        let Some(gateway) = gateway.upgrade() else { return };
        let Ok(outcomes) = outcomes else {
            drop(gateway);
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        gateway.take(&seats, outcomes);
        drop(gateway);
        if upheavals.changed().await.is_err() {
            return;
        }
    }
}

impl Gateway {
    fn seats(&self) -> (Arc<dyn Presence>, Vec<Seat>) {
        let seat = |(peer, session): (&PeerId, &Session)| Seat {
            space: self.mesh.clone(),
            peer: peer.clone(),
            epoch: session.epoch,
            place: session.place,
            hidden: session.hidden,
            visit: visit(),
        };
        (self.link.presence.clone(), self.memory().sessions.iter().map(seat).collect())
    }

    fn take(&self, seats: &[Seat], outcomes: Vec<Reseated>) {
        assert_eq!(seats.len(), outcomes.len());
        let mut memory = self.memory();
        memory.said += 1;
        for (seat, outcome) in seats.iter().zip(outcomes) {
            match outcome {
                Reseated::Kept => memory.kept += 1,
                Reseated::Superseded(newer) => {
                    assert!(newer > seat.epoch);
                    memory.superseded.push(seat.peer.clone());
                    memory.sessions.retain(|peer, session| *peer != seat.peer || session.epoch != seat.epoch);
                }
                Reseated::Moved(placement) => {
                    memory.moved.push(seat.peer.clone());
                    memory.place(&seat.peer, placement);
                }
            }
        }
    }
}

/// Three gateways on one Redis.
pub(crate) async fn three(url: &str, mesh: &SpaceName) -> Vec<Arc<Gateway>> {
    three_by(&[url, url, url].map(str::to_owned), mesh).await
}

/// Three gateways that reach one Redis by these ways.
pub(crate) async fn three_by(urls: &[String; 3], mesh: &SpaceName) -> Vec<Arc<Gateway>> {
    let prefix = of_its_own("");
    let mut starting = vec![];
    for (i, url) in urls.iter().enumerate() {
        let (url, mesh) = (format!("{url}{prefix}"), mesh.clone());
        starting.push(tokio::spawn(async move {
            // Their hearts do not beat in step.
            sleep(STEP * u32::try_from(i).unwrap()).await;
            Gateway::start(&url, &format!("gw-{i}"), mesh).await
        }));
    }
    let mut gateways = vec![];
    for gateway in starting {
        gateways.push(gateway.await.unwrap());
    }
    gateways
}

/// All of them, `each` on every gateway, register at one moment.
pub(crate) async fn register_at_once(gateways: &[Arc<Gateway>], name: &str, each: usize) {
    let mut registering = tokio::task::JoinSet::new();
    for (at, gateway) in gateways.iter().enumerate() {
        for i in 0..each {
            let (gateway, name) = (Arc::clone(gateway), format!("{name}-{at}-{i}"));
            registering.spawn(async move { gateway.register(&name).await });
        }
    }
    registering.join_all().await;
}
