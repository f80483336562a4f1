//! Empties a node without a reconnect storm: not ready first, then a word to each client, spread over the drain window,
//! then 1012; what clients left behind waits for them to the end of the window (DESIGN §8).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use heliograph_core::close::CloseCode;
use heliograph_core::message::Undeliverable;
use heliograph_core::session::Mail;
use rand::RngExt;
use rand::seq::SliceRandom;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::directory::Handle;
use crate::gateway::Gateway;

/// How often the next clients are sent on their way.
const STEP: Duration = Duration::from_millis(50);
/// Longest time in which load balancers may notice that the node is not ready, before it refuses new sessions.
const LEAD: Duration = Duration::from_secs(2);
/// How long a client that knows `goaway` has to come back elsewhere by itself.
const GRACE: Duration = Duration::from_secs(5);

/// Whether the node drains.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    on: AtomicBool,
    /// Set once new sessions are refused.
    closed: AtomicBool,
    run: Mutex<Option<CancellationToken>>,
}

impl Drain {
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// `None` when it is on already.
    fn switch_on(&self) -> Option<CancellationToken> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if run.is_some() {
            return None;
        }
        let token = CancellationToken::new();
        *run = Some(token.clone());
        self.on.store(true, Ordering::Relaxed);
        Some(token)
    }

    fn switch_off(&self) -> bool {
        let token = self.run.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(token) = &token {
            token.cancel();
        }
        self.on.store(false, Ordering::Relaxed);
        self.closed.store(false, Ordering::Relaxed);
        token.is_some()
    }
}

impl Gateway {
    /// Begins to drain, if it does not yet: readiness turns off now, clients are sent away over the drain window.
    pub fn begin_drain(&self) {
        if let Some(cancelled) = self.drain.switch_on() {
            tracing::info!(sessions = self.sessions(), "draining");
            self.metrics.comings.draining.set(1);
            self.report();
            self.spawn(|gateway| async move {
                tokio::select! {
                    () = empty(&gateway) => {}
                    () = cancelled.cancelled() => {}
                }
            });
        }
    }

    /// Takes a drain back: the node is ready again, and who is still here stays.
    pub fn cancel_drain(&self) {
        if self.drain.switch_off() {
            tracing::info!(sessions = self.sessions(), "the drain was taken back");
            self.metrics.comings.draining.set(0);
            self.report();
        }
    }

