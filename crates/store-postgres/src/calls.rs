//! One call: a connection of the pool to itself, a bound, and another try on a connection that is not broken.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use heliograph_store::{Result, StoreError};
use sqlx::pool::{PoolConnection, PoolConnectionMetadata};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres};
use tokio::time::timeout;

use crate::error::{Refusal, unavailable};
use crate::options::Options;

/// Tries of one call at most.
const TRIES: u32 = 3;
/// A connection that was of use so recently is used again without a question: the question would be a round trip
/// more for each call. If it is broken all the same, the call is tried again on a new one.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// How long a connection may take to say that it is there, before and after its use.
const PING_PATIENCE: Duration = Duration::from_secs(1);

/// The connections that serve calls.
#[derive(Debug)]
pub(crate) struct Calls {
    pool: PgPool,
    doubt: Arc<Doubt>,
    timeout: Duration,
}

impl Calls {
    /// Connects when the first call comes.
    pub(crate) fn new(connect: PgConnectOptions, max_connections: u32, options: &Options) -> Self {
        let doubt = Arc::new(Doubt::default());
        let look = Arc::clone(&doubt);
        let pool = PgPoolOptions::new()
            .max_connections(max_connections.max(1))
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire(move |connection, last_use| {
                let doubt = Arc::clone(&look);
                Box::pin(async move { Ok(doubt.allows(connection, &last_use).await) })
            })
            .connect_lazy_with(connect);
        Self { pool, doubt, timeout: options.call_timeout }
    }

    /// Waits for calls that are under way and closes the connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) fn tries(&self) -> Tries<'_> {
        Tries { calls: self, left: TRIES }
    }

    /// Gives a whole call its bound.
    pub(crate) async fn bound<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match timeout(self.timeout, call).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                self.doubt.raise();
                let bound = self.timeout.as_millis();
                let why = format!(
                    "the database did not answer within {bound} ms; it may have done what it was told"
                );
                Err(unavailable(why))
            }
        }
    }
}

/// The tries of one call.
pub(crate) struct Tries<'a> {
    calls: &'a Calls,
    left: u32,
}

impl Tries<'_> {
    pub(crate) async fn lend(&mut self) -> Result<Lent> {
        self.left = self.left.saturating_sub(1);
        let connection = self.calls.pool.acquire().await.map_err(Refusal::from)?;
        Ok(Lent { connection, back: false })
    }

    /// The answer of the call, or nothing if it is to be tried again.
    pub(crate) fn settle<T>(
        &mut self,
        lent: Lent,
        outcome: std::result::Result<T, Refusal>,
    ) -> Option<Result<T>> {
        match outcome {
            Ok(_) | Err(Refusal::Final(_)) => lent.give_back(),
            Err(Refusal::Broken(_)) => self.calls.doubt.raise(),
            Err(Refusal::Clash(_)) => {}
        }
        match outcome {
            Err(Refusal::Broken(_) | Refusal::Clash(_)) if self.left > 0 => None,
            outcome => Some(outcome.map_err(StoreError::from)),
        }
    }
}

/// Runs an expression that has a connection as `$connection`, and answers what it came to. It is tried again, a few
/// times at most, when the connection was broken or another transaction was given preference: nothing was committed
/// then. `?` in it ends the try.
///
/// A macro, because the compiler cannot tell yet that the future of a closure that borrows may change threads.
macro_rules! call {
    ($calls:expr, |$connection:ident| $run:expr) => {
        $calls
            .bound(async {
                let mut tries = $calls.tries();
                loop {
                    let mut lent = tries.lend().await?;
                    let $connection = &mut *lent.connection;
                    let outcome: std::result::Result<_, $crate::error::Refusal> = async { $run }.await;
                    if let Some(answer) = tries.settle(lent, outcome) {
                        break answer;
                    }
                }
            })
            .await
    };
}
pub(crate) use call;

/// A connection in use. If its call goes away in the middle, or breaks, it is closed: Postgres then takes back what
/// was not committed, and the next call does not find the rest of an answer that nobody waited for.
pub(crate) struct Lent {
    pub(crate) connection: PoolConnection<Postgres>,
    back: bool,
}

impl Lent {
    /// The pool asks each connection for a sign of life when it comes back, without a bound: on a line that has
    /// gone silent its place would be taken for many minutes.
    fn give_back(mut self) {
        self.back = true;
        let returning = self.connection.return_to_pool();
        tokio::spawn(async move { timeout(PING_PATIENCE, returning).await });
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.back {
            self.connection.close_on_drop();
        }
    }
}

/// When a connection was last found broken. Those that were idle then are not used again: a server that was
/// restarted or replaced has ended all of them.
#[derive(Debug, Default)]
struct Doubt(Mutex<Option<Instant>>);

impl Doubt {
    fn raise(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn covers(&self, idle_for: Duration) -> bool {
        let raised = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        raised.is_some_and(|raised| raised.elapsed() <= idle_for)
    }

    /// Whether an idle connection may be used.
    async fn allows(&self, connection: &mut PgConnection, last_use: &PoolConnectionMetadata) -> bool {
        if self.covers(last_use.idle_for) {
            return false;
        }
        if last_use.idle_for < TRUSTED_FOR {
            return true;
        }
        let answered = matches!(timeout(PING_PATIENCE, connection.ping()).await, Ok(Ok(())));
        if !answered {
            self.raise();
        }
        answered
    }
}
