//! One change: a transaction that is either whole or never was.
//!
//! The transaction is ours and not the driver's: `BEGIN` goes in one round trip with the lock of `head`, and a
//! `COMMIT` without an answer has to be told from everything else that can fail.

use heliograph_core::id::Version;
use heliograph_store::record::{Draft, Head};
use heliograph_store::{LogEntry, StoreError};
use sqlx::PgConnection;

use crate::error::{Refusal, inconsistent, unavailable};
use crate::row::{HeadRow, number, standing_word};

/// What a change answers, and what it leaves in the log; without a draft it changed nothing.
pub(crate) type Outcome<T> = std::result::Result<(T, Option<Draft>), Refusal>;

/// An open transaction that holds the end of the log.
pub(crate) struct Change<'a> {
    pub(crate) connection: &'a mut PgConnection,
    head: Head,
}

/// Runs one change: an expression that has an open transaction as `$change` and answers an [`Outcome`]. It may be
/// run again from the start, as long as nothing was committed.
macro_rules! change {
    ($store:expr, |$change:ident| $run:expr) => {
        $crate::calls::call!($store.calls, |connection| {
            let mut $change = $crate::change::Change::begin(connection).await?;
            let outcome = $run.await;
            $change.finish(outcome).await
        })
    };
}
pub(crate) use change;

impl<'a> Change<'a> {
    /// From here on no other change and no renewal is under way, and each statement sees all that came before.
    pub(crate) async fn begin(connection: &'a mut PgConnection) -> std::result::Result<Self, Refusal> {
        match lock_head(connection).await {
            Ok(head) => Ok(Self { connection, head }),
            Err(refusal) => {
                roll_back(connection).await;
                Err(refusal)
            }
        }
    }

    /// The version that this change takes.
    pub(crate) fn version(&self) -> Version {
        self.head.next()
    }

    /// Commits what led to `outcome` together with its row of the log, or takes it back.
    pub(crate) async fn finish<T>(self, outcome: Outcome<T>) -> std::result::Result<T, Refusal> {
        let answer = match outcome {
            Ok((value, Some(draft))) => match write(self.connection, &draft.seal(&self.head)).await {
                Ok(()) => return commit(self.connection).await.map(|()| value),
                Err(refusal) => Err(refusal),
            },
            Ok((value, None)) => Ok(value),
            Err(refusal) => Err(refusal),
        };
        roll_back(self.connection).await;
        answer
    }
}

async fn lock_head(connection: &mut PgConnection) -> std::result::Result<Head, Refusal> {
    let lock = sqlx::raw_sql("BEGIN; SELECT version, hash FROM head WHERE id = 1 FOR UPDATE");
    let row = lock.fetch_one(connection).await?;
    Ok(HeadRow::of(&row)?.try_into()?)
}

/// Appends a row to the log, moves the counter there, and tells those who wait when it is committed.
async fn write(connection: &mut PgConnection, entry: &LogEntry) -> std::result::Result<(), Refusal> {
    let (peer, standing) = match &entry.standing {
        Some((peer, standing)) => (Some(peer.as_str()), Some(standing_word(*standing)?)),
        None => (None, None),
    };
    let written = sqlx::query!(
        "WITH moved AS (
            UPDATE head SET version = $1, hash = $11 WHERE id = 1 AND version = $1::BIGINT - 1 RETURNING version
        ), appended AS (
            INSERT INTO log (version, at, actor, action, mesh, subject, detail, peer, standing, previous, hash)
            SELECT version, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11 FROM moved
        )
        SELECT pg_notify('heliograph', '') FROM moved",
        number(entry.version),
        entry.at,
        entry.actor,
        entry.action,
        entry.mesh,
        entry.subject,
        entry.detail,
        peer,
        standing,
        entry.previous.as_slice(),
        entry.hash.as_slice(),
    )
    .execute(connection)
    .await?;
    if written.rows_affected() != 1 {
        return Err(inconsistent("the version counter moved during a change").into());
    }
    Ok(())
}

/// The one step that is never tried again: without an answer it may have happened or not.
async fn commit(connection: &mut PgConnection) -> std::result::Result<(), Refusal> {
    let refusal = match sqlx::raw_sql("COMMIT").execute(connection).await {
        Ok(_) => return Ok(()),
        Err(error) => Refusal::from(error),
    };
    Err(match refusal {
        Refusal::Broken(StoreError::Unavailable(why)) => {
            Refusal::Final(unavailable(format!("{why}; it is not known whether the change was made")))
        }
        other => other,
    })
}

/// Fails when the connection is broken, and then Postgres does it.
async fn roll_back(connection: &mut PgConnection) {
    if let Err(error) = sqlx::raw_sql("ROLLBACK").execute(connection).await {
        tracing::debug!(%error, "nothing to roll back");
    }
}
