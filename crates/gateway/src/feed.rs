//! Follows the pairing state and holds the lease: the one writer of [`Authority`](heliograph_core::authority).
//!
//! One turn: renew (which answers the changes since the last turn) → apply them to the rights → wait for write
//! turns that were in progress → only then acknowledge. Whoever revokes waits for that acknowledgement.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use heliograph_core::authority::Standing;
use heliograph_core::id::{MeshName, Version};
use heliograph_core::message::Undeliverable;
use heliograph_core::session::Mail;
use heliograph_store::{Hint, Renewal, Result, StandingChange, StoreError};

use crate::directory::Handle;
use crate::gateway::Gateway;

/// How long a socket that stands still in the middle of a write may hold up an acknowledgement.
const SETTLE_PATIENCE: Duration = Duration::from_millis(250);

impl Gateway {
    /// The peer of a session was revoked: the session gives its place up now, also if its client has not said yet whether
    /// it goes on for a former one, and nothing waits for that word any more.
    pub(crate) fn mute(&self, handle: &Handle) {
        let _session_over = handle.outbox.push(Mail::StandingChanged, &self.config.limits);
        handle.outbox.release();
    }
}

struct Feed {
    gateway: Arc<Gateway>,
    applied: Version,
    acknowledged: Version,
    failing: bool,
    /// The store has known less than was applied here. It may catch up in number, and what it tells then is another
    /// history.
    went_back: bool,
}

const WENT_BACK: &str = "the database knows fewer changes than this node has applied (an old backup, a standby that lost \
    commits): start this node anew";

/// Runs until the gateway stops; gives the lease back at the end.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let mut hints = gateway.store.hints(Hint::Change);
    let term = gateway.config.lease_term;
    let mut feed = Feed::new(Arc::clone(&gateway));
    let mut started = false;
    loop {
        hints.mark_unchanged();
        let turned = if started { feed.turn().await } else { feed.start().await };
        started |= turned.is_ok();
        feed.report(turned.err());
        let pause = if feed.failing { term / 10 } else { term / 3 };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = hints.changed() => if changed.is_err() { tokio::time::sleep(pause).await },
            () = gateway.stop.cancelled() => break,
        }
    }
    // Nobody waits for a node without a lease row: it must not be able to write anything by then.
    gateway.authority.give_back();
    let spaces = gateway.directory.spaces();
    let meshes: BTreeSet<_> = spaces.iter().map(|space| space.name.mesh()).collect();
    for mesh in meshes {
        gateway.directory.settle(mesh, SETTLE_PATIENCE).await;
    }
    if let Err(error) = gateway.store.remove_lease(&gateway.id, None).await {
        tracing::warn!(%error, "the authorization lease could not be given back; it will run out");
    }
}

