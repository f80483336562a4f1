//! Taking a right away, and telling when that holds everywhere.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_core::limits::MAX_LONG_POLL;
use heliograph_core::pairing::Transition;
use heliograph_http::{JsonBody, Problem};
use heliograph_store::StoreError;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::enforcement::{DEFAULT_WAIT, Report};
use crate::failure::{problem, problem_or};
use crate::lists::{Id, MeshQuery, Params};
use crate::metrics::Step;

/// The words of the original.
const NOT_APPROVED: &str = "not found or not approved";

#[derive(Default, Deserialize)]
pub(crate) struct RevokeQuery {
    mesh: Option<String>,
    wait: Option<Until>,
    timeout_ms: Option<u64>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Until {
    Enforced,
    None,
}

impl RevokeQuery {
    /// How long to wait for enforcement.
    pub(crate) fn patience(&self) -> Duration {
        self.patience_or(Until::Enforced)
    }

    /// [`Self::patience`], where waiting is not what is done without a word.
    pub(crate) fn patience_or(&self, unless_said: Until) -> Duration {
        match self.wait.unwrap_or(unless_said) {
            Until::None => Duration::ZERO,
            Until::Enforced => self.timeout_ms.map_or(DEFAULT_WAIT, Duration::from_millis).min(MAX_LONG_POLL),
        }
    }
}

/// `POST /api/pairing/{id}/revoke`; `{id}` is that of a pairing or of a peer.
#[tracing::instrument(skip_all, fields(peer, version))]
pub(crate) async fn revoke(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
    Params(query): Params<RevokeQuery>,
    JsonBody(body): JsonBody<MeshQuery>,
) -> Result<Response, Problem> {
    let named = query.mesh.as_deref().or(body.mesh.as_deref());
    let (peer, version) = take_right(&app, &admin, &id, named).await?;
    tracing::Span::current().record("peer", peer.as_str()).record("version", version.0);
    app.metrics.stepped(Step::Revoke);
    Ok(enforced(&app, &peer, version, query.patience()).await)
}

async fn take_right(
    app: &App,
    admin: &Administrator,
    id: &str,
    named: Option<&str>,
) -> Result<(PeerId, Version), Problem> {
    let mesh = admin.mesh(named)?;
    let by = app.by(admin.actor());
    match app.store.pairing(id).await {
        Ok(pairing) if admin.sees(&pairing.mesh) && (named.is_none() || pairing.mesh == mesh) => {
            let revoked = app.store.transition(id, Transition::Revoke, by).await;
            revoked.map(|pairing| (pairing.peer, pairing.version)).map_err(problem_or(NOT_APPROVED))
        }
        Ok(_) | Err(StoreError::NotFound) => {
            let peer = PeerId::parse(id).map_err(|_| Problem::not_found(NOT_APPROVED))?;
            let revoked = app.store.revoke_peer(&mesh, &peer, by).await;
            revoked.map(|version| (peer, version)).map_err(problem_or(NOT_APPROVED))
        }
        Err(error) => Err(problem(error)),
    }
}

/// Waits until the change holds everywhere, and says who has confirmed that.
pub(crate) async fn enforced(app: &App, peer: &PeerId, version: Version, patience: Duration) -> Response {
    let answer = json!({ "status": "ok", "peer_id": peer.as_str() });
    report(app, answer, version, patience).await
}

/// Waits until the change holds everywhere, and adds to `answer` who has confirmed that.
pub(crate) async fn report(app: &App, answer: Value, version: Version, patience: Duration) -> Response {
    let report = app.enforcement.wait(version, patience).await;
    respond(&report, with(answer, &report))
}

/// Waits until a right that was given holds everywhere, and adds to `answer` who has confirmed that.
pub(crate) async fn spread(app: &App, answer: Value, version: Version, patience: Duration) -> Response {
    let report = app.enforcement.follow(version, patience).await;
    respond(&report, with(answer, &report))
}

/// A change that no node keeps a view of: all of them ask the store, so it holds as soon as it is committed.
pub(crate) fn held_at_once(answer: Value, version: Version) -> Response {
    let waited = Duration::ZERO;
    let report = Report { version, enforced: true, acknowledged: vec![], expired: vec![], waited };
    respond(&report, with(answer, &report))
}

fn with(mut answer: Value, report: &Report) -> Value {
    if let (Some(answer), Value::Object(report)) = (answer.as_object_mut(), describe(report)) {
        answer.extend(report);
    }
    answer
}

/// `GET /api/pairing/changes/{version}`
pub(crate) async fn change(
    State(app): State<Shared>,
    _admin: Administrator,
    Id(version): Id,
) -> Result<Response, Problem> {
    let unknown = || Problem::not_found("there is no change of this number");
    let version = version.parse().map(Version).map_err(|_| unknown())?;
    if version == Version(0) || version > app.store.version().await.map_err(problem)? {
        return Err(unknown());
    }
    let report = app.enforcement.ask(version).await;
    Ok(respond(&report, describe(&report)))
}

fn respond(report: &Report, answer: Value) -> Response {
    let status = if report.enforced { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(answer)).into_response()
}

fn describe(report: &Report) -> Value {
    let names = |gateways: &[heliograph_core::id::GatewayId]| -> Vec<String> {
        gateways.iter().map(ToString::to_string).collect()
    };
    let mut answer = json!({
        "version": report.version.0,
        "enforced": report.enforced,
        "acknowledged": names(&report.acknowledged),
        "expired": names(&report.expired),
        "waited_ms": u64::try_from(report.waited.as_millis()).unwrap_or(u64::MAX),
    });
    if !report.enforced {
        answer["poll"] = json!(format!("/api/pairing/changes/{}", report.version));
    }
    answer
}

/// The mesh of a key or invite that the caller may not see looks as if it were not there.
pub(crate) fn visible(admin: &Administrator, mesh: &MeshName) -> Result<(), Problem> {
    if admin.sees(mesh) { Ok(()) } else { Err(problem(StoreError::NotFound)) }
}
