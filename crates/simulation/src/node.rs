//! A node: the rules of `heliograph-core`, and around them what the gateway does with sockets, bus and presence, without
//! the sockets' bytes. What is here and not in the core mirrors `heliograph-gateway`: relay, resume, connection.

mod relay;
mod resume;
mod upkeep;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_bus::{Place, TakeOver};
use heliograph_core::authority::{Authority, Standing};
use heliograph_core::close::CloseCode;
use heliograph_core::id::{Epoch, GatewayId, MeshName, PeerId, Version};
use heliograph_core::limits::Limits;
use heliograph_core::message::{Peer, Receipt};
use heliograph_core::session::{Mail, Remains, Session};
use heliograph_core::stage::{Arrival, AtomicStage, Stage, Way};

use crate::bus::Channel;
use crate::net::{Event, HandleNo, LineNo, Net, NodeNo, Up};

/// How long a session that lost its connection is kept.
pub(crate) const RESUME_WINDOW: Duration = Duration::from_secs(8);
/// How long the lease lasts.
const LEASE: Duration = Duration::from_secs(3);
/// Between two looks at all deadlines; the lease is renewed at every second one.
const TICK: Duration = Duration::from_millis(500);
/// What a superseded session left is kept for the one that superseded it.
const PASSED_HOLD: Duration = Duration::from_secs(4);
/// How long a heir waits for what its former self left.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// When a fence that did not come back is sent again, and when it counts without.
const FENCE_AGAIN: Duration = Duration::from_secs(1);
const FENCE_GIVEN_UP: Duration = Duration::from_secs(10);

pub(crate) use relay::into_signal;

/// A session as others on its node see it.
pub(crate) struct Handle {
    pub(crate) peer: Arc<Peer>,
    pub(crate) epoch: Epoch,
    pub(crate) first_epoch: Epoch,
    pub(crate) stage: AtomicStage,
    pub(crate) place: Option<u64>,
    pub(crate) token: Option<Box<str>>,
    pub(crate) line: LineNo,
    /// `None` when its connection ended.
    pub(crate) session: Option<Session>,
    pub(crate) outbox: Outbox,
    /// What the connection left.
    pub(crate) remains: Option<Remains>,
    /// After this nobody comes any more.
    until: Option<Instant>,
    /// Who waits for what it leaves.
    heirs: Vec<TakeOver>,
    /// Whether its connection waits for presence or for another node, and what the client says meanwhile.
    pub(crate) busy: bool,
    pub(crate) inbox: VecDeque<Up>,
    /// The place to ask for once its fence came by.
    pub(crate) to_place: Option<Place>,
    pub(crate) turn_planned: bool,
    opened: Instant,
    /// The latest session of the peer that began anew, as of the claim.
    pub(crate) anew: Epoch,
    /// Whether a newer session is on another node, for one that ended before it came.
    elsewhere: bool,
    /// Answers that came before it was known whether this session resumes another; `None` once it is.
    early: Option<Vec<(Epoch, Receipt)>>,
}

/// What waits to be written.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) mail: VecDeque<Mail>,
    pub(crate) close: Option<CloseCode>,
    pub(crate) held: bool,
    pub(crate) tick: bool,
    sealed: bool,
}

/// Something about a peer that is done in order on one node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    Open(LineNo),
    Depart(HandleNo),
}

/// A node.
pub(crate) struct Node {
    pub(crate) number: NodeNo,
    pub(crate) id: GatewayId,
    pub(crate) alive: bool,
    pub(crate) paused: bool,
    /// What happened to it while it stood still.
    pub(crate) stalled: VecDeque<Event>,
    pub(crate) limits: Limits,
    pub(crate) authority: Authority,
    peers: BTreeMap<PeerId, Arc<Peer>>,
    pub(crate) handles: Vec<Handle>,
    pub(crate) sessions: BTreeMap<PeerId, HandleNo>,
    pub(crate) former: BTreeMap<PeerId, HandleNo>,
    pub(crate) gates: BTreeMap<PeerId, VecDeque<Job>>,
    pub(crate) heirs: BTreeMap<Epoch, HandleNo>,
    tokens: u64,
    ticks: u64,
}

/// The mesh of the simulation.
pub(crate) fn mesh() -> MeshName {
    MeshName::default_mesh()
}

impl Node {
    pub(crate) fn new(number: NodeNo, net: &mut Net) -> Self {
        let origin = net.clock.instant();
        let authority = Authority::new(origin);
        authority.renewed(origin, LEASE);
        let id = GatewayId::parse(&format!("n{number}")).unwrap_or_else(|error| panic!("{error}"));
        net.clock.after(TICK, Event::Tick { node: number });
        net.presence.came(number);
        net.bus.subscribe(Channel::Node(number), number);
        let limits = Limits {
            ping_interval: Duration::from_secs(2),
            pong_deadline: Duration::from_secs(2),
            ..Limits::default()
        };
        Self {
            number,
            id,
            alive: true,
            paused: false,
            stalled: VecDeque::new(),
            limits,
            authority,
            peers: BTreeMap::new(),
            handles: vec![],
            sessions: BTreeMap::new(),
            former: BTreeMap::new(),
            gates: BTreeMap::new(),
            heirs: BTreeMap::new(),
            tokens: 0,
            ticks: 0,
        }
    }

    /// The one value of a peer on this node. All are approved in this world.
    pub(crate) fn peer(&mut self, id: &PeerId) -> Arc<Peer> {
        let make = || {
            let peer = Peer::new(mesh(), id.clone());
            peer.right.apply(Version(1), Standing::Approved);
            Arc::new(peer)
        };
        Arc::clone(self.peers.entry(id.clone()).or_insert_with(make))
    }

    pub(crate) fn handle(&self, no: HandleNo) -> &Handle {
        &self.handles[no]
    }

    pub(crate) fn handle_mut(&mut self, no: HandleNo) -> &mut Handle {
        &mut self.handles[no]
    }

    pub(crate) fn token(&mut self, no: HandleNo) -> Box<str> {
        self.tokens += 1;
        let fresh = format!("{}.{}.{}", self.number, self.tokens, self.handles[no].epoch.0);
        self.handles[no].token.get_or_insert_with(|| fresh.into()).clone()
    }
}

impl Handle {
    pub(crate) fn new(
        peer: Arc<Peer>,
        epoch: Epoch,
        stage: Stage,
        line: LineNo,
        session: Session,
        now: Instant,
    ) -> Self {
        Self {
            peer,
            epoch,
            first_epoch: epoch,
            stage: AtomicStage::new(stage),
            place: None,
            token: None,
            line,
            session: Some(session),
            outbox: Outbox::default(),
            remains: None,
            until: None,
            heirs: vec![],
            busy: false,
            inbox: VecDeque::new(),
            to_place: None,
            turn_planned: false,
            opened: now,
            anew: Epoch(0),
            elsewhere: false,
            early: Some(vec![]),
        }
    }

    fn arrival(&self) -> Arrival {
        if self.elsewhere { Arrival::Leave } else { self.stage.get().arrival() }
    }

    fn way(&self) -> Way {
        if self.elsewhere { Way::Bus } else { self.stage.get().way() }
    }
}

impl Outbox {
    /// Takes what is left, for good.
    pub(crate) fn finish(&mut self) -> VecDeque<Mail> {
        self.sealed = true;
        self.held = false;
        std::mem::take(&mut self.mail)
    }
}
