//! What local programs ask of the mesh.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use futures_util::future::join_all;
use heliograph_client::State as Signaling;
use heliograph_core::id::PeerId;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Known, Mesh};
use crate::bridge::{self, Refusal};
use crate::peer::{Ended, Peer, SendError, ToPeer};
use crate::rtc::State;

#[async_trait]
impl bridge::Mesh for Mesh {
    async fn send(&self, target: &str, message: &RawValue) -> Result<(), Refusal> {
        let peer = self.find(target)?;
        peer.send(message.get()).await.map_err(|error| refusal(&error, target))
    }

    async fn broadcast(&self, message: &RawValue) -> Result<usize, Refusal> {
        let open: Vec<_> = self
            .peers()
            .known
            .values()
            .filter(|known| known.open)
            .map(|known| Arc::clone(&known.peer))
            .collect();
        let sent = join_all(open.iter().map(|peer| peer.send(message.get()))).await;
        Ok(sent.into_iter().flatten().count())
    }

    async fn connect(&self, target: &str) -> Result<(), Refusal> {
        let peer = self.find(target)?;
        if peer.tell(ToPeer::Connect) {
            return Ok(());
        }
        Err(refuse("busy", format!("too much is under way with {target:?}; try again"), target))
    }

    fn peers(&self) -> Vec<PeerId> {
        let peers = self.peers();
        let connected = peers.known.iter().filter(|(_, known)| known.open || known.is_connected());
        let mut peers: Vec<_> = connected.map(|(id, _)| id.clone()).collect();
        peers.sort();
        peers
    }

    fn status(&self) -> Value {
        self.status_of(&self.client.state())
    }
}

impl Mesh {
    fn find(&self, target: &str) -> Result<Arc<Peer>, Refusal> {
        let known = PeerId::parse(target).ok().and_then(|id| {
            let peers = self.peers();
            let known = peers.known.get(&id).filter(|known| known.is_there());
            known.map(|known| Arc::clone(&known.peer))
        });
        known.ok_or_else(|| {
            refuse("unknown_peer", format!("no peer {target:?} is in the mesh at the moment"), target)
        })
    }

    /// What `status` says while it stands so with the service.
    pub(crate) fn status_of(&self, state: &Signaling) -> Value {
        let (word, reason, retry) = match state {
            Signaling::Connecting => ("connecting", None, None),
            Signaling::Online => ("online", None, None),
            Signaling::Waiting { retry_in } => ("waiting", None, Some(retry_in.as_millis())),
            Signaling::Stopped(stop) => ("stopped", Some(stop.as_str()), None),
        };
        let running = SystemTime::now().duration_since(self.began).unwrap_or_default().as_secs();
        let peers = self.peers();
        let mut list: Vec<_> = peers.known.iter().map(|(id, known)| peer_status(id, known)).collect();
        list.sort_by(|a, b| a["peer_id"].as_str().cmp(&b["peer_id"].as_str()));
        let mut status = json!({
            "state": word,
            "peer_id": self.client.peer_id().as_ref().map(PeerId::as_str),
            "server": self.server,
            "version": env!("CARGO_PKG_VERSION"),
            "running_s": running,
            "relay_only": self.relay_only,
            "programs": self.hub.programs(),
            "peers": list,
        });
        if let Some(reason) = reason {
            status["reason"] = reason.into();
        }
        if let Some(retry) = retry {
            status["retry_in_ms"] = u64::try_from(retry).unwrap_or(u64::MAX).into();
        }
        status
    }
}

fn peer_status(id: &PeerId, known: &Known) -> Value {
    let snapshot = known.peer.snapshot();
    json!({
        "peer_id": id.as_str(),
        "present": known.present,
        "connection": snapshot.state.map_or("none", State::as_str),
        "channel": if snapshot.open { "open" } else { "none" },
        "local": snapshot.pair.as_ref().map(|pair| &pair.local),
        "remote": snapshot.pair.as_ref().map(|pair| &pair.remote),
        "ended": snapshot.ended.map(Ended::as_str),
        "bytes_sent": snapshot.bytes_sent,
        "bytes_received": snapshot.bytes_received,
    })
}

fn refusal(error: &SendError, target: &str) -> Refusal {
    let code = match error {
        SendError::NotOpen => "not_connected",
        SendError::TooLarge { .. } => "too_large",
        SendError::Stuck => "stuck",
        SendError::Closed => "closed",
    };
    refuse(code, format!("to {target:?}: {error}"), target)
}

fn refuse(code: &'static str, message: String, peer: &str) -> Refusal {
    Refusal { code, message, peer: Some(peer.to_owned()) }
}
