//! Addresses of the database and of Redis.

use std::fmt;
use std::path::PathBuf;

use heliograph_auth::secret::Secret;
use heliograph_bus::redis;

use super::setting::Exposure;
use super::value::Scalar;

/// What keeps the pairing state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// A file of this node: `sqlite://relative`, `sqlite:///absolute`.
    Sqlite(PathBuf),
    /// A server that several nodes share.
    Postgres,
}

/// The database's URL. It may hold a password, so it is shown masked.
pub struct DatabaseUrl {
    backend: Backend,
    text: Secret,
}

impl DatabaseUrl {
    /// Which database it is.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }
}

impl Scalar for DatabaseUrl {
    const KIND: &'static str = "URL";
    const EXPOSURE: Exposure = Exposure::Masked;

    fn parse(text: &str) -> Result<Self, String> {
        let backend = match split(text) {
            Some(("sqlite", rest)) => {
                // Parameters of other programs' SQLite URLs mean nothing here.
                Backend::Sqlite(rest.split_once('?').map_or(rest, |(path, _)| path).into())
            }
            Some(("postgres" | "postgresql", _)) => Backend::Postgres,
            _ => return Err("must be sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE".into()),
        };
        Ok(Self { backend, text: Secret::new(text) })
    }
}

/// The URL of Redis. It may hold a password, so it is shown masked.
pub struct RedisUrl(Secret);

impl RedisUrl {
    /// The URL with its password.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl Scalar for RedisUrl {
    const KIND: &'static str = "URL";
    const EXPOSURE: Exposure = Exposure::Masked;

    fn parse(text: &str) -> Result<Self, String> {
        redis::Options::parse(text).map_err(|error| error.to_string())?;
        Ok(Self(Secret::new(text)))
    }
}

/// Scheme and rest; `None` unless both are there.
fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once("://").filter(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty())
}

/// A URL without the passwords in it: whatever stands before the last `@`, from the first colon on, and
/// parameters that are called a password. Masks too much rather than too little.
pub(super) fn mask(text: &str) -> String {
    let Some((scheme, rest)) = split(text) else { return "•••".into() };
    let (authority, query) = rest.split_once('?').map_or((rest, None), |(head, tail)| (head, Some(tail)));
    // A `?` in a password would split too early: then the `@` stands in the query.
    if query.is_some_and(|query| query.contains('@')) {
        return format!("{scheme}://•••");
    }
    let authority = match authority.rsplit_once('@') {
        Some((credentials, place)) => {
            let user = credentials.split(':').next().unwrap_or_default();
            format!("{user}:•••@{place}")
        }
        None => authority.to_owned(),
    };
    match query {
        Some(query) => format!("{scheme}://{authority}?{}", mask_query(query)),
        None => format!("{scheme}://{authority}"),
    }
}

fn mask_query(query: &str) -> String {
    let mask = |pair: &str| match pair.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().contains("pass") => format!("{name}=•••"),
        _ => pair.to_owned(),
    };
    query.split('&').map(mask).collect::<Vec<_>>().join("&")
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for DatabaseUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(self.text.expose()))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RedisUrl {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&mask(self.0.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked() {
        for (url, expect) in [
            ("postgres://me:hunter2@db/heliograph", "postgres://me:•••@db/heliograph"),
            ("postgres://me:hun@ter/2@db", "postgres://me:•••@db"),
            ("postgres://me:hun?t@db/x", "postgres://•••"),
            ("postgres://db/x?user=me&password=hunter2", "postgres://db/x?user=me&password=•••"),
            ("redis+sentinel://:hunter2@a:1,:hunter2@b:1/main", "redis+sentinel://:•••@b:1/main"),
            ("redis://hunter2@a", "redis://hunter2:•••@a"),
            ("sqlite:///var/lib/x.db?mode=rwc", "sqlite:///var/lib/x.db?mode=rwc"),
            ("hunter2", "•••"),
        ] {
            assert_eq!(mask(url), expect);
        }
    }

    #[test]
    fn sqlite_paths_are_relative_or_absolute() {
        let backend = |url| DatabaseUrl::parse(url).unwrap().backend().clone();
        assert_eq!(backend("sqlite://x.db"), Backend::Sqlite("x.db".into()));
        assert_eq!(backend("sqlite:///var/x.db?mode=rwc"), Backend::Sqlite("/var/x.db".into()));
        assert_eq!(backend("postgresql://x"), Backend::Postgres);
    }
}
