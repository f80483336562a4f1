//! Waiting for a state, with a bound.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// How often a state is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(10);
/// How long anything here may take. Generous: the bound is there so that nothing hangs on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `state` gives a value, for [`PATIENCE`] at most; its error ends the waiting.
pub(crate) async fn until<T>(what: &str, mut state: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = state().await? {
            return Ok(value);
        }
        if Instant::now() >= give_up {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        sleep(LOOK).await;
    }
}
