//! API keys.

use std::ops::RangeInclusive;

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

/// Bytes that a secret brought along may have: those of original installations are as short as `ak_dev_001`.
const SECRET_BYTES: RangeInclusive<usize> = 6..=256;
/// Longest role, in bytes.
const MAX_ROLE_BYTES: usize = 64;

#[derive(Deserialize)]
pub(crate) struct Wish {
    peer_id: String,
    role: String,
    #[serde(default)]
    name: String,
    mesh: Option<String>,
    /// A key that exists elsewhere and is to be taken over; without it one is made.
    secret: Option<String>,
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

/// `POST /api/keys`; the only time that a made key is shown. One that was brought along is not shown again, and
/// taking it over twice is no error: 201 the first time, 200 after.
#[tracing::instrument(skip_all, fields(key_id))]
pub(crate) async fn create(
    State(app): State<Shared>,
    admin: Administrator,
    JsonBody(wish): JsonBody<Wish>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let brought = wish.secret.as_deref().map(brought_along).transpose()?;
    let taken_over = brought.is_some();
    let secret = brought.unwrap_or_else(|| api_key(&mut rand::rng()));
    let new = new_key(&app, &admin, &wish, &secret)?;
    let id = new.id.clone();
    let key = app.store.create_key(new, app.by(admin.actor())).await.map_err(problem)?;
    tracing::Span::current().record("key_id", &key.id);
    let mut answer = describe(&key);
    if !taken_over {
        answer["key"] = json!(secret.expose());
    }
    Ok((if key.id == id { StatusCode::CREATED } else { StatusCode::OK }, Json(answer)))
}

fn brought_along(secret: &str) -> Result<Secret, Problem> {
    if SECRET_BYTES.contains(&secret.len()) && secret.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Secret::new(secret));
    }
    let (least, most) = SECRET_BYTES.into_inner();
    Err(Problem::bad_request(
        "bad_secret",
        format!("secret must have {least} to {most} visible ASCII characters"),
    ))
}

/// A made key has one of our two roles; one that is taken over keeps what its file says, which tokens carry and
/// nothing but `admin` gives rights.
fn role(wish: &Wish) -> Result<String, Problem> {
    let text = wish.role.as_str();
    let known = matches!(text, "agent" | "admin");
    let legible = !text.is_empty() && text.len() <= MAX_ROLE_BYTES && !text.chars().any(char::is_control);
    if known || (wish.secret.is_some() && legible) {
        return Ok(text.to_owned());
    }
    Err(Problem::bad_request("bad_role", "role must be `agent` or `admin`"))
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
        role: role(wish)?,
        name: name.to_owned(),
    })
}

/// `DELETE /api/keys/{id}`; with the last key of a peer that has no pairing goes the peer's right.
#[tracing::instrument(skip_all, fields(key_id, version))]
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
    tracing::Span::current().record("key_id", &key.id).record("version", version.0);
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
