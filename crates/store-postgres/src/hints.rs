//! Wake-ups: a task that listens to the database on a connection of its own.
//!
//! While it has no connection, nobody on this node is woken; what happened shows at the next renewal. As soon as it
//! has one again everybody is woken, as something may have been missed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use heliograph_store::Hint;
use heliograph_store::local::Waiters;
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// The channel of all notifications. The statements and the function that notify name it too.
const CHANNEL: &str = "heliograph";
/// What a notification carries that is about leases alone. One channel for both kinds, and nothing in those of changes:
/// nodes of a version that knows one kind only hear everything that they used to, and what they say wakes everybody.
const OF_LEASES: &str = "lease";
/// How long connecting may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// After so long a silence the connection is asked whether it is still there: a line may die without a word.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it may take to say so.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Pauses between tries to connect: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Who waits, and who has something to tell.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    waiters: Waiters,
    /// A hint for the other nodes is due. Many at once are one.
    due: Notify,
    stopped: watch::Sender<bool>,
}

impl Hints {
    pub(crate) fn subscribe(&self, of: Hint) -> watch::Receiver<u64> {
        self.waiters.subscribe(of)
    }

    /// Wakes everybody here at once, and on the other nodes as soon as possible.
    pub(crate) fn spread(&self) {
        self.waiters.wake_all();
        self.due.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    fn heard(&self, notification: &PgNotification) {
        if notification.payload() == OF_LEASES {
            self.waiters.wake(Hint::Lease);
        } else {
            self.waiters.wake_all();
        }
    }
}

/// Connects, and then follows the notifications until [`Hints::stop`].
pub(crate) async fn start(connect: PgConnectOptions) -> sqlx::Result<Arc<Hints>> {
    let listener = listen(&connect).await?;
    let hints = Arc::new(Hints::default());
    let task = Arc::clone(&hints);
    tokio::spawn(async move {
        let mut stopped = task.stopped.subscribe();
        tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = run(&task, &connect, listener) => {}
        }
    });
    Ok(hints)
}

async fn run(hints: &Hints, connect: &PgConnectOptions, mut listener: PgListener) {
    loop {
        let Err(error) = follow(hints, &mut listener).await;
        drop(listener);
        tracing::warn!(%error, "notifications of the database are lost; until they are back, changes show at the next renewal");
        listener = listen_again(connect).await;
        tracing::info!("notifications of the database are back");
        hints.waiters.wake_all();
    }
}

async fn listen_again(connect: &PgConnectOptions) -> PgListener {
    let (mut pause, longest) = BACKOFF;
    loop {
        match listen(connect).await {
            Ok(listener) => return listener,
            Err(error) => tracing::debug!(%error, "no connection for notifications yet"),
        }
        sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

async fn listen(connect: &PgConnectOptions) -> sqlx::Result<PgListener> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_PATIENCE)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(connect.clone());
    let listening = async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener.eager_reconnect(false); // by itself it would try without a pause and without an end
        listener.listen(CHANNEL).await?;
        Ok(listener)
    };
    timeout(CONNECT_PATIENCE, listening).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}

/// Wakes for each notification, until the connection is lost.
async fn follow(hints: &Hints, listener: &mut PgListener) -> sqlx::Result<Infallible> {
    loop {
        tokio::select! {
            heard = timeout(SILENCE, listener.try_recv()) => match heard {
                Ok(Ok(Some(notification))) => hints.heard(&notification),
                Ok(Ok(None)) => return Err(lost()),
                Ok(Err(error)) => return Err(error),
                Err(_silence) => say(listener, "SELECT 1").await?,
            },
            () = hints.due.notified() => say(listener, "NOTIFY heliograph").await?,
        }
    }
}

/// Notifications that arrive in the meantime are kept by the listener.
async fn say(listener: &mut PgListener, statement: &'static str) -> sqlx::Result<()> {
    timeout(ANSWER_PATIENCE, listener.execute(statement)).await.unwrap_or_else(|_| Err(lost()))?;
    Ok(())
}

fn lost() -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::ConnectionAborted.into())
}
