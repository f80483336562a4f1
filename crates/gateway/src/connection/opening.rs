//! A session takes the place of an older one, and is heard of only when it can be reached.

use std::sync::Arc;
use std::time::Duration;

use heliograph_bus::{BusError, Claim, Destination, Sent};
use heliograph_core::close::CloseCode;
use heliograph_core::message::Undeliverable;
use heliograph_core::stage::Stage;
use heliograph_wire::Dialect;

use crate::directory::{Handle, Space};
use crate::entry::Entry;
use crate::gateway::Gateway;

/// How long a session that is to be listed waits for its own fence. Longer than until a lost one is said again.
const FENCE_PATIENCE: Duration = Duration::from_secs(3);

/// Makes the handle of a new session the newest of its peer here, and ends an older one.
pub(super) fn admit(
    gateway: &Gateway,
    space: &Space,
    Entry { peer, profile }: Entry,
    claim: &Claim,
    dialect: Dialect,
) -> Arc<Handle> {
    // Presence may not know of an older session: its node stood still so long that it was given up. Only one that is
    // here, and has the peer's channel to itself, needs no fence.
    let awaits = |older: Arc<Handle>| older.stage.get().awaits_fence();
    let elsewhere = claim.previous.as_ref().is_none_or(|previous| previous.gateway != gateway.id)
        || space.session(peer.id.as_str()).is_some_and(awaits);
    let stage = if elsewhere { Stage::Awaiting } else { Stage::Live };
    let handle = Arc::new(Handle::new(peer, claim.epoch, dialect, profile, stage));
    if claim.previous.as_ref().is_some_and(|previous| previous.place.is_some()) {
        // What is sent to the peer now waits until the client says whether it resumes.
        handle.outbox.hold();
    }
    let Some(older) = space.insert(Arc::clone(&handle)) else { return handle };
    if Arc::ptr_eq(&older, &handle) {
        older.outbox.close(CloseCode::Superseded); // a newer one is there already
        return handle;
    }
    if elsewhere {
        older.outbox.close(CloseCode::Superseded); // its fence comes, or came, by the bus
    } else {
        gateway.pass(&older);
    }
    if let Some(forgotten) = space.set_former(older) {
        gateway.give_up(forgotten, Undeliverable::Unavailable);
    }
    handle
}

/// What is sent to this peer and to its space has to reach this node before anybody is told of it, and before the fence.
pub(super) async fn subscribe(gateway: &Gateway, space: &Space, handle: &Handle) -> Result<(), BusError> {
    let bus = &gateway.link.bus;
    let name = &space.name;
    let mine = Destination::Peer(name.clone(), handle.peer.id.clone());
    let all = async {
        // Nobody gives the channel of a room up meanwhile.
        let _in_order = if name.is_room() { Some(space.channel.lock().await) } else { None };
        bus.subscribe(Destination::Space(name.clone())).await
    };
    let (news, mail) = tokio::join!(all, bus.subscribe(mine));
    news.and(mail)?;
    if !handle.stage.get().awaits_fence() {
        return Ok(());
    }
    match gateway.fence(handle) {
        Sent::Queued | Sent::Offline => Ok(()),
        Sent::Full | Sent::Down => Err(BusError::Unavailable("the bus takes nothing now".to_owned())),
    }
}

/// Waits until what is sent to the peer is for this session. Whoever hears of it before its fence came by could send
/// something that overtakes the fence, and that is left to an older session, which may not be there any more.
pub(super) async fn can_be_reached(handle: &Handle) -> Result<(), BusError> {
    let came_by = handle.outbox.until(|| !handle.stage.get().awaits_fence());
    let waited = tokio::time::timeout(FENCE_PATIENCE, came_by).await;
    waited.map_err(|_| BusError::Unavailable("a takeover was not confirmed by the bus".to_owned()))
}
