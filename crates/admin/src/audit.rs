//! The log, and a check that nothing in it was changed.

use axum::Json;
use axum::extract::State;
use heliograph_core::chain::{GENESIS, Hash, Verifier};
use heliograph_core::id::Version;
use heliograph_core::limits::MAX_PAGE;
use heliograph_http::Problem;
use heliograph_store::{LogEntry, StoreError};
use serde_json::{Value, json};

use crate::app::{App, Shared};
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
    Ok(Json(match walk(&app).await.map_err(problem)? {
        Ok(entries) => json!({ "ok": true, "entries": entries }),
        Err(first_bad) => json!({ "ok": false, "first_bad": first_bad.0 }),
    }))
}

/// Follows the chain from its beginning, a page at a time. Answers how many rows fit, or the first that does not.
async fn walk(app: &App) -> Result<Result<u64, Version>, StoreError> {
    // Read first: rows that are written meanwhile may be missing from the walk, older ones may not.
    let newest = app.store.version().await?;
    let mut verifier = Verifier::default();
    let mut last = GENESIS;
    loop {
        let rows = app.store.log_after(Version(verifier.checked()), MAX_PAGE).await?;
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
