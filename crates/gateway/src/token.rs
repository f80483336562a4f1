//! `POST /api/token`: a credential for a session token. `GET /api/config`: ICE servers. And the public keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use heliograph_auth::assertion::{
    AssertionClaims, MAX_ASSERTION_SECONDS, PublicKeyJwk, claimed_subject, verify_assertion,
};
use heliograph_auth::secret::Purpose;
use heliograph_auth::token::{Grant, TOKEN_LIFE_SECONDS};
use heliograph_bus::budget::{Limit, Scope};
use heliograph_core::authority::Denial;
use heliograph_core::id::{MeshName, PeerId};
use heliograph_core::limits;
use heliograph_core::message::IceServer;
use heliograph_core::pairing::PairingState;
use heliograph_core::rate::Rate;
use heliograph_http::credential::{bearer, header};
use heliograph_http::{ClientAddress, Problem};
use heliograph_store::StoreError;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::gateway::{Gateway, unix_seconds};

/// Most assertions that are remembered against replay.
const MAX_SEEN: usize = 100_000;
/// For how long all nodes remember one, in seconds: longer than any is good.
#[expect(clippy::cast_possible_truncation, reason = "some minutes")]
const ASSERTION_MEMORY_SECONDS: u32 = (MAX_ASSERTION_SECONDS + 4 * limits::TOKEN_LEEWAY_SECONDS) as u32;

/// The gateway's HTTP calls, and its socket.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/ws", get(crate::upgrade::mesh))
        .route("/room/{room}/websocket", get(crate::upgrade::rendezvous))
        .route("/primus", get(crate::upgrade::rtc_signaller))
        .route("/signaller/", get(crate::upgrade::rtc_signaller))
        .route("/signaller/primus", get(crate::upgrade::rtc_signaller))
        .route("/api/token", post(exchange))
        .route("/api/config", get(config))
        .route("/.well-known/jwks.json", get(jwks))
        .with_state(gateway)
}

/// Who a credential stands for.
struct Identity {
    mesh: MeshName,
    peer: PeerId,
    role: String,
}

/// What kind of credential it was, for metrics.
type Via = &'static str;