impl Feed {
    fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway, applied: Version(0), acknowledged: Version(0), failing: false, went_back: false }
    }

    /// The first turn: what lies before is read from the store when a peer connects, so the history is skipped.
    async fn start(&mut self) -> Result<()> {
        // Once: from here on rights are read, and each later change must be heard of.
        if !self.gateway.authority.has_begun() {
            self.applied = self.bounded(self.gateway.store.version()).await?;
            self.acknowledged = self.applied;
            self.gateway.authority.begins(self.applied);
        }
        self.turn().await
    }

    async fn turn(&mut self) -> Result<()> {
        self.renew().await?;
        if self.acknowledged < self.applied {
            self.acknowledged = self.applied;
            self.renew().await?; // says so at once: a revoke may be waiting for it
        }
        Ok(())
    }

    async fn renew(&mut self) -> Result<()> {
        // Before the row moves again: who revokes waits for it until it has stood still for a term.
        self.refuse_other_history()?;
        let sent_at = Instant::now();
        let renew = self.gateway.store.renew(&self.gateway.id, self.applied, self.acknowledged);
        let Renewal { version, changes } = self.bounded(renew).await?;
        if version < self.applied {
            tracing::error!("{WENT_BACK}");
            self.went_back = true;
        }
        self.refuse_other_history()?;
        let lease = &self.gateway.metrics.lease;
        lease.renewals.inc();
        lease.lags(version, self.applied);
        self.apply(&changes).await;
        self.applied = self.applied.max(version);
        lease.lags(version, self.applied);
        self.gateway.authority.applied(self.applied);
        self.gateway.authority.renewed(sent_at, self.gateway.config.lease_term);
        Ok(())
    }

    fn refuse_other_history(&self) -> Result<()> {
        if self.went_back { Err(StoreError::Inconsistent(WENT_BACK.to_owned())) } else { Ok(()) }
    }

    /// A store that does not answer within a term is as good as gone.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let bound = self.gateway.config.lease_term;
        let timed_out = || StoreError::Unavailable("no answer within a lease term".to_owned());
        tokio::time::timeout(bound, call).await.map_err(|_| timed_out())?
    }

    async fn apply(&self, changes: &[StandingChange]) {
        let mut muted: Vec<&MeshName> = vec![];
        for change in changes {
            self.apply_one(change);
            if change.standing != Standing::Approved && !muted.contains(&&change.mesh) {
                muted.push(&change.mesh);
            }
        }
        for mesh in muted {
            self.gateway.directory.settle(mesh, SETTLE_PATIENCE).await;
        }
    }

    fn apply_one(&self, change: &StandingChange) {
        let directory = &self.gateway.directory;
        let space = directory.mesh(&change.mesh);
        let lost = change.standing == Standing::Revoked;
        let Some(peer) = (if lost { Some(space.intern(&change.peer)) } else { space.known(&change.peer) })
        else {
            return; // nobody here needs it; it is read from the store when it connects
        };
        peer.right.apply(change.version, change.standing);
        if lost {
            directory.hold(Arc::clone(&peer), Instant::now(), &self.gateway.authority);
            space.for_each_listener(&change.peer, |handle| {
                let _session_over =
                    handle.outbox.push(Mail::Revoked(change.peer.clone()), &self.gateway.config.limits);
            });
        }
        for handle in directory.sessions_by_right_of(&peer) {
            if lost {
                self.gateway.mute(&handle);
                // If its client is away, what waits for it goes now, before this change is acknowledged.
                self.gateway.give_up(handle, Undeliverable::Unavailable);
            } else {
                let _session_over = handle.outbox.push(Mail::StandingChanged, &self.gateway.config.limits);
            }
        }
    }

    /// Logs the change between well and failing once, not each turn.
    fn report(&mut self, error: Option<StoreError>) {
        match error {
            Some(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(%error, "the pairing state cannot be followed; without a lease nothing is relayed");
            }
            None if self.failing => {
                self.failing = false;
                tracing::info!("the pairing state is followed again");
            }
            _ => {}
        }
        self.gateway.metrics.lease.look(&self.gateway.authority, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use heliograph_core::id::{Epoch, PeerId};
    use heliograph_core::limits::Limits;
    use heliograph_core::stage::Stage;
    use heliograph_store::{By, NewKey};
    use heliograph_wire::Dialect;

    use super::*;
    use crate::connection::tests::World;
    use crate::directory::Handle;

    const BY: By<'static> = By { actor: "test", now: 1 };

    fn key(mesh: &MeshName, peer: &PeerId) -> NewKey {
        NewKey {
            id: "key".into(),
            secret: [1; 32],
            mesh: mesh.clone(),
            peer: peer.clone(),
            role: "agent".into(),
            name: String::new(),
        }
    }

    /// What the lease's row says is carried out.
    async fn acknowledged(gateway: &Gateway) -> Version {
        gateway.store.leases().await.unwrap()[0].acknowledged
    }

    /// A check may have been made before the change: until its write has ended the change is heard of, neither applied nor
    /// acknowledged, and the metrics show it.
    #[tokio::test]
    async fn a_change_lags_until_writes_that_began_before_it_have_ended() {
        let gateway = World::new(Limits::default()).gateway;
        let (mesh, peer) = (MeshName::default_mesh(), PeerId::parse("a").unwrap());
        gateway.store.create_key(key(&mesh, &peer), BY).await.unwrap();
        let space = gateway.directory.mesh(&mesh);
        let handle = Arc::new(Handle::new(space.intern(&peer), Epoch(1), Dialect::Mesh, None, Stage::Live));
        space.insert(Arc::clone(&handle));
        let mut feed = Feed::new(Arc::clone(&gateway));
        feed.start().await.unwrap();
        let lease = &gateway.metrics.lease;
        assert_eq!((lease.lag.get(), gateway.version()), (0, Version(1)));

        handle.begin_turn(1);
        gateway.store.revoke_peer(&mesh, &peer, BY).await.unwrap();
        let turn = tokio::spawn(async move { feed.turn().await });
        let heard = async {
            while lease.lag.get() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), heard).await.expect("it does not hear of the change");
        assert_eq!(handle.peer.right.standing(), Standing::Revoked, "nothing new passes");
        assert_eq!((lease.lag.get(), gateway.version()), (1, Version(1)));
        assert_eq!(acknowledged(&gateway).await, Version(1));
        handle.end_turn();
        turn.await.unwrap().unwrap();
        assert_eq!((lease.lag.get(), gateway.version()), (0, Version(2)));
        assert_eq!(acknowledged(&gateway).await, Version(2));
        assert_eq!(lease.renewals.get(), 3, "one to begin with, one that hears of it, one that acknowledges");
    }

    /// What it tells after it has caught up in number is not what happened here.
    #[tokio::test]
    async fn a_store_that_went_back_is_not_believed_again() {
        let gateway = World::new(Limits::default()).gateway;
        let (mesh, peer) = (MeshName::default_mesh(), PeerId::parse("a").unwrap());
        let mut feed = Feed::new(Arc::clone(&gateway));
        feed.start().await.unwrap();
        feed.applied = Version(1); // of a history that is no more
        let refuses = |turned| matches!(turned, Err(StoreError::Inconsistent(why)) if why == WENT_BACK);
        assert!(refuses(feed.turn().await));
        let row = gateway.store.leases().await.unwrap();
        gateway.store.create_key(key(&mesh, &peer), BY).await.unwrap();
        gateway.store.revoke_peer(&mesh, &peer, BY).await.unwrap();
        assert!(refuses(feed.turn().await));
        assert_eq!((gateway.version(), acknowledged(&gateway).await), (Version(0), Version(0)));
        assert_eq!(gateway.metrics.lease.renewals.get(), 1, "no lease was taken from it");
        assert_eq!(
            gateway.store.leases().await.unwrap(),
            row,
            "its row runs out, so that no revoke waits for it"
        );
    }
}
