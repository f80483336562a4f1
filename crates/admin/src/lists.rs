//! What lists and single things have in common: queries, path segments, pages, times.

use axum::extract::{FromRequestParts, Path, Query};
use heliograph_core::limits::MAX_NAME_BYTES;
use heliograph_http::Problem;
use heliograph_store::{Page, UnixMillis};
use http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// A query string. Like axum's, but refuses with a problem document.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let refused = |_| Problem::bad_request("malformed_query", "a query parameter has the wrong form");
        Query::try_from_uri(&parts.uri).map(|Query(params)| Self(params)).map_err(refused)
    }
}

/// The one id in a path. What is too long to be an id is not found.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) if id.len() <= MAX_NAME_BYTES => Ok(Self(id)),
            _ => Err(Problem::not_found("not found")),
        }
    }
}

/// The query of every list.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ListQuery {
    cursor: Option<String>,
    #[serde(default)]
    limit: u32,
    pub(crate) mesh: Option<String>,
}

impl ListQuery {
    pub(crate) fn page(self) -> Page {
        Page { cursor: self.cursor, limit: self.limit }
    }
}

/// The query of a call that names nothing but a mesh.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct MeshQuery {
    pub(crate) mesh: Option<String>,
}

/// A time as answers carry it: seconds since the Unix epoch.
pub(crate) fn seconds(millis: UnixMillis) -> f64 {
    millis as f64 / 1000.0
}
