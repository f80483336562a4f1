//! The nodes.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use heliograph_bus::{Destination, NodeStatus, Parcel, Sent};
use heliograph_core::id::{GatewayId, Version};
use heliograph_http::Problem;
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::failure::problem;
use crate::lists::Id;

/// `GET /api/gateways`
pub(crate) async fn list(State(app): State<Shared>, admin: Administrator) -> Result<Json<Value>, Problem> {
    let mut nodes: BTreeMap<GatewayId, Node> = leases(&app).await?;
    // A node without a lease is still a node. Without the bus the leases have to do.
    for status in app.link.presence.gateways().await.unwrap_or_default() {
        let id = status.id.clone();
        nodes.entry(id).or_default().status = Some(status);
    }
    nodes.entry(app.node.id()).or_default();
    let rows: Vec<_> = nodes.iter().map(|(id, node)| describe(&app, &admin, id, node)).collect();
    Ok(Json(json!({ "gateways": rows })))
}

/// What is known of a node.
#[derive(Default)]
struct Node {
    /// How far it has acknowledged, if it holds a lease.
    lease: Option<Version>,
    /// What it says of itself.
    status: Option<NodeStatus>,
}

async fn leases(app: &App) -> Result<BTreeMap<GatewayId, Node>, Problem> {
    let leases = app.store.leases().await.map_err(problem)?;
    let node = |acknowledged| Node { lease: Some(acknowledged), status: None };
    Ok(leases.into_iter().map(|lease| (lease.gateway, node(lease.acknowledged))).collect())
}

fn describe(app: &App, admin: &Administrator, id: &GatewayId, node: &Node) -> Value {
    let is_self = *id == app.node.id();
    let current = if is_self {
        app.node.authorization_current()
    } else {
        node.lease.is_some() && !app.enforcement.stands_still(id)
    };
    let version = if is_self { Some(app.node.version()) } else { node.lease };
    let status = node.status.as_ref();
    let sessions = if is_self { Some(app.node.sessions()) } else { status.map(|status| status.sessions) };
    let draining = if is_self { Some(app.node.is_draining()) } else { status.map(|status| status.draining) };
    json!({
        "id": id.as_str(),
        "version": version.map(|version| version.0),
        "program": status.map(|status| &*status.version).filter(|version| !version.is_empty()),
        // Of all meshes together, so not for the administrator of one.
        "sessions": sessions.filter(|_| admin.is_operator()),
        "lease": if current { "current" } else { "expired" },
        "draining": draining,
        "self": is_self,
    })
}

/// `POST /api/gateways/{id}/drain`
pub(crate) async fn drain(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    set_draining(&app, &admin, &id, true).await
}

/// `DELETE /api/gateways/{id}/drain`
pub(crate) async fn cancel_drain(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
) -> Result<Json<Value>, Problem> {
    set_draining(&app, &admin, &id, false).await
}

#[tracing::instrument(skip(app, admin))]
async fn set_draining(app: &App, admin: &Administrator, id: &str, on: bool) -> Result<Json<Value>, Problem> {
    admin.require_operator()?;
    let own = app.node.id();
    let node = if id == "self" { own.clone() } else { find(app, &own, id).await? };
    tracing::info!(actor = admin.actor(), %node, on, "drain asked for");
    if node == own {
        app.node.drain(on);
    } else if app.link.bus.send(Destination::Gateway(node.clone()), Parcel::Drain { on }) != Sent::Queued {
        return Err(Problem::unavailable("bus_unavailable", "that node cannot be reached now"));
    }
    Ok(Json(json!({ "status": "ok", "id": node.as_str(), "draining": on })))
}

async fn find(app: &App, own: &GatewayId, id: &str) -> Result<GatewayId, Problem> {
    if id == own.as_str() {
        return Ok(own.clone());
    }
    let unavailable = |_| Problem::unavailable("bus_unavailable", "the other nodes cannot be reached now");
    let nodes = app.link.presence.gateways().await.map_err(unavailable)?;
    let found = nodes.into_iter().find(|node| node.id.as_str() == id);
    found.map(|node| node.id).ok_or_else(|| Problem::not_found("no live node has that id"))
}
