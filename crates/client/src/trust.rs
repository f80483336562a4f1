//! Whom the client believes, on the socket and in the token exchange alike.

use std::io;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Authorities whose certificates are believed.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<Vec<CertificateDer<'static>>>);

impl Authorities {
    /// Those of a text in PEM form (RFC 7468), and nobody else.
    pub fn from_pem(pem: &[u8]) -> io::Result<Self> {
        let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = read.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Self::some(certificates, "no certificate in the text")
    }

    /// Those that this machine believes. Blocks: on some machines it reads hundreds of files.
    pub(crate) fn of_this_machine() -> io::Result<Self> {
        let text =
            "this machine trusts nobody: install its certificates (ca-certificates), or set SSL_CERT_FILE";
        Self::some(rustls_native_certs::load_native_certs().certs, text)
    }

    fn some(certificates: Vec<CertificateDer<'static>>, otherwise: &str) -> io::Result<Self> {
        if certificates.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, otherwise));
        }
        Ok(Self(Arc::new(certificates)))
    }

    /// Their certificates.
    pub(crate) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// TLS with them.
    pub(crate) fn tls_config(&self) -> io::Result<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        // What cannot be read among hundreds is of no use to anybody else either.
        let (_added, _ignored) = roots.add_parsable_certificates(self.0.iter().cloned());
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

/// What encrypts; the workspace has one.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
