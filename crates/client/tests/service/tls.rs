//! `wss://` and `https://`: a node behind something that decrypts.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use heliograph_auth::secret::Secret;
use heliograph_client::{
    Authorities, Config, Credential, Event, Outcome, State, TcpConnector, TokenExchange,
};
use heliograph_sandbox::{Folder, Program as Tool, find_program};
use heliograph_testkit::TestServer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::program::Program;

const CERTIFICATE: &str = "\
[req]
prompt = no
distinguished_name = name
x509_extensions = server
[name]
commonName = node
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = DNS:localhost, IP:127.0.0.1
";

/// Makes a certificate that vouches for itself, and its key.
async fn make_certificate(folder: &Path) {
    std::fs::write(folder.join("openssl.cnf"), CERTIFICATE).unwrap();
    let openssl = find_program("openssl", "openssl").unwrap();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "node.key"];
    let request = ["req", "-x509", "-days", "1", "-config", "openssl.cnf", "-out", "node.crt"];
    Tool::new(openssl).args([&request[..], &key].concat()).folder(folder).run().await.unwrap();
}

/// Decrypts for a node, as a load balancer does.
async fn decrypt_for(node: SocketAddr, folder: &Path) -> u16 {
    let chain =
        CertificateDer::pem_file_iter(folder.join("node.crt")).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("node.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut node = TcpStream::connect(node).await?;
                tokio::io::copy_bidirectional(&mut client, &mut node).await
            });
        }
    });
    port
}

#[tokio::test]
async fn an_encrypted_way_is_taken_to_whom_one_trusts_and_to_nobody_else() {
    let server = TestServer::start().await;
    let folder = Folder::new("tls").unwrap();
    make_certificate(folder.path()).await;
    let port = decrypt_for(server.address(), folder.path()).await;
    let authorities = Authorities::from_pem(&std::fs::read(folder.path().join("node.crt")).unwrap()).unwrap();
    let key = server.key("a", "default").await;

    // By name and by address: both stand in the certificate.
    let tokens = TokenExchange::new(
        format!("https://127.0.0.1:{port}/api/token"),
        Credential::api_key(Secret::new(key.clone())),
    );
    let config =
        Config::new(format!("wss://localhost:{port}/ws"), tokens.clone().trusting(authorities.clone()));
    let mut a = Program::start(config.connector(TcpConnector::trusting(authorities.clone())));
    a.online().await;
    let mut b = Program::join(&server, "b").await;
    assert_eq!(b.send("offer", "a", "{}").await, Outcome::Delivered);
    assert_eq!(a.hear().await.kind, "offer");
    a.client.close().await;

    let waits = |event: &Event| match event {
        Event::State(State::Waiting { .. }) => Some(true),
        Event::State(State::Online) => Some(false),
        _ => None,
    };
    // Without the token exchange's trust, and without the socket's.
    let strangers = [
        Config::new(format!("wss://localhost:{port}/ws"), tokens.clone())
            .connector(TcpConnector::trusting(authorities.clone())),
        Config::new(format!("wss://localhost:{port}/ws"), tokens.trusting(authorities)),
    ];
    for config in strangers {
        assert!(Program::start(config).until("a refusal", waits).await, "trusts whom it does not know");
    }
}

#[test]
fn a_text_without_a_certificate_is_no_authority() {
    for text in [
        "",
        "nothing",
        "-----BEGIN CERTIFICATE-----\nAAAA",
        "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
    ] {
        assert!(Authorities::from_pem(text.as_bytes()).is_err(), "{text:?}");
    }
}
