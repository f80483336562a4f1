//! Invites: what is open, and taking one back.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use heliograph_http::Problem;
use heliograph_store::{Invite, StoreError, UnixMillis};
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::failure::{list_problem, problem, problem_or};
use crate::groups::{Enrolled, EnrolledQuery, revoke_enrolled};
use crate::lists::{Id, ListQuery, Params, seconds};
use crate::revocation::{RevokeQuery, held_at_once};

/// `GET /api/invites`
pub(crate) async fn list(
    State(app): State<Shared>,
    admin: Administrator,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let mesh = admin.scope(query.mesh.as_deref())?;
    let invites = app.store.invites(mesh.as_ref(), query.page()).await.map_err(list_problem)?;
    let now = app.now();
    let rows: Vec<_> = invites.rows.iter().map(|invite| describe(invite, now)).collect();
    Ok(Json(json!({ "invites": rows, "next_cursor": invites.next })))
}

/// `DELETE /api/invites/{id}`
#[tracing::instrument(skip_all, fields(version))]
pub(crate) async fn revoke(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
    Params(EnrolledQuery { enrolled }): Params<EnrolledQuery>,
    Params(query): Params<RevokeQuery>,
) -> Result<Response, Problem> {
    if enrolled == Enrolled::Revoke {
        return revoke_enrolled(&app, &admin, &id, &query).await;
    }
    if !admin.is_operator() {
        ensure_in_mesh(&app, &admin, &id).await?;
    }
    let by = app.by(admin.actor());
    let version = app.store.revoke_invite(&id, by).await.map_err(problem_or("no open invite has this id"))?;
    tracing::Span::current().record("version", version.0);
    Ok(held_at_once(json!({ "status": "ok", "id": id }), version))
}

/// An invite is only found by its mesh's list. That is bounded: by the open ones that a mesh may have, and those
/// that wait to be cleared away.
async fn ensure_in_mesh(app: &App, admin: &Administrator, id: &str) -> Result<(), Problem> {
    let mesh = admin.mesh(None)?;
    let mut page = heliograph_store::Page { cursor: None, limit: heliograph_core::limits::MAX_PAGE };
    loop {
        let invites = app.store.invites(Some(&mesh), page.clone()).await.map_err(list_problem)?;
        if invites.rows.iter().any(|invite| invite.id == id) {
            return Ok(());
        }
        page.cursor = Some(invites.next.ok_or_else(|| problem(StoreError::NotFound))?);
    }
}

fn describe(invite: &Invite, now: UnixMillis) -> Value {
    json!({
        "id": invite.id,
        "mesh": invite.mesh.as_str(),
        "uses_left": invite.uses_left,
        "expires_at": seconds(invite.expires_at),
        "created_at": seconds(invite.created_at),
        "created_by": invite.created_by,
        "status": status(invite, now),
    })
}

fn status(invite: &Invite, now: UnixMillis) -> &'static str {
    if invite.revoked {
        "revoked"
    } else if invite.uses_left == 0 {
        "used"
    } else if invite.is_open(now) {
        "open"
    } else {
        "expired"
    }
}
