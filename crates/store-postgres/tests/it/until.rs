//! Waiting for a state, with a bound.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits until `look` finds something, for `bound` at most.
pub(crate) async fn until<T: Debug, E: Debug>(
    bound: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + bound;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < end, "not within {bound:?}: {last:?}"),
        }
        sleep(Duration::from_millis(10)).await;
    }
}