#[tracing::instrument(name = "token_exchange", skip_all)]
async fn exchange(
    State(gateway): State<Arc<Gateway>>,
    Extension(ClientAddress(address)): Extension<ClientAddress>,
    headers: HeaderMap,
) -> Response {
    let rate = Rate::per_minute(gateway.config.limits.auth_failures_per_address);
    let scope = Scope::of(address);
    if !gateway.link.budget.has(Limit::AuthFailures, scope, rate).await {
        gateway.metrics.limited(Limit::AuthFailures.as_str());
        return Problem::too_many("failed authentications", rate.interval().as_secs().max(1)).into_response();
    }
    let (via, result) = identify(&gateway, &headers).await;
    let outcome = match &result {
        Ok(_) => "issued",
        Err(problem) if problem.status().is_client_error() => {
            gateway.link.budget.take(Limit::AuthFailures, scope, rate).await;
            "refused"
        }
        Err(_) => "unavailable",
    };
    gateway.metrics.token_exchanges.with_label_values(&[via, outcome]).inc();
    match result.and_then(|identity| issue(&gateway, &identity)) {
        Ok(answer) => ([(http::header::CACHE_CONTROL, "no-store")], Json(answer)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

fn issue(gateway: &Gateway, identity: &Identity) -> Result<Value, Problem> {
    let grant = Grant {
        peer: &identity.peer,
        role: &identity.role,
        mesh: &identity.mesh,
        version: gateway.version(),
    };
    let token = gateway.tokens.issue(&grant, unix_seconds(), &mut rand::rng()).map_err(|error| {
        tracing::error!(%error, "a token could not be signed");
        Problem::unavailable("signing_failed", "tokens cannot be issued now")
    })?;
    Ok(json!({
        "token": token.expose(),
        "peer_id": identity.peer.as_str(),
        "role": identity.role,
        "mesh": identity.mesh.as_str(),
        "expires_in": TOKEN_LIFE_SECONDS,
    }))
}

/// The first credential that is good counts: an unknown key does not hurt if a valid device token is also there.
async fn identify(gateway: &Gateway, headers: &HeaderMap) -> (Via, Result<Identity, Problem>) {
    let mut tried: (Via, Result<Identity, Problem>) = ("none", Err(no_credential()));
    if let Some(key) = header(headers, "x-api-key") {
        tried = ("api_key", by_api_key(gateway, key).await);
    }
    if tried.1.is_err()
        && let Some(token) = header(headers, "x-device-token")
    {
        tried = ("device_token", by_device_token(gateway, token).await);
    }
    if tried.1.is_err()
        && let Some(jwt) = header(headers, "x-device-assertion")
    {
        tried = ("assertion", by_assertion(gateway, jwt).await);
    }
    if tried.1.is_err()
        && let (Some(id), Some(claim)) = (header(headers, "x-pairing-id"), header(headers, "x-claim-token"))
    {
        tried = ("claim_token", by_claim_token(gateway, id, claim).await);
    }
    tried
}

fn no_credential() -> Problem {
    Problem::unauthorized("no_credential", "send an API key (x-api-key) or a device token (x-device-token)")
}

/// One answer for unknown, revoked and not approved.
fn refused() -> Problem {
    Problem::unauthorized("invalid_credential", "the credential is not valid")
}

fn lookup_failed(error: &StoreError) -> Problem {
    if matches!(error, StoreError::NotFound) {
        return refused();
    }
    tracing::warn!(%error, "a credential could not be looked up");
    Problem::unavailable("storage_unavailable", "credentials cannot be checked now")
}

async fn by_api_key(gateway: &Gateway, key: &str) -> Result<Identity, Problem> {
    let hash = gateway.hasher.hash(Purpose::ApiKey, bounded(key)?);
    let key = gateway.store.key_of_secret(&hash).await.map_err(|error| lookup_failed(&error))?;
    let peer = gateway.peer(&key.mesh, &key.peer).await?;
    if !peer.right.standing().may_connect() {
        return Err(refused());
    }
    Ok(Identity { mesh: key.mesh, peer: key.peer, role: key.role })
}

async fn by_device_token(gateway: &Gateway, token: &str) -> Result<Identity, Problem> {
    gateway.may_read_rights()?;
    let hash = gateway.hasher.hash(Purpose::DeviceToken, bounded(token)?);
    let record = gateway.store.peer_of_device_token(&hash).await.map_err(|error| lookup_failed(&error))?;
    if record.state != PairingState::Approved {
        return Err(refused());
    }
    gateway.remember(&record);
    Ok(Identity { mesh: record.mesh, peer: record.peer, role: record.role })
}

/// A device that waits for its approval may hold a socket: it sees nobody, and hears of its approval at once.
async fn by_claim_token(gateway: &Gateway, id: &str, claim: &str) -> Result<Identity, Problem> {
    let hash = gateway.hasher.hash(Purpose::ClaimToken, bounded(claim)?);
    let pairing = gateway.store.pairing_of_claim(id, &hash).await.map_err(|error| lookup_failed(&error))?;
    if !matches!(pairing.state, PairingState::PendingApproval | PairingState::Approved) {
        return Err(refused());
    }
    Ok(Identity { mesh: pairing.mesh, peer: pairing.peer, role: "agent".to_owned() })
}

/// A device that enrolled with a public key proves that it has the private half.
async fn by_assertion(gateway: &Gateway, jwt: &str) -> Result<Identity, Problem> {
    let now = unix_seconds();
    let claimed = claimed_subject(bounded(jwt)?).map_err(|_| refused())?;
    let record =
        gateway.store.peer(&claimed.mesh, &claimed.peer).await.map_err(|error| lookup_failed(&error))?;
    let key =
        record.public_key.as_deref().and_then(|jwk| PublicKeyJwk::parse(jwk).ok()).ok_or_else(refused)?;
    let claims = verify_assertion(jwt, &key, now).map_err(|_| refused())?;
    let fresh = gateway.assertions.is_new(&claims.peer, &claims.id, claims.expires_at, now);
    if !fresh || !is_new_elsewhere(gateway, &claims).await || record.state != PairingState::Approved {
        return Err(refused());
    }
    Ok(Identity { mesh: record.mesh, peer: record.peer, role: record.role })
}

/// Whether no other node has seen the assertion. While the nodes cannot ask each other, each judges for itself.
async fn is_new_elsewhere(gateway: &Gateway, claims: &AssertionClaims) -> bool {
    let hash = gateway.hasher.hash(Purpose::Assertion, &format!("{}\n{}", claims.peer, claims.id));
    let (short, _) = hash.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    let thing = Scope::Thing(u128::from_be_bytes(*short));
    gateway.link.budget.take(Limit::Assertions, thing, Rate::once_in(ASSERTION_MEMORY_SECONDS)).await
}

fn bounded(credential: &str) -> Result<&str, Problem> {
    if credential.len() > limits::MAX_CREDENTIAL_BYTES {
        return Err(Problem::unauthorized(
            "invalid_credential",
            "the credential is too long to be one of ours",
        ));
    }
    Ok(credential)
}

async fn config(State(gateway): State<Arc<Gateway>>, headers: HeaderMap) -> Response {
    let peer = match config_peer(&gateway, &headers).await {
        Ok(peer) => peer,
        Err(problem) => return problem.into_response(),
    };
    let servers = gateway.config.ice.servers_for(peer.as_ref(), unix_seconds());
    let entries: Vec<Value> = servers.iter().map(ice_entry).collect();
    ([(http::header::CACHE_CONTROL, "no-store")], Json(json!({ "iceServers": entries }))).into_response()
}

/// The authorized peer that asks, if anybody does; a credential that is not good is an error, not a stranger.
async fn config_peer(gateway: &Gateway, headers: &HeaderMap) -> Result<Option<PeerId>, Problem> {
    let peer = match bearer(headers) {
        Some(token) => crate::upgrade::authenticate(gateway, token).await?,
        None => match identify(gateway, headers).await {
            ("none", _) => return Ok(None),
            (_, identity) => {
                let Identity { mesh, peer, .. } = identity?;
                gateway.peer(&mesh, &peer).await?
            }
        },
    };
    // Good credentials are not enough: a device that waits for its approval has some.
    match gateway.authority.may_send(&peer.right, std::time::Instant::now()) {
        Ok(()) => Ok(Some(peer.id.clone())),
        Err(Denial::NoLease) => Err(Problem::unavailable(
            "authorization_unavailable",
            "this node cannot prove that its view of the pairing state is current",
        )),
        Err(_) => Ok(None),
    }
}

fn ice_entry(server: &IceServer) -> Value {
    let mut entry = json!({ "urls": server.urls });
    if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
        entry["username"] = json!(username);
        entry["credential"] = json!(credential);
    }
    entry
}

async fn jwks(State(gateway): State<Arc<Gateway>>) -> Json<Value> {
    Json(gateway.tokens.jwks())
}

/// Ids of assertions that were used, until they expire by themselves.
#[derive(Debug, Default)]
pub(crate) struct SeenAssertions(Mutex<HashMap<(PeerId, String), u64>>);

impl SeenAssertions {
    /// Whether this id is used for the first time. A full memory answers no: an assertion that could be a replay
    /// is not accepted.
    fn is_new(&self, peer: &PeerId, id: &str, expires_at: u64, now: u64) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MAX_SEEN {
            seen.retain(|_, &mut until| until >= now);
        }
        let until = expires_at + limits::TOKEN_LEEWAY_SECONDS;
        seen.len() < MAX_SEEN && seen.insert((peer.clone(), id.to_owned()), until).is_none()
    }

    pub(crate) fn tidy(&self, now: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, &mut until| until >= now);
    }
}
