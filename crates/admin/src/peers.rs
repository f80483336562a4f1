//! Peers, and where their sessions are.

use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt, stream};
use heliograph_core::id::PeerId;
use heliograph_http::Problem;
use heliograph_store::PeerRecord;
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::decisions::fingerprint;
use crate::failure::{list_problem, problem_or};
use crate::lists::{Id, ListQuery, MeshQuery, Params, seconds};

/// Look-ups of sessions that one list has under way at once.
const LOOKUPS: usize = 16;

/// `GET /api/peers`
pub(crate) async fn list(
    State(app): State<Shared>,
    admin: Administrator,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let mesh = admin.scope(query.mesh.as_deref())?;
    let peers = app.store.peers(mesh.as_ref(), query.page()).await.map_err(list_problem)?;
    let (app, next) = (&*app, peers.next);
    let rows: Vec<_> =
        stream::iter(peers.rows).map(|peer| describe(app, peer)).buffered(LOOKUPS).collect().await;
    Ok(Json(json!({ "peers": rows, "next_cursor": next })))
}

/// `GET /api/peers/{id}`
pub(crate) async fn show(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
    Params(query): Params<MeshQuery>,
) -> Result<Json<Value>, Problem> {
    let not_found = "no peer has this id";
    let mesh = admin.mesh(query.mesh.as_deref())?;
    let peer = PeerId::parse(&id).map_err(|_| Problem::not_found(not_found))?;
    let peer = app.store.peer(&mesh, &peer).await.map_err(problem_or(not_found))?;
    Ok(Json(describe(&app, peer).await))
}

async fn describe(app: &App, peer: PeerRecord) -> Value {
    let sessions = sessions(app, &peer).await;
    let mut row = json!({
        "peer_id": peer.peer.as_str(),
        "mesh": peer.mesh.as_str(),
        "name": peer.name,
        "status": peer.state.as_str(),
        "role": peer.role,
        "origin": peer.origin.as_str(),
        "version": peer.version.0,
        "created_at": seconds(peer.created_at),
        "updated_at": seconds(peer.updated_at),
        "sessions": sessions,
    });
    if let Some(pairing) = peer.pairing {
        row["pairing_id"] = json!(pairing);
    }
    if let Some(print) = peer.public_key.as_deref().and_then(fingerprint) {
        row["key_fingerprint"] = json!(print);
    }
    row
}

/// The peer's live session; null when the bus cannot tell.
async fn sessions(app: &App, peer: &PeerRecord) -> Value {
    match app.link.presence.locate(&peer.mesh.clone().into(), &peer.peer).await {
        Ok(session) => session
            .into_iter()
            .map(|at| {
                json!({
                    "gateway": at.gateway.as_str(),
                    "epoch": at.epoch.0,
                    "placed": at.placed,
                    "dialect": at.visit.dialect,
                    "since": at.visit.since_unix_ms as f64 / 1_000.0,
                })
            })
            .collect(),
        Err(_) => Value::Null,
    }
}
