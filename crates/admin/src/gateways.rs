//! The nodes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use heliograph_core::id::{GatewayId, Version};
use heliograph_http::Problem;
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::failure::problem;
use crate::lists::Id;

/// `GET /api/gateways`
pub(crate) async fn list(State(app): State<Shared>, admin: Administrator) -> Result<Json<Value>, Problem> {
    let mut nodes = leases(&app).await?;
    // A node without a lease is still a node. Without the bus the leases have to do.
    for gateway in app.link.presence.gateways().await.unwrap_or_default() {
        nodes.entry(gateway).or_default();
    }
    nodes.entry(app.node.id()).or_default();
    let rows: Vec<_> = nodes.iter().map(|(id, lease)| describe(&app, &admin, id, *lease)).collect();
    Ok(Json(json!({ "gateways": rows })))
}

/// How far each holder of a lease has acknowledged.
async fn leases(app: &App) -> Result<BTreeMap<GatewayId, Option<Version>>, Problem> {
    let leases = app.store.leases().await.map_err(problem)?;
    Ok(leases.into_iter().map(|lease| (lease.gateway, Some(lease.acknowledged))).collect())
}

fn describe(app: &App, admin: &Administrator, id: &GatewayId, lease: Option<Version>) -> Value {
    let is_self = *id == app.node.id();
    let current = if is_self {
        app.node.authorization_current()
    } else {
        lease.is_some() && !app.enforcement.stands_still(id)
    };
    let version = if is_self { Some(app.node.version()) } else { lease };
    json!({
        "id": id.as_str(),
        "version": version.map(|version| version.0),
        // Of all meshes together, so not for the administrator of one.
        "sessions": (is_self && admin.is_operator()).then(|| app.node.sessions()),
        "lease": if current { "current" } else { "expired" },
        "draining": is_self.then(|| app.node.is_draining()),
        "self": is_self,
    })
}

/// `POST /api/gateways/{id}/drain`
#[tracing::instrument(skip_all)]
pub(crate) async fn drain(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    admin.require_operator()?;
    let own = app.node.id();
    if id != "self" && id != own.as_str() {
        let detail = "a node drains itself only: ask that node, with the id self";
        return Err(Problem::not_found(detail));
    }
    tracing::info!(actor = admin.actor(), "drain asked for");
    app.node.drain();
    Ok(Json(json!({ "status": "ok", "id": own.as_str(), "draining": true })))
}
