//! Whom this machine trusts, for the socket and for the token exchange alike.

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;

/// What encrypts; the workspace has one.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates of the machine's authorities. Blocks.
pub(crate) fn authorities() -> io::Result<Vec<CertificateDer<'static>>> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        let text =
            "this machine trusts nobody: install its certificates (ca-certificates), or set SSL_CERT_FILE";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    Ok(loaded.certs)
}

/// TLS with these authorities. Blocks.
pub(crate) fn tls_config() -> io::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    // What cannot be read among hundreds is of no use to anybody else either.
    let (_added, _ignored) = roots.add_parsable_certificates(authorities()?);
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}
