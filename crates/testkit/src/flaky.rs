//! A store that can be switched off, and one that does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::pairing::{PairingState, Transition};
use heliograph_store::memory::MemoryStore;
use heliograph_store::{
    ApiKey, ApiKeys, AuditLog, By, Group, GroupStep, Hint, Invite, LeaseRow, Leases, LogEntry, NewInvite,
    NewKey, Page, Pairing, Pairings, PeerRecord, Redemption, Renewal, Result, Rows, SecretHash, Settings,
    StoreError, UnixMillis,
};
use tokio::sync::watch;

/// The reference store behind a switch: while it is off, every call answers that the storage is unavailable. While it
/// is held, no call answers.
pub struct FlakyStore {
    inner: MemoryStore,
    on: AtomicBool,
    held: watch::Sender<bool>,
    /// What those wait for whose hints get lost.
    silence: Option<watch::Sender<u64>>,
}

impl FlakyStore {
    /// A store that works.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::with(None))
    }

    /// A store that works and whose hints all get lost.
    pub fn without_hints() -> Arc<Self> {
        Arc::new(Self::with(Some(watch::Sender::new(0))))
    }

    fn with(silence: Option<watch::Sender<u64>>) -> Self {
        Self {
            inner: MemoryStore::new(),
            on: AtomicBool::new(true),
            held: watch::Sender::new(false),
            silence,
        }
    }

    /// Turns it on or off.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::SeqCst);
    }

    /// Holds all calls, or lets them go on.
    pub fn hold(&self, held: bool) {
        self.held.send_replace(held);
    }

    async fn gate(&self) -> Result<&MemoryStore> {
        let mut held = self.held.subscribe();
        // The sender is in `self`.
        let _never_closed = held.wait_for(|held| !held).await;
        if self.on.load(Ordering::SeqCst) {
            Ok(&self.inner)
        } else {
            Err(StoreError::Unavailable("switched off".to_owned()))
        }
    }
}

/// Implements a trait by delegation through the gate.
macro_rules! gated {
    ($trait:ident { $( $call:ident($($name:ident: $type:ty),*) -> $out:ty; )+ } $($rest:item)*) => {
        #[async_trait]
        impl $trait for FlakyStore {
            $( async fn $call(&self, $($name: $type),*) -> Result<$out> { self.gate().await?.$call($($name),*).await } )+
            $($rest)*
        }
    };
}

gated!(Pairings {
    create_invite(invite: NewInvite, by: By<'_>) -> Invite;
    invites(mesh: Option<&MeshName>, page: Page) -> Rows<Invite>;
    revoke_invite(id: &str, by: By<'_>) -> Version;
    redeem(redemption: Redemption, now: UnixMillis) -> Pairing;
    pairing(id: &str) -> Pairing;
    pairing_of_claim(id: &str, claim: &SecretHash) -> Pairing;
    pairings(mesh: Option<&MeshName>, state: Option<PairingState>, page: Page) -> Rows<Pairing>;
    transition(id: &str, transition: Transition, by: By<'_>) -> Pairing;
    issue_device_token(id: &str, token: SecretHash, now: UnixMillis) -> bool;
    peer_of_device_token(token: &SecretHash) -> PeerRecord;
    peer(mesh: &MeshName, peer: &PeerId) -> PeerRecord;
    peers(mesh: Option<&MeshName>, page: Page) -> Rows<PeerRecord>;
    revoke_peer(mesh: &MeshName, peer: &PeerId, by: By<'_>) -> Version;
    revoke_group(group: Group<'_>, by: By<'_>) -> GroupStep;
});

gated!(ApiKeys {
    create_key(key: NewKey, by: By<'_>) -> ApiKey;
    key_of_secret(secret: &SecretHash) -> ApiKey;
    keys(mesh: Option<&MeshName>, page: Page) -> Rows<ApiKey>;
    key(id: &str) -> ApiKey;
    revoke_key(id: &str, by: By<'_>) -> Version;
});

gated!(AuditLog {
    log(mesh: Option<&MeshName>, page: Page) -> Rows<LogEntry>;
    log_after(after: Version, limit: u32) -> Vec<LogEntry>;
    version() -> Version;
});

gated!(Settings {
    setting(name: &str, initial: &[u8]) -> Vec<u8>;
    ping() -> ();
});

gated!(Leases {
    renew(gateway: &GatewayId, applied: Version, acknowledged: Version) -> Renewal;
    leases() -> Vec<LeaseRow>;
    remove_lease(gateway: &GatewayId, beat: Option<u64>) -> bool;
}
    fn hints(&self, of: Hint) -> watch::Receiver<u64> {
        self.silence.as_ref().map_or_else(|| self.inner.hints(of), watch::Sender::subscribe)
    }

    fn hint(&self) {
        self.inner.hint();
    }
);
