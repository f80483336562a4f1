//! API keys.

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use heliograph_auth::secret::{Purpose, Secret, api_key, api_key_id};
use heliograph_core::id::PeerId;
use heliograph_core::limits::MAX_DISPLAY_NAME_BYTES;
use heliograph_http::{JsonBody, Problem};
use heliograph_store::{ApiKey, NewKey};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::failure::{list_problem, problem, problem_or};
use crate::lists::{Id, ListQuery, Params, seconds};
use crate::revocation::{RevokeQuery, enforced, visible};

#[derive(Deserialize)]
pub(crate) struct Wish {
    peer_id: String,
    role: Role,
    #[serde(default)]
    name: String,
    mesh: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Agent,
    Admin,
}

impl Role {
    fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Admin => "admin",
        }
    }
}

/// `GET /api/keys`
pub(crate) async fn list(
    State(app): State<Shared>,
    admin: Administrator,
    Params(query): Params<ListQuery>,
) -> Result<Json<Value>, Problem> {
    let mesh = admin.scope(query.mesh.as_deref())?;
    let keys = app.store.keys(mesh.as_ref(), query.page()).await.map_err(list_problem)?;
    let rows: Vec<_> = keys.rows.iter().map(describe).collect();
    Ok(Json(json!({ "keys": rows, "next_cursor": keys.next })))
}

/// `POST /api/keys`; the only time that the key is shown.
#[tracing::instrument(skip_all, fields(key))]
pub(crate) async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    JsonBody(wish): JsonBody<Wish>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let secret = api_key(&mut rand::rng());
    let key = new_key(&app, &admin, &wish, &secret)?;
    let key = app.store.create_key(key, app.by(admin.actor())).await.map_err(problem)?;
    tracing::Span::current().record("key", &key.id);
    let mut answer = describe(&key);
    answer["key"] = json!(secret.expose());
    Ok((StatusCode::CREATED, Json(answer)))
}

fn new_key(app: &App, admin: &Administrator, wish: &Wish, secret: &Secret) -> Result<NewKey, Problem> {
    let name = wish.name.trim();
    if name.len() > MAX_DISPLAY_NAME_BYTES || name.chars().any(char::is_control) {
        let detail =
            format!("name must have at most {MAX_DISPLAY_NAME_BYTES} bytes and no control characters");
        return Err(Problem::bad_request("bad_name", detail));
    }
    Ok(NewKey {
        id: api_key_id(&mut rand::rng()),
        secret: app.hash(Purpose::ApiKey, secret.expose()),
        mesh: admin.mesh(wish.mesh.as_deref())?,
        peer: PeerId::parse(&wish.peer_id)
            .map_err(|error| Problem::bad_request("bad_peer_id", format!("peer_id {error}")))?,
        role: wish.role.as_str().to_owned(),
        name: name.to_owned(),
    })
}

/// `DELETE /api/keys/{id}`; with the last key of a peer that has no pairing goes the peer's right.
#[tracing::instrument(skip_all, fields(key, version))]
pub(crate) async fn revoke(
    State(app): State<Shared>,
    admin: Administrator,
    Id(id): Id,
    Params(query): Params<RevokeQuery>,
) -> Result<Response, Problem> {
    let not_found = problem_or("no live key has this id");
    let key = app.store.key(&id).await.map_err(&not_found)?;
    visible(&admin, &key.mesh)?;
    let version = app.store.revoke_key(&id, app.by(admin.actor())).await.map_err(&not_found)?;
    tracing::Span::current().record("key", &key.id).record("version", version.0);
    Ok(enforced(&app, &key.peer, version, query.patience()).await)
}

fn describe(key: &ApiKey) -> Value {
    json!({
        "id": key.id,
        "peer_id": key.peer.as_str(),
        "mesh": key.mesh.as_str(),
        "role": key.role,
        "name": key.name,
        "created_at": seconds(key.created_at),
        "revoked_at": key.revoked_at.map(seconds),
    })
}
