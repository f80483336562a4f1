//! Pages of lists, the same in every backend.
//!
//! Lists that grow at one end are ordered by the version under which each row came to be: it is unique and never
//! changes, so a cursor stays good while rows come and change. Peers are ordered by name.

use heliograph_core::id::Version;
use heliograph_core::limits::{DEFAULT_PAGE, MAX_PAGE};

use crate::{Page, Result, Rows, StoreError};

impl Page {
    /// How many rows to answer at most, as told or by default.
    pub fn rows(&self) -> u32 {
        if self.limit == 0 { DEFAULT_PAGE } else { self.limit.min(MAX_PAGE) }
    }

    /// For lists that are newest first: the version below which to go on.
    pub fn below(&self) -> Result<Version> {
        let Some(cursor) = &self.cursor else { return Ok(Version(u64::MAX)) };
        cursor.parse().map(Version).map_err(|_| StoreError::NotFound)
    }

    /// For the list of peers: the mesh and the peer after which to go on, or two empty texts.
    pub fn after_peer(&self) -> Result<(String, String)> {
        let Some(cursor) = &self.cursor else { return Ok(Default::default()) };
        serde_json::from_str(cursor).map_err(|_| StoreError::NotFound)
    }
}

/// The cursor that [`Page::after_peer`] reads.
pub fn peer_cursor(mesh: &str, peer: &str) -> String {
    serde_json::to_string(&(mesh, peer)).unwrap_or_default()
}

impl<T> Rows<T> {
    /// A page out of up to `limit` + 1 rows, the last of which only tells that there are more.
    pub fn cut(mut rows: Vec<T>, limit: u32, cursor: impl Fn(&T) -> String) -> Self {
        let limit = limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(cursor);
        Self { rows, next }
    }

    /// The same page with each row turned into something else.
    pub fn try_map<U>(self, turn: impl Fn(T) -> Result<U>) -> Result<Rows<U>> {
        let rows = self.rows.into_iter().map(turn).collect::<Result<_>>()?;
        Ok(Rows { rows, next: self.next })
    }
}
