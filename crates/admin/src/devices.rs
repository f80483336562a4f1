//! The device's side of pairing: redeeming a code, and waiting for the decision.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use heliograph_auth::assertion::PublicKeyJwk;
use heliograph_auth::secret::{
    NormalizedCode, Purpose, Secret, claim_token, device_token, normalize_code, pairing_id, peer_id,
};
use heliograph_bus::budget::Limit;
use heliograph_core::limits::{MAX_CREDENTIAL_BYTES, MAX_DISPLAY_NAME_BYTES, MAX_LONG_POLL};
use heliograph_core::pairing::PairingState;
use heliograph_http::{JsonBody, Problem, credential};
use heliograph_store::{LogEntry, Pairing, Redemption, SecretHash, StoreError};
use http::{Extensions, HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use crate::app::{App, Shared};
use crate::budgets::client_address;
use crate::failure::problem;
use crate::lists::{Id, Params};
use crate::metrics::Step;

/// Devices that may wait at once for a decision.
const MAX_WAITING: usize = 10_000;
/// Calls that may wait at once for one pairing: a device has one, and one that it has lost sight of.
const MAX_WAITING_PER_PAIRING: usize = 4;
/// Draws of ids, which are too long to collide more than once.
const DRAWS: usize = 3;
/// While waiting, the store is asked this often even if the feed says nothing.
const UNFED_LOOK: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
pub(crate) struct Request {
    code: Option<String>,
    #[serde(alias = "name")]
    agent_name: Option<String>,
    /// Left as text: untrusted JSON of any depth is not made into a `Value`.
    public_key: Option<Box<RawValue>>,
}

#[derive(Serialize)]
pub(crate) struct Redeemed {
    id: String,
    status: &'static str,
    peer_id: String,
    claim_token: String,
}

#[derive(Deserialize)]
pub(crate) struct Patience {
    /// Seconds.
    #[serde(default)]
    wait: u64,
}

#[derive(Serialize)]
pub(crate) struct Standing {
    id: String,
    status: &'static str,
    peer_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    device_token: Option<String>,
}

/// `POST /api/pairing/pair`
#[tracing::instrument(skip_all, fields(pairing, peer))]
pub(crate) async fn pair(
    State(app): State<Shared>,
    extensions: Extensions,
    JsonBody(request): JsonBody<Request>,
) -> Result<Json<Redeemed>, Problem> {
    let address = client_address(&extensions);
    app.budgets.admit(Limit::RedeemFailures, address).await?;
    let applicant = Applicant::read(request, address)?;
    let _turn = app.redemptions.acquire().await;
    // Again: while this one stood in line, others may have used the budget up.
    app.budgets.admit(Limit::RedeemFailures, address).await?;
    let (pairing, claim) = redeem(&app, &applicant).await?;
    let span = tracing::Span::current();
    span.record("pairing", &pairing.id).record("peer", pairing.peer.as_str());
    app.metrics.stepped(Step::Pair);
    Ok(Json(Redeemed {
        id: pairing.id,
        status: pairing.state.as_str(),
        peer_id: pairing.peer.to_string(),
        claim_token: claim.expose().to_owned(),
    }))
}

/// A request that is well-formed, whatever its code is worth.
struct Applicant {
    code: NormalizedCode,
    name: String,
    public_key: Option<String>,
    address: IpAddr,
}

impl Applicant {
    fn read(request: Request, address: IpAddr) -> Result<Self, Problem> {
        let code = Secret::new(request.code.unwrap_or_default());
        Ok(Self {
            code: normalize_code(code.expose())
                .map_err(|error| Problem::bad_request("malformed_code", error.to_string()))?,
            name: display_name(request.agent_name.as_deref())?,
            public_key: request.public_key.as_deref().map(public_key).transpose()?,
            address,
        })
    }
}

fn display_name(name: Option<&str>) -> Result<String, Problem> {
    let name = name.unwrap_or_default().trim();
    let bad = |detail: &str| Err(Problem::bad_request("bad_name", detail));
    if name.is_empty() {
        return bad("agent_name is required");
    }
    if name.len() > MAX_DISPLAY_NAME_BYTES {
        return bad(&format!("agent_name is longer than {MAX_DISPLAY_NAME_BYTES} bytes"));
    }
    if name.chars().any(char::is_control) {
        return bad("agent_name must not contain control characters");
    }
    Ok(name.to_owned())
}

fn public_key(jwk: &RawValue) -> Result<String, Problem> {
    PublicKeyJwk::parse(jwk.get())
        .map(|key| key.canonical())
        .map_err(|error| Problem::bad_request("bad_public_key", format!("public_key: {error}")))
}

async fn redeem(app: &App, applicant: &Applicant) -> Result<(Pairing, Secret), Problem> {
    let mut outcome = Err(StoreError::Exists);
    for _ in 0..DRAWS {
        let claim = claim_token(&mut rand::rng());
        outcome = redeem_with(app, applicant, &claim).await.map(|pairing| (pairing, claim));
        if !matches!(outcome, Err(StoreError::Exists)) {
            break;
        }
    }
    if let Err(StoreError::NotFound) = outcome {
        app.budgets.failed(Limit::RedeemFailures, applicant.address).await?;
        // The words of the original; the same for wrong, used, revoked and expired.
        return Err(Problem::unauthorized("invalid_code", "invalid or expired pairing code"));
    }
    outcome.map_err(problem)
}

async fn redeem_with(app: &App, applicant: &Applicant, claim: &Secret) -> Result<Pairing, StoreError> {
    let redemption = Redemption {
        code: app.hash(Purpose::InviteCode, applicant.code.expose()),
        id: pairing_id(&mut rand::rng()),
        peer: peer_id(&mut rand::rng()),
        name: applicant.name.clone(),
        claim: app.hash(Purpose::ClaimToken, claim.expose()),
        public_key: applicant.public_key.clone(),
        address: Some(applicant.address.to_string()),
        max_pending: app.limits.max_pending_per_mesh,
    };
    app.store.redeem(redemption, app.now()).await
}

/// `GET /api/pairing/{id}/status`
#[tracing::instrument(skip_all, fields(pairing, peer))]
pub(crate) async fn status(
    State(app): State<Shared>,
    Id(id): Id,
    Params(patience): Params<Patience>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Result<Json<Standing>, Problem> {
    let claim = claimed(&app, &headers)?;
    let address = client_address(&extensions);
    app.budgets.admit(Limit::AuthFailures, address).await?;
    // Before the first look, so that no change slips through between.
    let changes = app.feed.subscribe();
    let pairing = match app.store.pairing_of_claim(&id, &claim).await {
        Err(StoreError::NotFound) => {
            app.budgets.failed(Limit::AuthFailures, address).await?;
            return Err(Problem::not_found("no pairing has this id and claim token"));
        }
        found => found.map_err(problem)?,
    };
    tracing::Span::current().record("pairing", &pairing.id).record("peer", pairing.peer.as_str());
    let wait = Duration::from_secs(patience.wait).min(MAX_LONG_POLL);
    let pairing = decided(&app, pairing, changes, wait).await?;
    let device_token = hand_out(&app, &pairing).await.map_err(problem)?;
    Ok(Json(Standing {
        id: pairing.id,
        status: pairing.state.as_str(),
        peer_id: pairing.peer.to_string(),
        device_token: device_token.map(|token| token.expose().to_owned()),
    }))
}

fn claimed(app: &App, headers: &HeaderMap) -> Result<SecretHash, Problem> {
    let token = credential::bearer(headers).filter(|token| token.len() <= MAX_CREDENTIAL_BYTES);
    let token = token.ok_or_else(|| {
        Problem::unauthorized("unauthorized", "the claim token is needed, as Authorization: Bearer")
    })?;
    Ok(app.hash(Purpose::ClaimToken, token))
}

/// Waits for `wait` at most until somebody has decided on a pending pairing.
async fn decided(
    app: &App,
    mut pairing: Pairing,
    mut changes: broadcast::Receiver<Arc<LogEntry>>,
    wait: Duration,
) -> Result<Pairing, Problem> {
    if wait.is_zero() || pairing.state != PairingState::PendingApproval {
        return Ok(pairing);
    }
    let _place = app.waiting.enter(&pairing.id)?;
    let deadline = Instant::now() + wait;
    while pairing.state == PairingState::PendingApproval
        && Instant::now() < deadline
        && !app.node.is_draining()
    {
        tokio::select! {
            () = concerns(&mut changes, &pairing) => {}
            () = sleep_until(deadline.min(Instant::now() + UNFED_LOOK)) => {}
        }
        pairing = app.store.pairing(&pairing.id).await.map_err(problem)?;
    }
    Ok(pairing)
}

/// Waits for a change that may be about this pairing's peer.
async fn concerns(changes: &mut broadcast::Receiver<Arc<LogEntry>>, pairing: &Pairing) {
    loop {
        match changes.recv().await {
            Ok(change) if change.subject == pairing.peer.as_str() && change.mesh == pairing.mesh.as_str() => {
                return;
            }
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// The device token of an approved pairing, for whoever asks first.
pub(crate) async fn hand_out(app: &App, pairing: &Pairing) -> Result<Option<Secret>, StoreError> {
    if pairing.state != PairingState::Approved || pairing.token_issued {
        return Ok(None);
    }
    let token = device_token(&mut rand::rng());
    let hash = app.hash(Purpose::DeviceToken, token.expose());
    match app.store.issue_device_token(&pairing.id, hash, app.now()).await {
        Ok(first) => Ok(first.then_some(token)),
        // Revoked a moment ago.
        Err(StoreError::Conflict(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which pairings have a device waiting on this node.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<String, usize>>);

/// A place among those who wait; given back when dropped.
pub(crate) struct Place<'a> {
    waiting: &'a Waiting,
    pairing: String,
}

impl Waiting {
    fn enter(&self, pairing: &str) -> Result<Place<'_>, Problem> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= MAX_WAITING {
            return Err(Problem::unavailable("too_many_waiting", "too many devices wait, try again later")
                .retry_after(UNFED_LOOK.as_secs()));
        }
        let count = waiting.entry(pairing.to_owned()).or_default();
        if *count >= MAX_WAITING_PER_PAIRING {
            return Err(Problem::too_many("waiting", UNFED_LOOK.as_secs()));
        }
        *count += 1;
        Ok(Place { waiting: self, pairing: pairing.to_owned() })
    }

    /// Whether the device of this pairing waits at this moment.
    pub(crate) fn has(&self, pairing: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(pairing)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = waiting.get_mut(&self.pairing) else { return };
        *count -= 1;
        if *count == 0 {
            waiting.remove(&self.pairing);
        }
    }
}
