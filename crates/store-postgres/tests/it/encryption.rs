//! Encrypted connections, with the certificate checked or not.

use std::time::Duration;

use heliograph_sandbox::Postgres;
use heliograph_store::Settings;
use heliograph_store_postgres::{OpenError, Options, PostgresStore};

use crate::support::{number, run};
use crate::until::until;

const SOON: Duration = Duration::from_secs(10);

/// The server makes itself a certificate in its data folder and serves with it: the path of the certificate.
async fn encrypt(postgres: &Postgres, url: &str) -> String {
    let make = "cat > /dev/null; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
        -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.crt";
    for sql in [
        &format!("COPY (SELECT 1) TO PROGRAM '{make}'"),
        "ALTER SYSTEM SET ssl = on",
        "SELECT pg_reload_conf()",
    ] {
        run(url, sql).await;
    }
    let folder = postgres.query(url, "SHOW data_directory").await.unwrap();
    format!("{folder}/server.crt")
}

/// Connections of stores that are encrypted.
const ENCRYPTED: &str = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
    WHERE application_name = 'heliograph' AND ssl";

async fn open(url: &str) -> Result<PostgresStore, OpenError> {
    let store = PostgresStore::connect(url, Options { auto_migrate: true, ..Options::default() }).await?;
    store.ping().await.unwrap();
    Ok(store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_encrypted_and_its_certificate_checked_as_asked() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.database().await.unwrap();
    let refusal = open(&format!("{url}?sslmode=require")).await.unwrap_err();
    assert!(matches!(refusal, OpenError::Encryption { .. }), "{refusal:?}");

    let certificate = encrypt(&postgres, &url).await;
    let required = until(SOON, async || open(&format!("{url}?sslmode=require")).await).await;
    assert!(number(&url, ENCRYPTED).await >= 2);
    required.close().await;

    let refusal = open(&format!("{url}?sslmode=verify-full")).await.unwrap_err();
    assert!(matches!(refusal, OpenError::Encryption { .. }), "{refusal:?}");
    assert!(refusal.to_string().contains("sslrootcert"), "{refusal}");
    open(&format!("{url}?sslmode=verify-full&sslrootcert={certificate}")).await.unwrap();
    let other_name = url.replace("127.0.0.1", "localhost");
    let refusal =
        open(&format!("{other_name}?sslmode=verify-full&sslrootcert={certificate}")).await.unwrap_err();
    assert!(matches!(refusal, OpenError::Encryption { .. }), "{refusal:?}");
}
