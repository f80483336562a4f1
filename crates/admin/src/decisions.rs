//! The administrator's side of pairing: the queue, approving, rejecting.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use heliograph_auth::assertion::PublicKeyJwk;
use heliograph_core::pairing::{PairingState, Transition};
use heliograph_http::{JsonBody, Problem};
use heliograph_store::Pairing;
use http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::devices::hand_out;
use crate::failure::{list_problem, problem_or};
use crate::lists::{Id, ListQuery, Params, seconds};
use crate::metrics::Step;
use crate::revocation::{RevokeQuery, Until, spread};

/// The words of the original.
const NOT_PENDING: &str = "not found or not pending";
const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-next-cursor");

#[derive(Deserialize)]
pub(crate) struct Approval {
    /// Who gets the device token: the device when it asks, or (without a word) this caller.
    deliver: Option<Deliver>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Deliver {
    Device,
}

/// `GET /api/pairing/pending`
pub(crate) async fn pending(
    State(app): State<Shared>,
    admin: Administrator,
    Params(query): Params<ListQuery>,
) -> Result<Response, Problem> {
    list(&app, &admin, query, Some(PairingState::PendingApproval)).await
}

/// `GET /api/pairing/all`
pub(crate) async fn all(
    State(app): State<Shared>,
    admin: Administrator,
    Params(query): Params<ListQuery>,
) -> Result<Response, Problem> {
    list(&app, &admin, query, None).await
}

/// A bare array, as the original's; the cursor has to go into a header.
async fn list(
    app: &App,
    admin: &Administrator,
    query: ListQuery,
    state: Option<PairingState>,
) -> Result<Response, Problem> {
    let mesh = admin.scope(query.mesh.as_deref())?;
    let pairings = app.store.pairings(mesh.as_ref(), state, query.page()).await.map_err(list_problem)?;
    let rows: Vec<_> = pairings.rows.iter().map(describe).collect();
    let mut response = Json(rows).into_response();
    if let Some(Ok(cursor)) = pairings.next.as_deref().map(HeaderValue::from_str) {
        response.headers_mut().insert(NEXT_CURSOR, cursor);
    }
    Ok(response)
}

fn describe(pairing: &Pairing) -> Value {
    let mut row = json!({
        "id": pairing.id,
        "agent_name": pairing.name,
        "peer_id": pairing.peer.as_str(),
        "mesh": pairing.mesh.as_str(),
        "status": pairing.state.as_str(),
        "created_at": seconds(pairing.created_at),
        "updated_at": seconds(pairing.updated_at),
    });
    if let Some(print) = pairing.public_key.as_deref().and_then(fingerprint) {
        row["key_fingerprint"] = json!(print);
    }
    if let Some(address) = &pairing.address {
        row["address"] = json!(address);
    }
    row
}

/// The thumbprint of a stored public key.
pub(crate) fn fingerprint(jwk: &str) -> Option<String> {
    PublicKeyJwk::parse(jwk).ok().map(|key| key.thumbprint())
}

/// `POST /api/pairing/{id}/approve`
#[tracing::instrument(skip_all, fields(pairing, peer))]
pub(crate) async fn approve(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
    Params(query): Params<RevokeQuery>,
    JsonBody(approval): JsonBody<Approval>,
) -> Result<Response, Problem> {
    // Asked before the change: a device that waits now is about to be woken by it.
    let device_waits = app.waiting.has(&id);
    let pairing = transition(&app, &admin, &id, Transition::Approve).await?;
    app.metrics.stepped(Step::Approve);
    let mut answer = json!({
        "id": pairing.id,
        "status": pairing.state.as_str(),
        "peer_id": pairing.peer.as_str(),
        "version": pairing.version.0,
    });
    if approval.deliver != Some(Deliver::Device) && !device_waits {
        // The approval stands whatever happens here; the device can still fetch its token.
        match hand_out(&app, &pairing).await {
            Ok(Some(token)) => answer["device_token"] = json!(token.expose()),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no device token for an approved pairing"),
        }
    }
    let patience = query.patience_or(Until::None);
    if patience.is_zero() {
        return Ok(Json(answer).into_response());
    }
    Ok(spread(&app, answer, pairing.version, patience).await)
}

/// `POST /api/pairing/{id}/reject`
#[tracing::instrument(skip_all, fields(pairing, peer))]
pub(crate) async fn reject(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    let pairing = transition(&app, &admin, &id, Transition::Reject).await?;
    app.metrics.stepped(Step::Reject);
    Ok(Json(json!({ "status": "ok", "id": pairing.id, "peer_id": pairing.peer.as_str() })))
}

async fn transition(
    app: &App,
    admin: &Administrator,
    id: &str,
    transition: Transition,
) -> Result<Pairing, Problem> {
    let pairing = app.store.pairing(id).await.map_err(problem_or(NOT_PENDING))?;
    if !admin.sees(&pairing.mesh) {
        return Err(Problem::not_found(NOT_PENDING));
    }
    let by = app.by(admin.actor());
    let pairing = app.store.transition(id, transition, by).await.map_err(problem_or(NOT_PENDING))?;
    tracing::Span::current().record("pairing", &pairing.id).record("peer", pairing.peer.as_str());
    Ok(pairing)
}
