//! Says to presence whom this node has, whenever presence may have lost it: at the start, after an outage, after the
//! other nodes had given this one up for lost.

use std::sync::Arc;
use std::time::Duration;

use heliograph_bus::{BusError, Reseated, Seat, Visit};
use heliograph_core::session::Mail;

use crate::directory::Handle;
use crate::gateway::Gateway;

/// Between two attempts. Short: nobody can register anywhere until all nodes have said whom they have, and one that is
/// late has its sessions moved to new places.
const RETRY: Duration = Duration::from_millis(100);

/// Runs until the gateway stops.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let mut upheavals = gateway.link.presence.upheavals();
    loop {
        upheavals.mark_unchanged();
        let said = say_again(&gateway).await;
        if let Err(error) = &said {
            tracing::debug!(%error, "presence could not be told of the sessions here");
        }
        tokio::select! {
            changed = upheavals.changed(), if said.is_ok() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY), if said.is_err() => {}
            () = gateway.stop.cancelled() => return,
        }
    }
}

async fn say_again(gateway: &Gateway) -> Result<(), BusError> {
    let handles: Vec<_> = gateway.directory.spaces().iter().flat_map(|space| space.sessions()).collect();
    let handles: Vec<_> = handles.into_iter().filter(|handle| is_seated(handle)).collect();
    let seats: Vec<_> = handles.iter().map(|handle| seat(handle)).collect();
    let outcomes = gateway.link.presence.reseat(&seats).await?;
    let mut moved = 0_usize;
    for (handle, outcome) in handles.iter().zip(outcomes) {
        match outcome {
            // An older session may have been put back before this one displaced it again, and not know yet.
            Reseated::Kept => drop(gateway.fence(handle)),
            Reseated::Superseded(_) => gateway.pass(handle),
            Reseated::Moved(placement) => {
                moved += 1;
                handle.set_place(Some(placement.place));
                let mail = Mail::Moved { place: placement.place, members: placement.members };
                let _session_over = handle.outbox.push(mail, &gateway.config.limits);
            }
        }
    }
    if moved > 0 {
        tracing::warn!(
            sessions = moved,
            "other nodes had given this one up for lost; its sessions have new places"
        );
    }
    Ok(())
}

fn is_seated(handle: &Handle) -> bool {
    handle.stage.get().is_seated()
}

fn seat(handle: &Handle) -> Seat {
    Seat {
        space: handle.peer.space.clone(),
        peer: handle.peer.id.clone(),
        epoch: handle.epoch,
        place: handle.place(),
        hidden: handle.is_parked(),
        visit: Visit {
            since_unix_ms: handle.since_unix_ms,
            dialect: handle.dialect.as_str().into(),
            profile: handle.profile.clone(),
        },
    }
}
