//! ICE servers for sessions: TURN only for those who may signal now, and new credentials before the old ones run out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use heliograph_core::message::IceServer;
use heliograph_core::session::Mail;

use crate::directory::Handle;
use crate::gateway::{Gateway, unix_seconds};

/// Credentials are renewed when this part of their life is over: two renewals may get lost, and whoever begins to
/// gather candidates with an old one has time left to do so.
const RENEWED_AFTER: u32 = 3;

impl Gateway {
    /// The ICE servers for a session's first list. Where the right cannot be proven there is no TURN: it follows as soon
    /// as it can be.
    pub(crate) fn ice_servers(&self, handle: &Handle, now: Instant) -> Arc<Vec<IceServer>> {
        let peer = self.may_use_turn(handle, now).then_some(&handle.peer.id);
        if peer.is_some() {
            self.renew_later(handle, now);
        }
        Arc::new(self.config.ice.servers_for(peer, unix_seconds()))
    }

    /// Sends a session new credentials if it is time, and if its peer may have any.
    pub(crate) fn renew_ice_servers(&self, handle: &Handle, now: Instant) {
        let due = handle.ice_due.load(Ordering::Relaxed) <= self.nanos(now);
        if due && handle.wants_ice.load(Ordering::Relaxed) && self.may_use_turn(handle, now) {
            let servers = self.ice_servers(handle, now);
            let _session_over = handle.outbox.push(Mail::IceServers(servers), &self.config.limits);
        }
    }

    fn may_use_turn(&self, handle: &Handle, now: Instant) -> bool {
        self.config.ice.has_turn() && self.authority.may_send(&handle.peer.right, now).is_ok()
    }

    fn renew_later(&self, handle: &Handle, now: Instant) {
        let next = self.nanos(now + self.config.ice.ttl / RENEWED_AFTER);
        handle.ice_due.store(next, Ordering::Relaxed);
    }
}
