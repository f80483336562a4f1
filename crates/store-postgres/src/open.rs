//! Opening a database: look at what it is, bring it to this version or refuse it, connect.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use tokio::time::timeout;

use crate::address::Address;
use crate::calls::Calls;
use crate::error::OpenError;
use crate::options::Options;
use crate::{PostgresStore, hints, schema};

/// How long connecting may take when nothing else is said.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// One for the gateway that renews, one for whoever waits for the others.
const LEASE_CONNECTIONS: u32 = 2;

type Result<T> = std::result::Result<T, OpenError>;

pub(crate) async fn connect(url: &str, options: Options) -> Result<PostgresStore> {
    let address = Address::parse(url)?;
    let patience = options.call_timeout;
    if options.auto_migrate {
        migrate(url).await?;
    }
    let mut connection = first_connection(&address, options.acquire_timeout).await?;
    let look = async {
        let durable = check_that_it_will_do(&address, &mut connection).await?;
        schema::check(&address, &mut connection).await?;
        Ok(durable)
    };
    let durable = in_time(&address, patience, look).await?;
    let connect = options.apply(durably(address.connect.clone(), durable));
    let hints = hints::start(connect.clone()).await.map_err(|error| OpenError::sql(&address, &error))?;
    let calls = Calls::new(connect.clone(), options.max_connections, &options);
    let lease_calls = Calls::new(connect, LEASE_CONNECTIONS, &options);
    Ok(PostgresStore { calls, lease_calls, hints })
}

pub(crate) async fn migrate(url: &str) -> Result<()> {
    let address = Address::parse(url)?;
    let mut connection = first_connection(&address, CONNECT_PATIENCE).await?;
    in_time(&address, CONNECT_PATIENCE, check_that_it_will_do(&address, &mut connection)).await?;
    schema::migrate(&address, connection).await
}

/// Without bounds on statements: a migration may take its time.
async fn first_connection(address: &Address, patience: Duration) -> Result<PgConnection> {
    let connect = async { address.connect.connect().await.map_err(|error| OpenError::sql(address, &error)) };
    in_time(address, patience, connect).await
}

async fn in_time<T>(
    address: &Address,
    patience: Duration,
    step: impl Future<Output = Result<T>>,
) -> Result<T> {
    timeout(patience, step).await.unwrap_or_else(|_elapsed| Err(OpenError::no_answer(address, patience)))
}

/// A primary that can hold all texts. Answers whether its commits are durable when they are answered.
async fn check_that_it_will_do(address: &Address, connection: &mut PgConnection) -> Result<bool> {
    let (standby, encoding, commit): (bool, String, String) = sqlx::query_as(
        "SELECT pg_is_in_recovery(), current_setting('server_encoding'), current_setting('synchronous_commit')",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| OpenError::sql(address, &error))?;
    let server = address.name.clone();
    if standby {
        return Err(OpenError::Standby { server });
    }
    if encoding != "UTF8" {
        return Err(OpenError::Encoding { server, encoding });
    }
    Ok(commit != "off")
}

/// A revocation that a crash forgets after it was answered would be none: where commits are not durable by default,
/// ours are. What else is set (waiting for standbys or not) stays as the operator set it.
fn durably(connect: PgConnectOptions, durable: bool) -> PgConnectOptions {
    if durable { connect } else { connect.options([("synchronous_commit", "on")]) }
}
