//! One change: a transaction that is either whole or never was.
//!
//! The transaction is ours and not the driver's: `BEGIN` goes in one round trip with the lock of `head`, and a
//! `COMMIT` without an answer has to be told from everything else that can fail.

use heliograph_core::id::Version;
use heliograph_store::record::{Draft, Head};
use heliograph_store::{LogEntry, StoreError};
use sqlx::PgConnection;

use crate::error::{Refusal, inconsistent, unavailable};
use crate::row::{HeadRow, LogColumns, number};

/// What a change answers, and what it leaves in the log; without a draft it changed nothing.
pub(crate) type Outcome<T, D = Option<Draft>> = std::result::Result<(T, D), Refusal>;

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

    /// The version that the row of the log takes which has so many rows of this change before it.
    pub(crate) fn version_after(&self, rows: usize) -> Version {
        Version(self.version().0 + rows as u64)
    }

    /// The version before this change.
    pub(crate) fn version_before(&self) -> Version {
        self.head.version
    }

    /// Commits what led to `outcome` together with its rows of the log, or takes it back.
    pub(crate) async fn finish<T, D: IntoIterator<Item = Draft>>(
        self,
        outcome: Outcome<T, D>,
    ) -> std::result::Result<T, Refusal> {
        let answer = match outcome {
            Ok((value, drafts)) => {
                match write(self.connection, &self.head, &seal(&self.head, drafts)).await {
                    Ok(true) => return commit(self.connection).await.map(|()| value),
                    Ok(false) => Ok(value),
                    Err(refusal) => Err(refusal),
                }
            }
            Err(refusal) => Err(refusal),
        };
        roll_back(self.connection).await;
        answer
    }
}

fn seal(head: &Head, drafts: impl IntoIterator<Item = Draft>) -> Vec<LogEntry> {
    let mut head = *head;
    let seal = |draft: Draft| {
        let entry = draft.seal(&head);
        head = Head::from(&entry);
        entry
    };
    drafts.into_iter().map(seal).collect()
}

async fn lock_head(connection: &mut PgConnection) -> std::result::Result<Head, Refusal> {
    let lock = sqlx::raw_sql("BEGIN; SELECT version, hash FROM head WHERE id = 1 FOR UPDATE");
    let row = lock.fetch_one(connection).await?;
    Ok(HeadRow::of(&row)?.try_into()?)
}

/// Appends rows to the log, moves the counter there, and tells those who wait when it is committed. Answers whether there
/// were any.
async fn write(
    connection: &mut PgConnection,
    before: &Head,
    entries: &[LogEntry],
) -> std::result::Result<bool, Refusal> {
    let Some(last) = entries.last() else { return Ok(false) };
    let rows = LogColumns::of(entries)?;
    let written = sqlx::query!(
        "WITH moved AS (
            UPDATE head SET version = $1, hash = $2 WHERE id = 1 AND version = $3 RETURNING version
        ), appended AS (
            INSERT INTO log (version, at, actor, action, mesh, subject, detail, peer, standing, previous, hash)
            SELECT r.version, r.at, r.actor, r.action, r.mesh, r.subject, r.detail, r.peer, r.standing, r.previous, r.hash
            FROM moved, UNNEST(
                $4::BIGINT[], $5::BIGINT[], $6::TEXT[], $7::TEXT[], $8::TEXT[], $9::TEXT[], $10::TEXT[], $11::TEXT[],
                $12::TEXT[], $13::BYTEA[], $14::BYTEA[]
            ) AS r (version, at, actor, action, mesh, subject, detail, peer, standing, previous, hash)
        )
        SELECT pg_notify('heliograph', '') FROM moved",
        number(last.version),
        last.hash.as_slice(),
        number(before.version),
        &rows.version,
        &rows.at,
        &rows.actor as _,
        &rows.action as _,
        &rows.mesh as _,
        &rows.subject as _,
        &rows.detail as _,
        &rows.peer as _,
        &rows.standing as _,
        &rows.previous as _,
        &rows.hash as _,
    )
    .execute(connection)
    .await?;
    if written.rows_affected() != 1 {
        return Err(inconsistent("the version counter moved during a change").into());
    }
    Ok(true)
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
