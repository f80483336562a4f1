//! Signals on their way through the service, whose outcomes are not known yet.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use heliograph_client::Outcome;

/// At the same time. A connection has some dozens of candidates.
const MAX: usize = 256;

/// A signal on its way.
type OnItsWay = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Signals on their way, each with the number of its description if it has one.
#[derive(Default)]
pub(super) struct Sending(Vec<(Option<u64>, OnItsWay)>);

impl Sending {
    /// Sends a signal; its outcome if that is known at once. The first step is made here, so that signals are written in the
    /// order in which they come.
    pub(super) async fn send(&mut self, description: Option<u64>, mut signal: OnItsWay) -> Option<Outcome> {
        if self.0.len() >= MAX {
            return Some(Outcome::Undeliverable(heliograph_client::Reason::TooManyPending));
        }
        match poll_fn(|context| Poll::Ready(signal.as_mut().poll(context))).await {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => {
                self.0.push((description, signal));
                None
            }
        }
    }

    /// The next outcome; waits for it. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> (Option<u64>, Outcome) {
        poll_fn(|context| {
            for at in 0..self.0.len() {
                let Some((description, signal)) = self.0.get_mut(at) else { break };
                if let Poll::Ready(outcome) = signal.as_mut().poll(context) {
                    let description = *description;
                    drop(self.0.swap_remove(at));
                    return Poll::Ready((description, outcome));
                }
            }
            Poll::Pending
        })
        .await
    }
}