    /// Drains and waits until every socket is closed and what sessions left is taken, at most the drain window; then
    /// ends the background tasks.
    pub async fn drain(&self) {
        self.begin_drain();
        let window = self.config.drain_window;
        let alone = self.is_alone().await;
        let gone = async {
            while self.sessions() > 0 || (!alone && self.parked.load(Ordering::Relaxed) > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(window, gone).await.is_err() {
            tracing::info!(sessions = self.sessions(), "the end of the drain window");
        }
        self.leave_nothing().await;
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.is_err() {
            tracing::warn!("background tasks did not end in time");
        }
    }

    /// Whether there is no other node to go to.
    async fn is_alone(&self) -> bool {
        self.link.presence.gateways().await.map_or(1, |nodes| nodes.len()) <= 1
    }

    /// Closes who is still here, and tells the senders of what was not taken over.
    async fn leave_nothing(&self) {
        let spaces = self.directory.spaces();
        for handle in spaces.iter().flat_map(|space| space.handles()) {
            handle.outbox.close(CloseCode::ServiceRestart);
        }
        let closed = async {
            while self.sessions() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _some_do_not_read = tokio::time::timeout(Duration::from_secs(2), closed).await;
        for handle in spaces.iter().flat_map(|space| space.handles()) {
            self.give_up(handle, Undeliverable::Unavailable);
        }
    }
}

/// Sends everybody away at the pace of the window.
async fn empty(gateway: &Gateway) {
    let pace = Pace::of(gateway).await;
    tokio::time::sleep(pace.lead).await;
    gateway.drain.closed.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let mut staying = everybody(gateway);
    let total = staying.len();
    let mut going = VecDeque::new();
    loop {
        let now = Instant::now();
        let due = pace.due(total, now - started);
        while total - staying.len() < due
            && let Some(handle) = staying.pop()
        {
            send_away(gateway, handle, pace.grace, now, &mut going);
        }
        while going.front().is_some_and(|(at, _): &(Instant, Arc<Handle>)| *at <= now) {
            if let Some((_, handle)) = going.pop_front() {
                handle.outbox.close(CloseCode::ServiceRestart);
            }
        }
        if staying.is_empty() && going.is_empty() {
            // Who opened a socket before the door was closed and was not among the first.
            let late = everybody(gateway);
            if late.is_empty() {
                return;
            }
            for handle in late {
                handle.outbox.close(CloseCode::ServiceRestart);
            }
        }
        tokio::time::sleep(STEP).await;
    }
}

/// In no order, so that clients that came together do not all go together.
fn everybody(gateway: &Gateway) -> Vec<Arc<Handle>> {
    let mut all: Vec<_> = gateway.directory.spaces().iter().flat_map(|space| space.sessions()).collect();
    all.retain(|handle| !handle.is_parked());
    all.shuffle(&mut rand::rng());
    all
}

/// A client that knows `goaway` moves by itself; the others are closed in their turn.
fn send_away(
    gateway: &Gateway,
    handle: Arc<Handle>,
    grace: Duration,
    now: Instant,
    going: &mut VecDeque<(Instant, Arc<Handle>)>,
) {
    if !handle.wants_goaway.load(Ordering::Relaxed) {
        handle.outbox.close(CloseCode::ServiceRestart);
        return;
    }
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let goaway = Mail::GoAway {
        reconnect_after_ms: rand::rng().random_range(0..=grace_ms / 4),
        deadline_ms: grace_ms,
    };
    let _closed_already = handle.outbox.push(goaway, &gateway.config.limits);
    going.push_back((now + grace, handle));
}

/// How a drain is spread over its window.
struct Pace {
    lead: Duration,
    spread: Duration,
    grace: Duration,
}

impl Pace {
    async fn of(gateway: &Gateway) -> Self {
        // Where there is no other node, nobody gains by waiting.
        if gateway.is_alone().await {
            return Self { lead: Duration::ZERO, spread: Duration::ZERO, grace: Duration::ZERO };
        }
        let window = gateway.config.drain_window;
        Self { lead: LEAD.min(window / 10), spread: window / 2, grace: GRACE.min(window / 4) }
    }

    /// How many of `total` should have been sent away after `elapsed`.
    fn due(&self, total: usize, elapsed: Duration) -> usize {
        if elapsed >= self.spread {
            return total;
        }
        let share = elapsed.as_secs_f64() / self.spread.as_secs_f64();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
        let due = (total as f64 * share).ceil() as usize;
        due.min(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_go_evenly_over_the_spread() {
        let pace = Pace { lead: Duration::ZERO, spread: Duration::from_secs(10), grace: Duration::ZERO };
        assert_eq!(pace.due(100, Duration::ZERO), 0);
        assert_eq!(pace.due(100, Duration::from_secs(5)), 50);
        assert_eq!(pace.due(100, Duration::from_secs(10)), 100);
        assert_eq!(pace.due(100, Duration::from_mins(1)), 100);
        let at_once = Pace { lead: Duration::ZERO, spread: Duration::ZERO, grace: Duration::ZERO };
        assert_eq!(at_once.due(7, Duration::ZERO), 7);
    }

    #[test]
    fn a_drain_is_on_once_and_can_be_taken_back() {
        let drain = Drain::default();
        assert!(drain.switch_on().is_some());
        assert!(drain.switch_on().is_none());
        assert!(drain.is_on());
        assert!(drain.switch_off());
        assert!(!drain.is_on() && !drain.switch_off());
    }
}
