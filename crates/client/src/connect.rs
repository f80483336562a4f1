//! How connections are opened: over TCP, with TLS where the address says so, or over whatever a program brings.

use std::io;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::trust::Authorities;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// Where a socket is to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name, or an IP address (version 6 without brackets).
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the bytes have to be encrypted: `wss://`.
    pub is_secure: bool,
}

/// Opens the byte streams that carry the socket. The client gives up an attempt after
/// [`limits::HANDSHAKE`](crate::limits::HANDSHAKE) by dropping the future.
#[async_trait]
pub trait Connector: Send + Sync + 'static {
    /// Opens one. TLS is the connector's business.
    async fn connect(&self, address: &Address) -> io::Result<Box<dyn Duplex>>;
}

/// TCP, and TLS where the address wants it.
#[derive(Default)]
pub struct TcpConnector {
    authorities: Option<Authorities>,
    // Made when the first address wants it: not every machine has certificates.
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

impl TcpConnector {
    /// Believes whom this machine believes (`SSL_CERT_FILE` and `SSL_CERT_DIR` replace them).
    pub fn new() -> Self {
        Self::default()
    }

    /// Believes these authorities and nobody else.
    pub fn trusting(authorities: Authorities) -> Self {
        Self { authorities: Some(authorities), tls: OnceLock::new() }
    }

    async fn tls(&self) -> io::Result<Arc<rustls::ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let authorities = self.authorities.clone();
        let make = move || authorities.map_or_else(Authorities::of_this_machine, Ok)?.tls_config();
        let config = tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, address: &Address) -> io::Result<Box<dyn Duplex>> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        // Frames are small and each is waited for.
        stream.set_nodelay(true)?;
        if !address.is_secure {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(address.host.clone()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, "not a name that a certificate can have")
        })?;
        let stream = TlsConnector::from(self.tls().await?).connect(name, stream).await?;
        Ok(Box::new(stream))
    }
}
