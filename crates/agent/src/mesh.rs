//! The peers of the mesh: who is there, and what connects us.
//!
//! Two tasks work on it: one hears the service, the other what the connections bring. A local program that reads slowly
//! holds up the second, which is how senders are slowed down, and never the first.

mod commands;
mod signaling;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use heliograph_client::{Client, Event, Events, IceServer, Listed, Role, State, Stop};
use heliograph_core::id::PeerId;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bridge::{Hub, Notice};
use crate::peer::{Ended, FromPeer, Peer, PeerSettings, Signal, ToPeer};
use signaling::Service;

/// Peers that are kept at the same time; a larger mesh should not be a full one.
const MAX_PEERS: usize = 1024;
/// What the connections bring and nobody has taken yet. Small: what waits here waits outside of their own bounds.
const EVENTS: usize = 64;
/// Changes of state that wait for local programs.
const STATUSES: usize = 16;
/// How often it is looked whether a peer should be tried again.
const LOOK: Duration = Duration::from_secs(1);
/// After a failure the next attempt is made within the first of these times, which then double up to the last.
const RETRY: Duration = Duration::from_secs(2);
const MAX_RETRY: Duration = Duration::from_mins(1);
/// For how long a peer is kept that said something and is neither listed nor connected.
const GRACE: Duration = Duration::from_secs(10);
/// How long all channels together may take to close properly.
const FAREWELL: Duration = Duration::from_secs(2);

/// The peers, and how it stands with each.
pub(crate) struct Mesh {
    client: Client,
    hub: Arc<Hub>,
    relay_only: bool,
    server: String,
    began: SystemTime,
    peers: Mutex<Peers>,
    from_peers: mpsc::Sender<(PeerId, FromPeer)>,
    statuses: mpsc::Sender<Value>,
}

#[derive(Default)]
struct Peers {
    known: HashMap<PeerId, Known>,
    /// For connections that are made from now on.
    ice_servers: Vec<IceServer>,
}

/// A peer that the service lists, or with whom there is a connection.
struct Known {
    peer: Arc<Peer>,
    present: bool,
    /// Whether local programs know of a channel.
    open: bool,
    /// When it last said something. An offer can overtake the news that its sender has come, and is not yet a connection.
    heard: Instant,
    /// Attempts in a row that failed, and when the next one is due.
    failures: u32,
    retry_at: Option<Instant>,
}

/// What local programs have to be told; for [`Mesh::inform`].
pub(crate) struct News {
    from_peers: mpsc::Receiver<(PeerId, FromPeer)>,
    statuses: mpsc::Receiver<Value>,
}

impl Mesh {
    /// Without peers. `server` is what `status` shows.
    pub(crate) fn new(client: Client, hub: Arc<Hub>, relay_only: bool, server: String) -> (Arc<Self>, News) {
        let (tell, from_peers) = mpsc::channel(EVENTS);
        let (say, statuses) = mpsc::channel(STATUSES);
        let mesh = Self {
            client,
            hub,
            relay_only,
            server,
            began: SystemTime::now(),
            peers: Mutex::default(),
            from_peers: tell,
            statuses: say,
        };
        (Arc::new(mesh), News { from_peers, statuses })
    }

    /// Does what the service says, until signaling has ended for good.
    pub(crate) async fn hear_service(&self, mut events: Events, own_ice: bool) -> Stop {
        while let Some(event) = events.next().await {
            match event {
                Event::State(State::Stopped(stop)) => return stop,
                Event::State(state) => {
                    match state {
                        State::Online => tracing::info!("connected to the service"),
                        State::Waiting { retry_in } => {
                            tracing::info!(?retry_in, "not connected to the service");
                        }
                        State::Connecting | State::Stopped(_) => tracing::debug!("connecting to the service"),
                    }
                    // Where programs read so slowly that many wait, the latest of them is not worth more.
                    let _full = self.statuses.try_send(self.status_of(&state));
                }
                Event::IceServers(_) if own_ice => {}
                Event::IceServers(servers) => self.use_ice_servers(servers),
                other => self.hear(other),
            }
        }
        Stop::Closed
    }

