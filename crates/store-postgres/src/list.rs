//! Pages of lists. The statements are put together from fixed texts; values are bound.

use heliograph_core::id::{MeshName, Version};
use heliograph_store::{Page, Result, Rows, StoreError};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Postgres, QueryBuilder};

use crate::PostgresStore;
use crate::calls::call;
use crate::row::number;

/// A row struct that lists are made of.
pub(crate) trait Listed: for<'r> FromRow<'r, PgRow> + Send + Unpin {
    /// What it stands for.
    type Item: TryFrom<Self, Error = StoreError>;

    /// The statement up to the table.
    const SELECT: &'static str;

    /// Where the page after this row starts.
    fn cursor(&self) -> String;
}

/// A list that is newest first by `column`, up to its order.
pub(crate) fn newest_first<R: Listed>(
    column: &'static str,
    below: Version,
    mesh: Option<&MeshName>,
) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new(R::SELECT);
    query.push(" WHERE ").push(column).push(" < ").push_bind(number(below));
    if let Some(mesh) = mesh {
        query.push(" AND mesh = ").push_bind(mesh.to_string());
    }
    query
}

impl PostgresStore {
    /// Runs a statement that lacks its order and its end.
    pub(crate) async fn list<R: Listed>(
        &self,
        page: &Page,
        order: &'static str,
        statement: impl Fn() -> QueryBuilder<Postgres>,
    ) -> Result<Rows<R::Item>> {
        let rows = call!(self.calls, |connection| {
            let mut query = statement();
            query.push(" ORDER BY ").push(order).push(" LIMIT ").push_bind(i64::from(page.rows()) + 1);
            Ok(query.build_query_as::<R>().fetch_all(connection).await?)
        });
        Rows::cut(rows?, page.rows(), R::cursor).try_map(R::Item::try_from)
    }
}
