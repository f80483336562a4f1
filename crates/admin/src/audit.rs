//! The log, and a check that nothing in it was changed.

use axum::Json;
use axum::extract::State;
use heliograph_core::chain::{GENESIS, Hash, Verifier};
use heliograph_core::id::Version;
use heliograph_core::limits::MAX_PAGE;
use heliograph_http::Problem;
use heliograph_store::{AuditLog, LogEntry, StoreError};
use serde_json::{Value, json};

use crate::app::Shared;
use crate::caller::Administrator;
use crate::failure::{list_problem, problem};
use crate::lists::{ListQuery, Params, seconds};

/// `GET /api/audit`
pub(crate) async fn list(
    State(app): State<Shared>,
    admin: Administrator,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let mesh = admin.scope(query.mesh.as_deref())?;
    let log = app.store.log(mesh.as_ref(), query.page()).await.map_err(list_problem)?;
    let rows: Vec<_> = log.rows.iter().map(describe).collect();
    Ok(Json(json!({ "entries": rows, "next_cursor": log.next })))
}

fn describe(entry: &LogEntry) -> Value {
    json!({
        "version": entry.version.0,
        "at": seconds(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "mesh": entry.mesh,
        "subject": entry.subject,
        "detail": serde_json::from_str::<Value>(&entry.detail).unwrap_or_else(|_| json!(entry.detail)),
        "hash": hex(&entry.hash),
        "prev_hash": hex(&entry.previous),
    })
}

fn hex(hash: &Hash) -> String {
    use std::fmt::Write;
    hash.iter().fold(String::with_capacity(2 * hash.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `GET /api/audit/verify`
pub(crate) async fn verify(State(app): State<Shared>, _admin: Administrator) -> Result<Json<Value>, Problem> {
    let Ok(_turn) = app.walks.try_acquire() else {
        return Err(Problem::too_many("verify", 5));
    };
    Ok(Json(match walk(&*app.store).await.map_err(problem)? {
        Ok(entries) => json!({ "ok": true, "entries": entries }),
        Err(first_bad) => json!({ "ok": false, "first_bad": first_bad.0 }),
    }))
}

/// Follows the chain from its beginning, a page at a time. Answers how many rows fit, or the first that does not.
async fn walk(log: &(impl AuditLog + ?Sized)) -> Result<Result<u64, Version>, StoreError> {
    // Read first: rows that are written meanwhile may be missing from the walk, older ones may not.
    let newest = log.version().await?;
    let mut verifier = Verifier::default();
    let mut last = GENESIS;
    loop {
        let rows = log.log_after(Version(verifier.checked()), MAX_PAGE).await?;
        for row in &rows {
            if row.previous != last {
                return Ok(Err(Version(verifier.checked() + 1)));
            }
            if let Err(broken) = verifier.check(&row.link(), &row.hash) {
                return Ok(Err(broken.at));
            }
            last = row.hash;
        }
        if rows.len() < MAX_PAGE as usize {
            let checked = verifier.checked();
            return Ok(if checked < newest.0 { Err(Version(checked + 1)) } else { Ok(checked) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use heliograph_core::chain::link;
    use heliograph_core::id::MeshName;
    use heliograph_store::{Page, Result, Rows};

    /// A log that somebody may have edited, and the version that the store has counted to.
    struct Edited(Vec<LogEntry>, u64);

    #[async_trait]
    impl AuditLog for Edited {
        async fn log(&self, _: Option<&MeshName>, _: Page) -> Result<Rows<LogEntry>> {
            panic!("a check of the chain reads forwards")
        }

        async fn log_after(&self, after: Version, limit: u32) -> Result<Vec<LogEntry>> {
            let rows = self.0.iter().filter(|row| row.version > after);
            Ok(rows.take(limit as usize).cloned().collect())
        }

        async fn version(&self) -> Result<Version> {
            Ok(Version(self.1))
        }
    }

    fn log(length: u64) -> Vec<LogEntry> {
        let mut previous = GENESIS;
        let row = |version| {
            let text = |text: &str| text.to_owned();
            let mut row = LogEntry {
                version: Version(version),
                at: 7,
                actor: text("key_1"),
                action: text("approve"),
                mesh: text("default"),
                subject: text("a"),
                detail: text("{}"),
                standing: None,
                previous,
                hash: GENESIS,
            };
            row.hash = link(&previous, &row.link());
            previous = row.hash;
            row
        };
        (1..=length).map(row).collect()
    }

    async fn check(edit: impl FnOnce(&mut Vec<LogEntry>), expect: std::result::Result<u64, u64>) {
        let mut rows = log(1_200);
        edit(&mut rows);
        let found = walk(&Edited(rows, 1_200)).await.unwrap();
        assert_eq!(found, expect.map_err(Version));
    }

    #[tokio::test]
    async fn whatever_was_edited_shows_at_its_row() {
        check(|_| (), Ok(1_200)).await;
        check(|rows| "revoke".clone_into(&mut rows[499].action), Err(500)).await;
        check(|rows| rows[700].previous = GENESIS, Err(701)).await;
        check(|rows| drop(rows.remove(3)), Err(4)).await;
        check(|rows| rows.truncate(1_000), Err(1_001)).await;
        check(Vec::clear, Err(1)).await;
    }
}
