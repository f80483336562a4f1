//! Certificates of an authority of one's own.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::find;
use crate::process::Program;

/// Makes an authority and a certificate for 127.0.0.1 and localhost in `folder`, good for a day.
pub(super) async fn make_certificates(folder: &Path) -> Result<()> {
    // A file of our own: what the machine's says is not known.
    std::fs::write(folder.join("openssl.cnf"), CONFIGURATION)?;
    let openssl = |arguments: &[&str]| {
        let program = find::program("openssl", "openssl")?;
        anyhow::Ok(Program::new(program).args(arguments).folder(folder))
    };
    let key =
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-config", "openssl.cnf"];
    let authority =
        ["req", "-x509", "-days", "1", "-extensions", "authority", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(&[&authority[..], &key].concat())?.run().await?;
    let request = ["req", "-new", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&request[..], &key].concat())?.run().await?;
    let signed = ["x509", "-req", "-in", "server.csr", "-days", "1", "-CA", "ca.crt", "-CAkey", "ca.key"];
    let as_server =
        ["-CAcreateserial", "-extfile", "openssl.cnf", "-extensions", "server", "-out", "server.crt"];
    openssl(&[&signed[..], &as_server].concat())?.run().await?;
    Ok(())
}

/// The authority's certificate.
pub(super) fn authority(folder: &Path) -> PathBuf {
    folder.join("ca.crt")
}

/// What makes a Redis server use the certificate, and ask clients for none.
pub(super) fn arguments(folder: &Path) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    let pairs = [
        ["--tls-cert-file".to_owned(), file("server.crt")],
        ["--tls-key-file".to_owned(), file("server.key")],
        ["--tls-ca-cert-file".to_owned(), file("ca.crt")],
        ["--tls-auth-clients".to_owned(), "no".to_owned()],
    ];
    pairs.concat()
}

const CONFIGURATION: &str = "\
[req]
prompt = no
distinguished_name = name
[name]
commonName = heliograph-sandbox
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
";
