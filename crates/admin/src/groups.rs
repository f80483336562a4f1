//! Rights that are taken away together: those of all who came by an invite, and those of a whole mesh.
//!
//! A large group goes in several transactions, and the answer is about the last one: at its version nobody of the group
//! has a right any more. If one of them fails the answer is an error, and to ask again goes on where it stopped.

use axum::extract::State;
use axum::response::Response;
use heliograph_core::id::{MeshName, PeerId, Version};
use heliograph_http::Problem;
use heliograph_store::{Group, Page};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::{App, Shared};
use crate::caller::Administrator;
use crate::failure::{list_problem, problem, problem_or};
use crate::lists::{Id, Params};
use crate::metrics::Step;
use crate::revocation::{RevokeQuery, report};

/// Transactions of one request at most. With the size of one it is far more than a mesh should have.
const MAX_STEPS: usize = 1_000;
/// Peers that an answer names at most; all are counted.
const MAX_NAMED: usize = 100;

#[derive(Default, Deserialize)]
pub(crate) struct EnrolledQuery {
    #[serde(default)]
    pub(crate) enrolled: Enrolled,
}

/// What becomes of those who came by an invite that is taken back.
#[derive(Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Enrolled {
    #[default]
    Keep,
    Revoke,
}

/// What was taken away, over all steps.
#[derive(Default)]
struct Taken {
    version: Version,
    invites: u64,
    keys: u64,
    revoked: Names,
    rejected: Names,
}

/// The first few of many.
#[derive(Default)]
struct Names {
    first: Vec<PeerId>,
    count: u64,
}

impl Names {
    fn add(&mut self, peers: Vec<PeerId>) {
        self.count += peers.len() as u64;
        let room = MAX_NAMED.saturating_sub(self.first.len());
        self.first.extend(peers.into_iter().take(room));
    }

    fn shown(&self) -> Vec<&str> {
        self.first.iter().map(PeerId::as_str).collect()
    }
}

impl Taken {
    fn describe(&self) -> Value {
        json!({
            "status": "ok",
            "revoked": self.revoked.shown(),
            "rejected": self.rejected.shown(),
            "counts": {
                "revoked": self.revoked.count,
                "rejected": self.rejected.count,
                "keys": self.keys,
                "invites": self.invites,
            },
        })
    }
}

/// `DELETE /api/invites/{id}?enrolled=revoke`
pub(crate) async fn revoke_enrolled(
    app: &App,
    admin: &Administrator,
    id: &str,
    query: &RevokeQuery,
) -> Result<Response, Problem> {
    let mesh = admin.scope(None)?;
    let taken = take_all(app, admin, Group::Enrolled { invite: id, mesh: mesh.as_ref() }).await?;
    let mut answer = taken.describe();
    answer["id"] = json!(id);
    Ok(report(app, answer, taken.version, query.patience()).await)
}

/// `POST /api/meshes/{mesh}/revoke`; the peer of the key that asks keeps its right.
#[tracing::instrument(skip_all, fields(version))]
pub(crate) async fn revoke_mesh(
    State(app): State<Shared>,
    admin: Administrator,
    Id(mesh): Id,
    Params(query): Params<RevokeQuery>,
) -> Result<Response, Problem> {
    let mesh = admin.mesh(Some(&mesh))?;
    admin.require_operator()?;
    ensure_known(&app, &mesh).await?;
    let spared = admin.peer_in(&mesh);
    let taken = take_all(&app, &admin, Group::Mesh { mesh: &mesh, spared }).await?;
    tracing::Span::current().record("version", taken.version.0);
    let mut answer = taken.describe();
    answer["mesh"] = json!(mesh.as_str());
    answer["kept"] = json!(spared.map(PeerId::as_str));
    Ok(report(&app, answer, taken.version, query.patience()).await)
}

/// A mesh is what has peers or invites. Whoever mistypes its name must not believe that it is revoked.
async fn ensure_known(app: &App, mesh: &MeshName) -> Result<(), Problem> {
    let one = || Page { cursor: None, limit: 1 };
    let peers = app.store.peers(Some(mesh), one()).await.map_err(list_problem)?;
    let invites = app.store.invites(Some(mesh), one()).await.map_err(list_problem)?;
    if peers.rows.is_empty() && invites.rows.is_empty() {
        return Err(Problem::not_found("no mesh of this name has a peer or an invite"));
    }
    Ok(())
}

async fn take_all(app: &App, admin: &Administrator, group: Group<'_>) -> Result<Taken, Problem> {
    let mut taken = Taken::default();
    for _ in 0..MAX_STEPS {
        let step = app.store.revoke_group(group, app.by(admin.actor())).await;
        let step = step.map_err(problem_or("no invite has this id"))?;
        app.metrics.stepped_by(Step::Revoke, step.revoked.len());
        app.metrics.stepped_by(Step::Reject, step.rejected.len());
        taken.version = step.version;
        taken.invites += step.invites.len() as u64;
        taken.keys += step.keys;
        taken.revoked.add(step.revoked);
        taken.rejected.add(step.rejected);
        if !step.more {
            return Ok(taken);
        }
    }
    Err(problem(heliograph_store::StoreError::Unavailable(
        "a group grows faster than it is revoked".to_owned(),
    )))
}
