//! One change: a transaction that is either whole or never was.
//!
//! The transaction is ours and not the driver's: SQLite rolls some failures back by itself (a full disk), and the
//! driver would then count a transaction that is not there and refuse all later ones.

use heliograph_core::id::Version;
use heliograph_store::local::LocalLeases;
use heliograph_store::record::{Draft, Head};
use heliograph_store::{Hint, Result, StoreError};
use sqlx::{Connection, SqliteConnection};

use crate::error::{inconsistent, refused};
use crate::row::{self, HeadRow};

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Writer {
    /// `None` after the store was closed.
    connection: Option<SqliteConnection>,
    /// Whether a transaction may be open: set before each `BEGIN`, so that a change whose caller went away in the
    /// middle is rolled back by the next one.
    unfinished: bool,
}

impl Writer {
    pub(crate) fn new(connection: SqliteConnection) -> Self {
        Self { connection: Some(connection), unfinished: false }
    }

    /// The connection, with no transaction open.
    pub(crate) async fn idle(&mut self) -> Result<&mut SqliteConnection> {
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        if self.unfinished {
            roll_back(connection).await;
            self.unfinished = false;
        }
        Ok(connection)
    }

    pub(crate) async fn begin(&mut self) -> Result<Change<'_>> {
        self.idle().await?;
        let Self { connection, unfinished } = self;
        let connection = connection.as_mut().ok_or_else(closed)?;
        *unfinished = true;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(refused)?;
        let head = HeadRow::read(&mut *connection).await?;
        Ok(Change { connection, unfinished, before: head, head })
    }

    /// Checkpoints and closes the file.
    pub(crate) async fn close(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "database not closed cleanly; the next start recovers it");
        }
    }
}

/// What a change answers, and what it leaves in the log; without a draft it changed nothing.
pub(crate) type Outcome<T> = Result<(T, Option<Draft>)>;

/// An open transaction.
pub(crate) struct Change<'a> {
    pub(crate) connection: &'a mut SqliteConnection,
    unfinished: &'a mut bool,
    /// The end of the log before it.
    before: Head,
    /// The end of the log now.
    head: Head,
}

impl Change<'_> {
    /// The version that the next row of the log takes.
    pub(crate) fn version(&self) -> Version {
        self.head.next()
    }

    /// The end of the log.
    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Appends a row to the log: a change that is several in one transaction does so for each but the last.
    pub(crate) async fn append(&mut self, draft: Draft) -> Result<()> {
        let entry = draft.seal(&self.head);
        row::insert_log(self.connection, &entry).await?;
        self.head = Head::from(&entry);
        Ok(())
    }

    /// Commits what led to `outcome` together with its rows of the log, or takes it back. Once this has answered,
    /// the change is on the disk.
    pub(crate) async fn finish<T>(mut self, outcome: Outcome<T>, leases: &LocalLeases) -> Result<T> {
        let outcome = match outcome {
            Ok((value, Some(draft))) => self.append(draft).await.map(|()| value),
            Ok((value, None)) => Ok(value),
            Err(error) => Err(error),
        };
        if outcome.is_err() || self.head == self.before {
            self.take_back().await;
            return outcome;
        }
        if let Err(error) = self.commit().await {
            self.take_back().await;
            return Err(error);
        }
        *self.unfinished = false;
        leases.waiters().wake(Hint::Change);
        outcome
    }

    async fn commit(&mut self) -> Result<()> {
        let moved = sqlx::query("UPDATE head SET version = ?, hash = ? WHERE version = ?")
            .bind(row::number(self.head.version))
            .bind(self.head.hash.as_slice())
            .bind(row::number(self.before.version))
            .execute(&mut *self.connection)
            .await
            .map_err(refused)?;
        if moved.rows_affected() != 1 {
            return Err(inconsistent("the version counter moved during a change"));
        }
        sqlx::query("COMMIT").execute(&mut *self.connection).await.map_err(refused)?;
        Ok(())
    }

    async fn take_back(&mut self) {
        roll_back(self.connection).await;
        *self.unfinished = false;
    }
}

/// Fails when there is no transaction (any more), which is what is wanted.
async fn roll_back(connection: &mut SqliteConnection) {
    if let Err(error) = sqlx::query("ROLLBACK").execute(connection).await {
        tracing::debug!(%error, "nothing to roll back");
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".to_owned())
}
