//! Looks at everybody's deadlines twice a second, so that no socket needs a timer of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use heliograph_core::close::CloseCode;
use heliograph_core::message::Undeliverable;
use heliograph_core::stage::Stage;

use crate::directory::{Handle, Space};
use crate::gateway::Gateway;

const INTERVAL: Duration = Duration::from_millis(500);
/// How long a write may stand still when the lease has run out, in nanoseconds.
const UNLEASED_WRITE_NANOS: u64 = 250_000_000;
/// When a takeover that the bus has not confirmed is said again, and when it counts without.
const FENCE_AGAIN: Duration = Duration::from_secs(1);
const FENCE_GIVEN_UP: Duration = Duration::from_secs(10);
/// How often what nobody needs any more is let go of.
const TIDY_EVERY: u32 = 20;

/// Runs until the gateway stops.
pub(crate) async fn run(gateway: Arc<Gateway>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for turn in 0u32.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = gateway.stop.cancelled() => return,
        }
        let now = Instant::now();
        for space in gateway.directory.spaces() {
            space.for_each(|handle| visit(&gateway, handle, now));
            release_forsaken(&gateway, &space, gateway.nanos(now));
        }
        watch_lease(&gateway, now);
        gateway.report();
        if turn % TIDY_EVERY == 0 {
            gateway.directory.tidy(now, &gateway.authority);
            gateway.assertions.tidy(crate::gateway::unix_seconds());
            gateway.admission.tidy();
        }
    }
}

fn visit(gateway: &Gateway, handle: &Handle, now: Instant) {
    fence_again(gateway, handle);
    if handle.is_parked() {
        return;
    }
    let nanos = gateway.nanos(now);
    if handle.next_due.load(Ordering::Relaxed) <= nanos {
        handle.outbox.tick();
    }
    let write_deadline = u64::try_from(gateway.config.limits.write_deadline.as_nanos()).unwrap_or(u64::MAX);
    // What was checked under a lease must not be written long after it has run out (DESIGN G8).
    let patience = if gateway.authority.is_current(now) { write_deadline } else { UNLEASED_WRITE_NANOS };
    if handle.turn().is_some_and(|since| nanos.saturating_sub(since) > patience) {
        handle.outbox.abort(CloseCode::SlowConsumer);
    }
    gateway.renew_ice_servers(handle, now);
}

/// A fence may get lost with a connection to the bus. Without it the session would leave every message of other nodes to
/// an older one that may not be there any more; after a while it is the one in any case.
fn fence_again(gateway: &Gateway, handle: &Handle) {
    if !handle.stage.get().awaits_fence() {
        return;
    }
    let age = handle.opened.elapsed();
    if age > FENCE_GIVEN_UP {
        tracing::warn!(peer = %handle.peer.id, "a takeover was not confirmed by the bus");
        handle.stage.change(Stage::after_own_fence);
        handle.outbox.stir();
    } else if age > FENCE_AGAIN {
        gateway.fence(handle);
    }
}

/// Parked sessions whose client did not come back in time.
fn release_forsaken(gateway: &Gateway, space: &Space, now: u64) {
    for handle in space.handles().into_iter().filter(|handle| handle.is_forsaken(now)) {
        let why =
            if handle.peer.right.is_approved() { Undeliverable::Expired } else { Undeliverable::Unavailable };
        gateway.give_up(handle, why);
    }
}

/// The feed may be waiting for a store that does not answer; the gauges must not wait with it.
fn watch_lease(gateway: &Gateway, now: Instant) {
    gateway.metrics.lease.look(&gateway.authority, now);
    gateway.metrics.bus_up.set(i64::from(gateway.link.bus.is_up()));
}
