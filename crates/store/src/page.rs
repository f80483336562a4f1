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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_a_default_and_a_bound() {
        for (limit, rows) in [(0, DEFAULT_PAGE), (1, 1), (MAX_PAGE, MAX_PAGE), (u32::MAX, MAX_PAGE)] {
            assert_eq!(Page { cursor: None, limit }.rows(), rows);
        }
    }

    #[test]
    fn cursors_read_back() {
        let page = Page { cursor: Some(peer_cursor("default", "Wohnzimmer, Süd [1]")), limit: 0 };
        assert_eq!(page.after_peer().unwrap(), ("default".to_owned(), "Wohnzimmer, Süd [1]".to_owned()));
        assert_eq!(Page::default().after_peer().unwrap(), (String::new(), String::new()));
        assert_eq!(Page { cursor: Some("7".to_owned()), limit: 0 }.below().unwrap(), Version(7));
    }

    #[test]
    fn only_a_page_with_more_behind_it_leads_on() {
        let cut = |count: u32| Rows::cut((0..count).collect(), 3, u32::to_string);
        for (count, next) in [(0, None), (3, None), (4, Some("2".to_owned()))] {
            assert_eq!(cut(count).next, next, "{count} rows");
        }
    }
}
