//! The way to other peers that leads through the service.

use async_trait::async_trait;
use heliograph_client::{Client, Outcome};
use heliograph_core::id::PeerId;

use crate::peer::{Signal, Signaler};

/// Sends what peers have to say to one another.
pub(super) struct Service(pub(super) Client);

#[async_trait]
impl Signaler for Service {
    async fn signal(&self, to: &PeerId, signal: Signal) -> Outcome {
        let (kind, payload) = (signal.kind(), signal.payload());
        if !matches!(signal, Signal::Candidate(_)) {
            return self.0.send(kind, to, &payload).await;
        }
        // There are many, and each is only a chance: nobody waits for what becomes of one. If it was not delivered, an
        // event says so.
        match self.0.post(kind, to, &payload).await {
            Ok(()) => Outcome::Delivered,
            Err(refused) => Outcome::Undeliverable(refused.into()),
        }
    }
}
