//! What the library calls.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use tokio::sync::mpsc;
use webrtc::data_channel::DataChannel;
use webrtc::peer_connection::{
    PeerConnectionEventHandler, RTCIceConnectionState, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
};

use super::runtime::LightSleeper;
use super::{Candidate, Channel, Event, LABEL, MAX_CHANNELS, State, text};

/// Takes the library's callbacks; runs on its task.
pub(super) struct Handler {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) mid: Arc<OnceLock<String>>,
    pub(super) relay_only: bool,
    pub(super) channels: AtomicU8,
    pub(super) runtime: Arc<LightSleeper>,
}

impl Handler {
    async fn tell(&self, event: Event) {
        // Nobody listens to a connection that was replaced.
        let _closing = self.events.send(event).await;
    }
}

#[async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let Ok(init) = event.candidate.to_json() else { return };
        if init.candidate.is_empty() {
            return;
        }
        let text = if self.relay_only { text::relayed(&init.candidate) } else { Some(init.candidate) };
        let Some(text) = text else { return };
        self.tell(Event::Candidate(Candidate { text, mid: self.mid.get().cloned(), index: Some(0) })).await;
    }

    async fn on_ice_connection_state_change(&self, state: RTCIceConnectionState) {
        if state == RTCIceConnectionState::Connected {
            self.runtime.hurry();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let state = match state {
            RTCPeerConnectionState::Connecting => State::Connecting,
            RTCPeerConnectionState::Connected => State::Connected,
            RTCPeerConnectionState::Disconnected => State::Disconnected,
            RTCPeerConnectionState::Failed => State::Failed,
            RTCPeerConnectionState::Closed => State::Closed,
            _ => State::New,
        };
        self.tell(Event::State(state)).await;
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let is_ours = channel.label().await.is_ok_and(|label| label == LABEL);
        let count = self.channels.load(Ordering::Relaxed);
        if !is_ours || count >= MAX_CHANNELS {
            tracing::debug!("a channel that is not of the mesh was closed");
            let _gone = channel.close().await;
            return;
        }
        self.channels.store(count + 1, Ordering::Relaxed);
        self.tell(Event::Channel(Channel::new(channel))).await;
    }
}
