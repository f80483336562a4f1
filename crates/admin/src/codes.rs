//! New invite codes.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use heliograph_auth::secret::{CodeFormat, NormalizedCode, Purpose, invite_id};
use heliograph_core::id::MeshName;
use heliograph_core::limits::{INVITE_TTL, MAX_INVITE_USES};
use heliograph_http::{JsonBody, Problem};
use heliograph_store::{Invite, NewInvite, StoreError};
use qrcode::QrCode;
use qrcode::render::svg;
use serde::{Deserialize, Serialize};

use crate::app::{App, Shared};
use crate::caller::Caller;
use crate::failure;

const DEFAULT_TTL: Duration = Duration::from_mins(10);
/// Six digits are found by trying: at the global budget of failures, a sixth of a percent of them in this time.
const DIGITS_MAX_TTL: Duration = Duration::from_mins(15);
/// Six digits collide now and then; so many draws in vain mean that something else is wrong.
const DRAWS: usize = 8;
const QR_SIDE: u32 = 240;

#[derive(Deserialize)]
pub(crate) struct Wish {
    ttl_seconds: Option<u64>,
    uses: Option<u32>,
    #[serde(default)]
    format: CodeFormat,
    #[serde(default)]
    qr: bool,
    mesh: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct Made {
    id: String,
    code: String,
    expires_in: u64,
    mesh: String,
    uses: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    qr_svg: Option<String>,
}

/// What was wished for, within its bounds.
struct Terms {
    mesh: MeshName,
    ttl: Duration,
    uses: u32,
    format: CodeFormat,
}

/// `POST /api/pairing/generate-code`
#[tracing::instrument(skip_all, fields(invite))]
pub(crate) async fn generate(
    State(app): State<Shared>,
    caller: Caller,
    JsonBody(wish): JsonBody<Wish>,
) -> Result<Json<Made>, Problem> {
    let terms = Terms::of(&wish, &caller)?;
    let (invite, code) = create(&app, &caller, &terms).await.map_err(failure::problem)?;
    tracing::Span::current().record("invite", &invite.id);
    let code = code.shown().expose().to_owned();
    Ok(Json(Made {
        id: invite.id,
        qr_svg: if wish.qr { qr_svg(&code) } else { None },
        code,
        expires_in: terms.ttl.as_secs(),
        mesh: terms.mesh.to_string(),
        uses: terms.uses,
    }))
}

impl Terms {
    fn of(wish: &Wish, caller: &Caller) -> Result<Self, Problem> {
        let ttl = wish.ttl_seconds.map_or(DEFAULT_TTL, Duration::from_secs);
        let uses = wish.uses.unwrap_or(1);
        let longest = if wish.format == CodeFormat::Digits { DIGITS_MAX_TTL } else { *INVITE_TTL.end() };
        if !(*INVITE_TTL.start()..=longest).contains(&ttl) {
            let (least, most) = (INVITE_TTL.start().as_secs(), longest.as_secs());
            let detail = format!("ttl_seconds must be {least} to {most} for a code of this format");
            return Err(Problem::bad_request("bad_ttl", detail));
        }
        if !(1..=MAX_INVITE_USES).contains(&uses) {
            return Err(Problem::bad_request("bad_uses", format!("uses must be 1 to {MAX_INVITE_USES}")));
        }
        Ok(Self { mesh: caller.mesh(wish.mesh.as_deref())?, ttl, uses, format: wish.format })
    }
}

async fn create(app: &App, caller: &Caller, terms: &Terms) -> Result<(Invite, NormalizedCode), StoreError> {
    let mut outcome = Err(StoreError::Exists);
    for _ in 0..DRAWS {
        let code = NormalizedCode::generate(terms.format, &mut rand::rng());
        outcome = create_with(app, caller, terms, &code).await.map(|invite| (invite, code));
        if !matches!(outcome, Err(StoreError::Exists)) {
            break;
        }
    }
    outcome
}

async fn create_with(
    app: &App,
    caller: &Caller,
    terms: &Terms,
    code: &NormalizedCode,
) -> Result<Invite, StoreError> {
    let by = app.by(caller.actor());
    let ttl = i64::try_from(terms.ttl.as_millis()).unwrap_or(i64::MAX);
    let invite = NewInvite {
        id: invite_id(&mut rand::rng()),
        mesh: terms.mesh.clone(),
        code: app.hash(Purpose::InviteCode, code.expose()),
        uses: terms.uses,
        expires_at: by.now.saturating_add(ttl),
        max_open: app.limits.max_open_invites_per_mesh,
    };
    app.store.create_invite(invite, by).await
}

/// The code as a picture; ten characters always fit.
fn qr_svg(code: &str) -> Option<String> {
    let qr = QrCode::new(code).ok()?;
    Some(qr.render::<svg::Color<'_>>().min_dimensions(QR_SIDE, QR_SIDE).build())
}
