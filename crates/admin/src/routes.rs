//! Which path leads where.

use axum::Router;
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::{delete, get, post};
use heliograph_http::Problem;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::app::{Admin, Shared};
use crate::{
    Mode, audit, codes, decisions, devices, events, gateways, groups, invites, keys, ops, pages, peers,
    revocation,
};

/// What devices call, and whoever invites them.
pub fn public_router(admin: &Admin) -> Router {
    let routes = Router::new()
        .route("/api/pairing/generate-code", post(codes::generate))
        .route("/api/pairing/pair", post(devices::pair))
        .route("/api/pairing/{id}/status", get(devices::status));
    api(routes, admin)
}

/// What takes an admin key.
pub fn admin_router(admin: &Admin) -> Router {
    let routes = Router::new()
        .route("/api/pairing/pending", get(decisions::pending))
        .route("/api/pairing/all", get(decisions::all))
        .route("/api/pairing/{id}/approve", post(decisions::approve))
        .route("/api/pairing/{id}/reject", post(decisions::reject))
        .route("/api/pairing/{id}/revoke", post(revocation::revoke))
        .route("/api/pairing/changes/{version}", get(revocation::change))
        .route("/api/invites", get(invites::list))
        .route("/api/invites/{id}", delete(invites::revoke))
        .route("/api/meshes/{mesh}/revoke", post(groups::revoke_mesh))
        .route("/api/peers", get(peers::list))
        .route("/api/peers/{id}", get(peers::show))
        .route("/api/keys", get(keys::list).post(keys::create))
        .route("/api/keys/{id}", delete(keys::revoke))
        .route("/api/audit", get(audit::list))
        .route("/api/audit/verify", get(audit::verify))
        .route("/api/gateways", get(gateways::list))
        .route("/api/gateways/{id}/drain", post(gateways::drain).delete(gateways::cancel_drain))
        .route("/api/events", get(events::stream));
    api(routes, admin)
}

/// The pages and what they load; with `/`.
pub fn pages_router(mode: Mode) -> Router {
    assets_router(mode)
        .route("/", get(move |headers: HeaderMap| async move { pages::root_page(mode, &headers) }))
}

/// The pages without `/`, for servers where `/` is shared with a socket (see [`crate::root_page`]).
pub fn assets_router(mode: Mode) -> Router {
    let demonstration = match mode {
        Mode::Dev => Router::new().route("/rooms", get(pages::rooms)),
        Mode::Serve => Router::new(),
    };
    demonstration
        .route("/console", get(pages::console))
        .route("/client.js", get(pages::client))
        .route("/client.d.ts", get(pages::client_types))
        .route("/assets/{name}", get(pages::asset))
        .route("/openapi.json", get(pages::openapi))
        .route("/asyncapi.json", get(pages::asyncapi))
}

/// For the ops listener, and nothing else is on it.
pub fn ops_router(admin: &Admin) -> Router {
    Router::new()
        .route("/livez", get(ops::live))
        .route("/readyz", get(ops::ready))
        .route("/startupz", get(ops::started))
        .route("/metrics", get(ops::metrics))
        .with_state(admin.0.clone())
}

fn api(routes: Router<Shared>, admin: &Admin) -> Router {
    routes
        .method_not_allowed_fallback(async || {
            let detail = "this path does not take this method";
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
        })
        .layer(map_response(protect))
        .with_state(admin.0.clone())
}

/// Answers hold secrets and states: nobody may keep them.
async fn protect(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
