//! The URL of a database: what is connected to, and how it is named to people.

use std::borrow::Cow;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use crate::error::OpenError;

/// How the connections of this program are called in `pg_stat_activity`.
const APPLICATION: &str = "heliograph";

/// The parameters of a URL that the driver knows. It writes the values of others to the log.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// A database and the way to it. It cannot be printed, as the way has the password.
pub(crate) struct Address {
    /// With the password; never shown.
    pub(crate) connect: PgConnectOptions,
    /// For people: without the password.
    pub(crate) name: String,
}

impl Address {
    pub(crate) fn parse(url: &str) -> Result<Self, OpenError> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err(OpenError::BadUrl { reason: "it does not begin with postgres://".to_owned() });
        }
        let url = without_unknown_parameters(url);
        let mut connect: PgConnectOptions =
            url.parse().map_err(|error: sqlx::Error| OpenError::BadUrl { reason: reason(&error) })?;
        if connect.get_application_name().is_none() {
            connect = connect.application_name(APPLICATION);
        }
        // The transactions here rely on each statement seeing what was committed before it.
        connect = connect.options([("default_transaction_isolation", r"read committed")]);
        let name = name(&connect);
        Ok(Self { connect: connect.disable_statement_logging(), name })
    }

    /// The database's own name; by default that of the user.
    pub(crate) fn database(&self) -> &str {
        self.connect.get_database().unwrap_or(self.connect.get_username())
    }

    /// The user.
    pub(crate) fn user(&self) -> &str {
        self.connect.get_username()
    }
}

fn name(connect: &PgConnectOptions) -> String {
    let place = match connect.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", connect.get_host(), connect.get_port()),
    };
    let database = connect.get_database().unwrap_or(connect.get_username());
    format!("the database {database:?} at {place}")
}

/// Providers add parameters for other clients, some of which are secrets (`sslpassword`).
fn without_unknown_parameters(url: &str) -> Cow<'_, str> {
    let Some((base, query)) = url.split_once('?') else { return Cow::Borrowed(url) };
    let known = |parameter: &&str| {
        let key = parameter.split_once('=').map_or(*parameter, |(key, _)| key);
        let known = PARAMETERS.contains(&key) || key.starts_with("options");
        if !known {
            tracing::warn!(parameter = key, "a parameter of the database URL is not known and not used");
        }
        known
    };
    let query: Vec<_> = query.split('&').filter(known).collect();
    Cow::Owned(format!("{base}?{}", query.join("&")))
}

/// What is wrong with a URL: the driver's words for it name no part of it but a wrong `sslmode`.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_named_without_its_password() {
        let cases = [
            ("postgres://ann:s3cret@db.example:5433/pairing", r#"the database "pairing" at db.example:5433"#),
            ("postgresql://ann:s3cret@db.example", r#"the database "ann" at db.example:5432"#),
            (
                "postgres://ann:s3cret@db.example/pairing?sslmode=require&channel_binding=s3cret",
                r#"the database "pairing" at db.example:5432"#,
            ),
            (
                "postgres:///pairing?user=ann&password=s3cret&host=/run/pg",
                r#"the database "pairing" at /run/pg"#,
            ),
        ];
        for (url, name) in cases {
            let address = Address::parse(url).unwrap();
            assert_eq!((address.name.as_str(), address.user()), (name, "ann"));
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_refused_without_its_password() {
        for url in [
            "mysql://ann:s3cret@db/x",
            "ann:s3cret@db/x",
            "postgres://ann:s3cret@db:port/x",
            "postgres://ann:s3cret/with@slash@db/x",
            "postgres://ann:s3cret@db/x?sslmode=maybe",
            "postgres://ann:s3cret@db/x?port=many",
        ] {
            let message = Address::parse(url).err().unwrap().to_string();
            assert!(!message.contains("s3cret") && message.contains("percent"), "{message}");
        }
    }

    #[test]
    fn parameters_for_other_clients_are_left_out() {
        let url =
            "postgres://db/x?sslpassword=s3cret&sslmode=require&options=-csearch_path%3Dmine&gssencmode";
        assert_eq!(
            without_unknown_parameters(url),
            "postgres://db/x?sslmode=require&options=-csearch_path%3Dmine"
        );
    }
}
