//! Pages of lists. The statements are put together from fixed texts; values are bound.

use heliograph_core::id::MeshName;
use heliograph_store::{Page, Result, Rows, StoreError};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, QueryBuilder, Sqlite, SqlitePool};

use crate::error::refused;
use crate::row::number;

/// A row struct that lists are made of.
pub(crate) trait Listed: for<'r> FromRow<'r, SqliteRow> + Send + Unpin {
    /// What it stands for.
    type Item: TryFrom<Self, Error = StoreError>;

    /// Where the page after this row starts.
    fn cursor(&self) -> String;
}

/// The statement of a list that is newest first: `select` ends in the name of the column that orders it.
pub(crate) fn newest_first(
    select: &'static str,
    column: &'static str,
    mesh: Option<&MeshName>,
    page: &Page,
) -> Result<QueryBuilder<Sqlite>> {
    let mut query = QueryBuilder::new(select);
    query.push(" WHERE ").push(column).push(" < ").push_bind(number(page.below()?));
    if let Some(mesh) = mesh {
        query.push(" AND mesh = ").push_bind(mesh.to_string());
    }
    Ok(query)
}

/// Runs a statement that lacks its order and its end.
pub(crate) async fn fetch<R: Listed>(
    readers: &SqlitePool,
    mut query: QueryBuilder<Sqlite>,
    order: &'static str,
    page: &Page,
) -> Result<Rows<R::Item>> {
    query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(i64::from(page.rows()) + 1);
    let rows = query.build_query_as::<R>().fetch_all(readers).await.map_err(refused)?;
    Rows::cut(rows, page.rows(), R::cursor).try_map(R::Item::try_from)
}