    fn hear(&self, event: Event) {
        match event {
            Event::PeerList { peers, .. } => self.listed(peers),
            Event::PeerJoined(listed) => self.joined(listed),
            Event::PeerLeft(peer) => self.left(&peer),
            Event::PeerRevoked(peer) => self.revoked(&peer),
            Event::Message { from, kind, payload, .. } => self.signal(&from, &kind, &payload),
            Event::Resumed { lost, .. } if lost != Some(0) => self.tell_all(|| ToPeer::SignalsMayBeLost),
            Event::Undeliverable { target: Some(peer), .. } => {
                // A candidate, or something that nobody waits for any more.
                if let Some(known) = self.peers().known.get(&peer) {
                    tell(&peer, known, ToPeer::SignalsMayBeLost);
                }
            }
            Event::Approved => tracing::info!("approved: this peer may signal now"),
            Event::Revoked => tracing::warn!("this peer was revoked"),
            Event::GoAway { .. } => tracing::info!("the gateway drains; moving to another one"),
            Event::ServiceError { code, message } => {
                tracing::warn!(code, words = message, "the service objects");
            }
            Event::State(_)
            | Event::IceServers(_)
            | Event::Resumed { .. }
            | Event::Undeliverable { target: None, .. } => {}
        }
    }

    /// Servers for ICE, for connections that are and that will be.
    pub(crate) fn use_ice_servers(&self, servers: Vec<IceServer>) {
        self.tell_all(|| ToPeer::Configure(servers.clone()));
        self.peers().ice_servers = servers;
    }

    /// Whom we find in the list waits for our offer: we are the newcomer.
    fn listed(&self, listed: Vec<Listed>) {
        let mut peers = self.peers();
        for (id, known) in &mut peers.known {
            if known.present && !listed.iter().any(|listed| listed.peer == *id) {
                known.present = false;
                tell(id, known, ToPeer::Present(false));
            }
        }
        for Listed { peer: id, role } in listed {
            let Some(known) = self.present(&mut peers, &id, role) else { continue };
            tell(&id, known, ToPeer::SignalingBack);
            tell(&id, known, ToPeer::Connect);
        }
        peers.forget_the_gone();
    }

    /// Who comes after us offers to us.
    fn joined(&self, Listed { peer, role }: Listed) {
        self.present(&mut self.peers(), &peer, role);
    }

