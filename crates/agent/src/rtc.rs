//! The WebRTC library; no other file names it.
//!
//! A [`Connection`] is one `RTCPeerConnection` with at most one channel from each side, in the words of this crate. What the
//! other side can make it hold is bounded: channels, candidates, the messages that nobody has read yet.
//!
//! Errors do not repeat what the library says: its words quote descriptions and addresses.

mod channel;
mod handler;
mod runtime;
mod text;
mod words;

#[cfg(test)]
pub(crate) mod tests;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use heliograph_client::IceServer;
use tokio::sync::mpsc;
use webrtc::data_channel::RTCDataChannelInit;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, RTCConfiguration, RTCConfigurationBuilder, RTCIceCandidateInit,
    RTCIceServer, RTCIceTransportPolicy, RTCSdpType, RTCSessionDescription, SettingEngineBuilder,
};

pub(crate) use channel::{Channel, ChannelEvent};
use handler::Handler;
use runtime::LightSleeper;
pub(crate) use words::{Candidate, Event, Kind, Pair, Settings, State};

/// The channel that the mesh speaks over; others are closed as they come.
const LABEL: &str = "mesh";
/// Unsent bytes in a channel beyond which a sender waits.
const SEND_BUFFER_BYTES: usize = 1_048_576;
/// Channels of the other side over the life of a connection. One is enough; the second is what a page has that does not drop
/// its own when offers cross.
const MAX_CHANNELS: u8 = 2;
/// Candidates of one description of the other side.
const MAX_CANDIDATES: usize = 256;
/// Events that wait for the task of the peer.
const EVENTS: usize = 64;

