//! For orchestrators and Prometheus. Liveness depends on nothing; readiness on all that relaying needs.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use heliograph_http::Problem;
use http::{StatusCode, header};
use prometheus::TextEncoder;
use serde_json::json;
use tokio::time::timeout;

use crate::app::{App, Shared};

/// Shorter than the time-out of any prober.
const PING_DEADLINE: Duration = Duration::from_millis(800);

/// `GET /livez`
pub(crate) async fn live() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(crate) async fn ready(State(app): State<Shared>) -> Response {
    let checks = [
        ("storage", storage(&app).await),
        ("authorization", app.node.authorization_current()),
        ("bus", app.node.bus_up()),
        ("not_draining", !app.node.is_draining()),
    ];
    let ready = checks.iter().all(|(_, passed)| *passed);
    let mut answer = json!({ "status": if ready { "ready" } else { "not_ready" }, "checks": {} });
    for (check, passed) in checks {
        answer["checks"][check] = json!(if passed { "ok" } else { "failed" });
    }
    (status(ready), Json(answer)).into_response()
}

async fn storage(app: &App) -> bool {
    matches!(timeout(PING_DEADLINE, app.store.ping()).await, Ok(Ok(())))
}

/// `GET /startupz`
pub(crate) async fn started(State(app): State<Shared>) -> Response {
    let started = app.has_started();
    let answer = json!({ "status": if started { "started" } else { "starting" } });
    (status(started), Json(answer)).into_response()
}

fn status(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(app): State<Shared>) -> Result<Response, Problem> {
    let text = TextEncoder::new().encode_to_string(&app.registry.gather()).map_err(|error| {
        tracing::error!(%error, "metrics cannot be written");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the metrics cannot be written")
    })?;
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
