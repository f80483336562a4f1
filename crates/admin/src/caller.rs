//! Who asks, and which meshes they may act on.
//!
//! A key of role `admin` administers its mesh; one of the default mesh is the operator's and acts on all of them.
//! What lies in a mesh that the caller has no say in looks as if it did not exist.

use axum::extract::FromRequestParts;
use heliograph_auth::secret::Purpose;
use heliograph_bus::budget::Limit;
use heliograph_core::id::{MeshName, PeerId};
use heliograph_core::limits::MAX_CREDENTIAL_BYTES;
use heliograph_http::{Problem, credential};
use heliograph_store::{ApiKey, StoreError};
use http::request::Parts;

use crate::app::{App, Shared};
use crate::budgets::client_address;
use crate::failure;

const ADMIN_ROLE: &str = "admin";

/// Somebody with a live API key.
pub(crate) struct Caller(ApiKey);

/// A caller whose key may administer.
pub(crate) struct Administrator(Caller);

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        authenticate(parts, app).await.map(Self)
    }
}

impl FromRequestParts<Shared> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        if caller.0.role != ADMIN_ROLE {
            return Err(Problem::forbidden("forbidden", "this takes an API key of role admin"));
        }
        Ok(Self(caller))
    }
}

async fn authenticate(parts: &Parts, app: &App) -> Result<ApiKey, Problem> {
    let unauthorized = |detail: &str| Problem::unauthorized("unauthorized", detail);
    let Some(secret) = credential::api_key(&parts.headers) else {
        return Err(unauthorized("an API key is needed, as x-api-key or Authorization: Bearer"));
    };
    let address = client_address(&parts.extensions);
    app.budgets.admit(Limit::AuthFailures, address).await?;
    match key_of(app, secret).await {
        Err(StoreError::NotFound) => {
            app.budgets.failed(Limit::AuthFailures, address).await?;
            Err(unauthorized("this API key is not known"))
        }
        found => found.map_err(failure::problem),
    }
}

async fn key_of(app: &App, secret: &str) -> Result<ApiKey, StoreError> {
    if secret.len() > MAX_CREDENTIAL_BYTES {
        return Err(StoreError::NotFound);
    }
    app.store.key_of_secret(&app.hash(Purpose::ApiKey, secret)).await
}

impl Caller {
    /// The name under which the log keeps what the caller does.
    pub(crate) fn actor(&self) -> &str {
        &self.0.id
    }

    /// The mesh to act on: the one that is named, else the caller's own.
    pub(crate) fn mesh(&self, named: Option<&str>) -> Result<MeshName, Problem> {
        let Some(named) = named else { return Ok(self.0.mesh.clone()) };
        let mesh = MeshName::parse(named)
            .map_err(|error| Problem::bad_request("bad_mesh", format!("the name of the mesh {error}")))?;
        if !self.may_act_on(&mesh) {
            return Err(Problem::forbidden("forbidden", "this API key is not for that mesh"));
        }
        Ok(mesh)
    }

    fn may_act_on(&self, mesh: &MeshName) -> bool {
        self.is_operator() || self.0.mesh == *mesh
    }

    fn is_operator(&self) -> bool {
        self.0.role == ADMIN_ROLE && self.0.mesh == MeshName::default_mesh()
    }
}

impl Administrator {
    /// See [`Caller::actor`].
    pub(crate) fn actor(&self) -> &str {
        self.0.actor()
    }

    /// See [`Caller::mesh`].
    pub(crate) fn mesh(&self, named: Option<&str>) -> Result<MeshName, Problem> {
        self.0.mesh(named)
    }

    /// The mesh that a list is about; `None`: all of them, which only the operator gets.
    pub(crate) fn scope(&self, named: Option<&str>) -> Result<Option<MeshName>, Problem> {
        if named.is_none() && self.is_operator() { Ok(None) } else { self.mesh(named).map(Some) }
    }

    /// Whether things of this mesh exist for the caller.
    pub(crate) fn sees(&self, mesh: &MeshName) -> bool {
        self.0.may_act_on(mesh)
    }

    /// Whether the caller runs the installation.
    pub(crate) fn is_operator(&self) -> bool {
        self.0.is_operator()
    }

    /// The peer that the caller's key stands for, if it is of this mesh.
    pub(crate) fn peer_in(&self, mesh: &MeshName) -> Option<&PeerId> {
        let Self(Caller(key)) = self;
        (key.mesh == *mesh).then_some(&key.peer)
    }

    /// 403 unless the caller runs the installation.
    pub(crate) fn require_operator(&self) -> Result<(), Problem> {
        if self.is_operator() {
            return Ok(());
        }
        Err(Problem::forbidden("forbidden", "this takes an admin key of the default mesh"))
    }
}