/// What could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("could not {0}")]
pub(crate) struct Refused(&'static str);

/// One connection. It must be [closed](Self::close): the library's tasks outlive it otherwise.
pub(crate) struct Connection {
    inner: Arc<dyn PeerConnection>,
    relay_only: bool,
    /// The name of the one media section, once it is known.
    mid: Arc<OnceLock<String>>,
    candidates: AtomicUsize,
    /// Servers that came since the last gathering that started afresh.
    new_servers: Mutex<Option<Vec<IceServer>>>,
}

impl Connection {
    /// Opens sockets; looks for no way yet.
    pub(crate) async fn open(settings: &Settings) -> Result<(Self, mpsc::Receiver<Event>), Refused> {
        let (events, happened) = mpsc::channel(EVENTS);
        let mid = Arc::new(OnceLock::new());
        let runtime = Arc::new(LightSleeper::new());
        let handler = Handler {
            events,
            mid: mid.clone(),
            relay_only: settings.relay_only,
            channels: AtomicU8::new(0),
            runtime: runtime.clone(),
        };
        // The kinds of candidates that are worse wait for the better ones, but not so long that a person notices.
        let relay_wait = if settings.relay_only { Duration::ZERO } else { Duration::from_millis(500) };
        let engine = SettingEngineBuilder::new()
            .with_ice_timeouts(Some(settings.disconnected_after), Some(settings.failed_after), None)
            // A channel may open a check later than it could. The checks of a pair go on for as long as the signaling of the
            // other side may need, in all three seconds.
            .with_ice_connection_attempts(Some(Duration::from_millis(50)), Some(60))
            .with_srflx_acceptance_min_wait(Some(Duration::from_millis(100)))
            .with_prflx_acceptance_min_wait(Some(Duration::from_millis(100)))
            .with_relay_acceptance_min_wait(Some(relay_wait))
            // A restart listens anew: after a change of network the old sockets lead nowhere.
            .with_discard_local_candidates_during_ice_restart(true)
            .build();
        let building = PeerConnectionBuilder::new()
            .with_configuration(configuration(&settings.ice_servers, settings.relay_only))
            .with_setting_engine(engine)
            .with_runtime(runtime)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(addresses(&settings.listen))
            .with_data_channel_send_buffer_limit(SEND_BUFFER_BYTES)
            .build();
        // On the heap: it is large.
        let inner = Box::pin(building).await.map_err(|_| Refused("open sockets for a connection"))?;
        let connection = Self {
            inner: Arc::new(inner),
            relay_only: settings.relay_only,
            mid,
            candidates: AtomicUsize::new(0),
            new_servers: Mutex::default(),
        };
        Ok((connection, happened))
    }

    /// Makes the channel of the mesh from this side, reliable and in order. It opens once there is a connection.
    pub(crate) async fn create_channel(&self) -> Result<Channel, Refused> {
        let reliable = RTCDataChannelInit { ordered: true, ..RTCDataChannelInit::default() };
        let channel = self.inner.create_data_channel(LABEL, Some(reliable)).await;
        channel.map(Channel::new).map_err(|_| Refused("make a channel"))
    }

    /// Makes an offer and begins to look for candidates.
    pub(crate) async fn offer(&self, restart: bool) -> Result<String, Refused> {
        if restart {
            self.use_new_servers().await?;
            self.inner.restart_ice().await.map_err(|_| Refused("restart ICE"))?;
        }
        let offer = self.inner.create_offer(None).await.map_err(|_| Refused("make an offer"))?;
        self.set_local(offer).await
    }

    /// Takes the own offer back.
    pub(crate) async fn roll_back(&self) -> Result<(), Refused> {
        let rollback = RTCSessionDescription::rollback(None).map_err(|_| Refused("take the offer back"))?;
        self.inner.set_local_description(rollback).await.map_err(|_| Refused("take the offer back"))
    }

    /// Takes an offer of the other side; [`Self::answer`] answers it.
    pub(crate) async fn take_offer(&self, sdp: &str) -> Result<(), Refused> {
        let offer = RTCSessionDescription::offer(text::usable(sdp)).map_err(|_| Refused("read the offer"))?;
        let known = self.inner.current_remote_description().await;
        if known.is_some_and(|known| text::fragment(&known.sdp) != text::fragment(sdp)) {
            self.use_new_servers().await?;
        }
        self.set_remote(offer, "use the offer").await
    }

    /// Answers the offer that was taken.
    pub(crate) async fn answer(&self) -> Result<String, Refused> {
        let answer = self.inner.create_answer(None).await.map_err(|_| Refused("make an answer"))?;
        self.set_local(answer).await
    }

    /// Takes the answer to the own offer.
    pub(crate) async fn take_answer(&self, sdp: &str) -> Result<(), Refused> {
        let answer =
            RTCSessionDescription::answer(text::usable(sdp)).map_err(|_| Refused("read the answer"))?;
        self.set_remote(answer, "use the answer").await
    }

    async fn set_local(&self, description: RTCSessionDescription) -> Result<String, Refused> {
        if let Some(mid) = text::mid(&description.sdp) {
            // The first is the only one: there is one media section, and its name does not change.
            let _known = self.mid.set(mid.to_owned());
        }
        let sdp = description.sdp.clone();
        self.inner
            .set_local_description(description)
            .await
            .map_err(|_| Refused("use the own description"))?;
        Ok(if self.relay_only { text::relay_only(&sdp) } else { sdp })
    }

    async fn set_remote(
        &self,
        description: RTCSessionDescription,
        doing: &'static str,
    ) -> Result<(), Refused> {
        self.candidates.store(0, Ordering::Relaxed);
        self.inner.set_remote_description(description).await.map_err(|_| Refused(doing))
    }

    /// The own description with the candidates so far.
    pub(crate) async fn description(&self) -> Option<(Kind, String)> {
        let description = self.inner.local_description().await?;
        let kind = match description.sdp_type {
            RTCSdpType::Offer => Kind::Offer,
            RTCSdpType::Answer => Kind::Answer,
            _ => return None,
        };
        Some((kind, if self.relay_only { text::relay_only(&description.sdp) } else { description.sdp }))
    }

    /// A candidate of the other side. Those that cannot be used here are passed over: names that only a browser's own
    /// network can resolve, and TCP, by which the other side could have this machine dial any port it likes.
    pub(crate) async fn add(&self, candidate: &Candidate) -> Result<(), Refused> {
        if !text::is_usable(&candidate.text)
            || self.candidates.fetch_add(1, Ordering::Relaxed) >= MAX_CANDIDATES
        {
            return Ok(());
        }
        let init = RTCIceCandidateInit {
            candidate: candidate.text.clone(),
            sdp_mid: candidate.mid.clone(),
            sdp_mline_index: candidate.index,
            ..RTCIceCandidateInit::default()
        };
        self.inner.add_ice_candidate(init).await.map_err(|_| Refused("use a candidate"))
    }

    /// Other servers, from the next restart on, on whichever side that begins. What goes on over a TURN server keeps the
    /// credentials it began with: the server holds an allocation to the name that opened it, and each new credential has
    /// another name. The library would put the new one on an allocation that is kept, and have all that refused (RFC 8656,
    /// section 5).
    pub(crate) fn configure(&self, servers: Vec<IceServer>) {
        *self.new_servers.lock().unwrap_or_else(PoisonError::into_inner) = Some(servers);
    }

    async fn use_new_servers(&self) -> Result<(), Refused> {
        let servers = self.new_servers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(servers) = servers else { return Ok(()) };
        let configured = self.inner.set_configuration(configuration(&servers, self.relay_only)).await;
        configured.map_err(|_| Refused("use the ICE servers"))
    }

    /// The largest message that both sides take, in bytes.
    pub(crate) async fn message_limit(&self) -> usize {
        let limit = match self.inner.sctp().await {
            Some(sctp) => sctp.max_message_size().await.ok(),
            None => None,
        };
        limit.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(channel::MESSAGE_BYTES)
    }

    /// What ICE chose.
    pub(crate) async fn pair(&self) -> Option<Pair> {
        let ice = self.inner.sctp().await?.transport().ice_transport();
        let pair = ice.get_selected_candidate_pair().await.ok()??;
        Some(Pair { local: pair.local().typ.to_string(), remote: pair.remote().typ.to_string() })
    }

    /// Ends it, its sockets, its allocations and its tasks.
    pub(crate) async fn close(self) {
        if self.inner.close().await.is_err() {
            tracing::debug!("a connection did not close cleanly");
        }
    }
}

fn configuration(servers: &[IceServer], relay_only: bool) -> RTCConfiguration {
    let servers = servers.iter().map(|server| RTCIceServer {
        urls: server.urls.clone(),
        username: server.username.clone().unwrap_or_default(),
        credential: server.credential.as_ref().map(|secret| secret.expose().to_owned()).unwrap_or_default(),
    });
    let policy = if relay_only { RTCIceTransportPolicy::Relay } else { RTCIceTransportPolicy::All };
    RTCConfigurationBuilder::new()
        .with_ice_servers(servers.collect())
        .with_ice_transport_policy(policy)
        .build()
}

/// Where to listen. The library makes one socket for each interface of a wildcard, without the loopback.
fn addresses(listen: &[IpAddr]) -> Vec<SocketAddr> {
    let any = |ip: IpAddr| SocketAddr::new(ip, 0);
    if !listen.is_empty() {
        return listen.iter().copied().map(any).collect();
    }
    let mut wildcards = vec![IpAddr::from([0; 4]), IpAddr::from([0; 8])];
    wildcards.retain(|&wildcard| has_network(wildcard));
    if wildcards.is_empty() {
        // Only programs on this machine can be meant.
        wildcards.push(IpAddr::from([127, 0, 0, 1]));
    }
    wildcards.into_iter().map(any).collect()
}

/// Whether a packet to somewhere else would leave this machine; none is sent. The addresses are those of documentation.
fn has_network(wildcard: IpAddr) -> bool {
    let elsewhere: SocketAddr = match wildcard {
        IpAddr::V4(_) => ([192, 0, 2, 1], 9).into(),
        IpAddr::V6(_) => ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(),
    };
    let leaves = || -> std::io::Result<bool> {
        let socket = UdpSocket::bind((wildcard, 0))?;
        socket.connect(elsewhere)?;
        Ok(!socket.local_addr()?.ip().is_loopback())
    };
    leaves().unwrap_or(false)
}