    /// Its record, made if it is new and there is room.
    fn present<'a>(&self, peers: &'a mut Peers, id: &PeerId, role: Option<Role>) -> Option<&'a mut Known> {
        let known = self.known(peers, id)?;
        known.present = true;
        tell(id, known, ToPeer::Present(true));
        if role.is_some() {
            tell(id, known, ToPeer::Role(role));
        }
        Some(known)
    }

    fn left(&self, id: &PeerId) {
        let mut peers = self.peers();
        if let Some(known) = peers.known.get_mut(id) {
            known.present = false;
            known.retry_at = None;
            tell(id, known, ToPeer::Present(false));
        }
        peers.forget_the_gone();
    }

    /// A revocation reaches the data path: an open channel needs no service, so it has to be closed here.
    fn revoked(&self, id: &PeerId) {
        if let Some(known) = self.peers().known.get_mut(id) {
            tracing::info!(peer = %id, "revoked; what connects us is closed");
            known.present = false;
            known.retry_at = None;
            tell(id, known, ToPeer::Close(Ended::Revoked));
        }
    }

    fn signal(&self, from: &PeerId, kind: &str, payload: &RawValue) {
        let Some(signal) = Signal::parse(kind, payload) else {
            tracing::debug!(peer = %from, kind, "not a message of ours, or malformed");
            return;
        };
        if let Some(known) = self.known(&mut self.peers(), from) {
            known.heard = Instant::now();
            tell(from, known, ToPeer::Signal(signal));
        }
    }

    fn known<'a>(&self, peers: &'a mut Peers, id: &PeerId) -> Option<&'a mut Known> {
        let me = self.client.peer_id()?;
        if *id == me {
            return None;
        }
        if !peers.known.contains_key(id) {
            if peers.known.len() >= MAX_PEERS {
                tracing::warn!(peer = %id, "no more than {MAX_PEERS} peers are kept; this one is left out");
                return None;
            }
            let known = self.begin(&me, id, &peers.ice_servers);
            peers.known.insert(id.clone(), known);
        }
        peers.known.get_mut(id)
    }

    fn begin(&self, me: &PeerId, id: &PeerId, ice_servers: &[IceServer]) -> Known {
        let settings = PeerSettings {
            relay_only: self.relay_only,
            ice_servers: ice_servers.to_vec(),
            ..PeerSettings::default()
        };
        let service = Arc::new(Service(self.client.clone()));
        let peer = Peer::spawn(me, id.clone(), &settings, service, self.from_peers.clone());
        Known {
            peer: Arc::new(peer),
            present: false,
            open: false,
            heard: Instant::now(),
            failures: 0,
            retry_at: None,
        }
    }

    /// Tells local programs what the connections bring and how it stands with the service. Never ends by itself.
    pub(crate) async fn inform(&self, mut news: News) {
        loop {
            let notice = tokio::select! {
                Some((id, event)) = news.from_peers.recv() => self.notice(id, event),
                Some(status) = news.statuses.recv() => Some(Notice::Status(status)),
                else => return,
            };
            if let Some(notice) = notice {
                self.hub.tell(notice).await;
            }
        }
    }

    fn notice(&self, id: PeerId, event: FromPeer) -> Option<Notice> {
        match event {
            // Only whole objects with a type come this far.
            FromPeer::Message(text) => {
                Some(Notice::Message { from: id, message: RawValue::from_string(text).ok()? })
            }
            FromPeer::Opened => {
                let mut peers = self.peers();
                let known = peers.known.get_mut(&id)?;
                (known.open, known.failures, known.retry_at) = (true, 0, None);
                tracing::info!(peer = %id, "channel open");
                Some(Notice::PeerConnected(id))
            }
            FromPeer::Closed(ended) => {
                let was_open = self.closed(&id, ended);
                tracing::info!(peer = %id, reason = ended.as_str(), "connection closed");
                was_open.then_some(Notice::PeerDisconnected(id))
            }
        }
    }

    /// Whether local programs knew of a channel.
    fn closed(&self, id: &PeerId, ended: Ended) -> bool {
        let mut peers = self.peers();
        let Some(known) = peers.known.get_mut(id) else { return false };
        let was_open = std::mem::take(&mut known.open);
        // What somebody closed stays closed until somebody offers; what failed is tried again.
        if known.present && matches!(ended, Ended::Failed | Ended::Unreachable) {
            let ceiling = RETRY.saturating_mul(1 << known.failures.min(16)).min(MAX_RETRY);
            known.failures += 1;
            known.retry_at = Some(Instant::now() + ceiling.mul_f64(rand::random::<f64>()));
        }
        peers.forget_the_gone();
        was_open
    }

    /// Tries again, for ever, where a connection failed.
    pub(crate) async fn try_again(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = Instant::now();
            for (id, known) in &mut self.peers().known {
                if known.retry_at.is_some_and(|at| at <= now) {
                    known.retry_at = None;
                    tell(id, known, ToPeer::Connect);
                }
            }
        }
    }

    /// Closes all connections properly, so that the others need no time-out to notice.
    pub(crate) async fn close(&self, ended: Ended) {
        let peers: Vec<_> = self.peers().known.drain().collect();
        for (id, known) in &peers {
            tell(id, known, ToPeer::Close(ended));
        }
        let all = async {
            while peers.iter().any(|(_, known)| known.is_connected()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::debug!("not all connections closed in time");
        }
    }

    fn tell_all(&self, word: impl Fn() -> ToPeer) {
        for (id, known) in &self.peers().known {
            tell(id, known, word());
        }
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Whether it is listed, or something connects us.
    fn is_there(&self) -> bool {
        self.present || self.open || self.is_connected()
    }

    /// Whether there is a connection, open or on its way.
    fn is_connected(&self) -> bool {
        self.peer.snapshot().state.is_some()
    }
}

impl Peers {
    /// Drops those who are neither listed nor connected.
    fn forget_the_gone(&mut self) {
        let now = Instant::now();
        self.known.retain(|_, known| known.is_there() || now.duration_since(known.heard) < GRACE);
    }
}

fn tell(id: &PeerId, known: &Known, word: ToPeer) {
    if !known.peer.tell(word) {
        tracing::warn!(peer = %id, "too many signaling messages at once; one was dropped");
    }
}
