//! Opens connections to Redis servers: the message path's own, and pools of the client library's for the rest.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::options::{Address, Credentials, Options};
use super::resp::{Malformed, Value, command, parse};

/// How long opening a connection may take, greeting included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer may take.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections that carry the commands to one server. More than one, so that one long answer does not hold up others.
pub(crate) const LANES: usize = 4;
/// With room for new ones beside those that are about to be given up.
const POOL_SIZE: usize = 2 * LANES;
/// What is read at once, in bytes.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Why a server cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    Timeout,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Someone has to change the configuration before this can work.
    #[error("{0}")]
    Refused(String),
    #[error("the server is a replica")]
    Replica,
    #[error("the server answered {0}")]
    Answer(String),
}

impl ConnectError {
    /// Whether it stays as it is until somebody changes the configuration of one of the two sides.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    /// From an error of the server. Its text is shown only where it is known: an old server repeats the arguments of
    /// commands that it does not know, the password among them.
    fn answered(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let code = text.split(' ').next().unwrap_or_default();
        match code {
            "WRONGPASS" | "NOAUTH" => Self::Refused(format!(
                "the server does not accept user and password of the Redis URL ({code})"
            )),
            "NOPERM" => Self::Refused(text.into_owned()),
            "ERR" if text.contains("unknown command") => {
                Self::Refused("the server does not know HELLO: Redis 6 or newer is needed".into())
            }
            "ERR" if text.contains("AUTH") => Self::Refused(
                "the server has no password for this user, and the Redis URL gives one (ERR AUTH)".into(),
            ),
            code => Self::Answer(code.chars().take(32).collect()),
        }
    }
}

/// Plain or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What a server said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    /// Whether it knows `SPUBLISH` and `SSUBSCRIBE`, which came with Redis 7.
    pub(crate) sharded_pubsub: bool,
    pub(crate) replica: bool,
}

/// Opens connections with the credentials and certificates of the [`Options`].
pub(crate) struct Connector {
    options: Options,
    tls: Option<TlsConnector>,
    /// The certificates to trust, as they stand in the file.
    ca: Option<Vec<u8>>,
}

impl Connector {
    /// Reads the certificates, if there are any.
    pub(crate) fn new(options: Options) -> Result<Self, ConnectError> {
        if !options.tls {
            return Ok(Self { options, tls: None, ca: None });
        }
        let refused = |why: String| ConnectError::Refused(why);
        let ca = options.ca.as_ref().map(|path| {
            std::fs::read(path).map_err(|error| refused(format!("ca {}: {error}", path.display())))
        });
        let ca = ca.transpose()?;
        let mut roots = rustls::RootCertStore::empty();
        if let Some(pem) = &ca {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|error| refused(format!("ca of the Redis URL: {error}")))?;
                roots.add(certificate).map_err(|error| refused(format!("ca of the Redis URL: {error}")))?;
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if roots.is_empty() {
            return Err(refused("no certificate to trust: name one with ca=FILE in the Redis URL".into()));
        }
        // The client library takes the process's provider, and panics if there were several to choose from.
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let _another_one_is_as_good = provider.install_default();
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { options, tls: Some(TlsConnector::from(Arc::new(config))), ca })
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Opens a connection to a server that holds data, in RESP3.
    pub(crate) async fn open(&self, address: &Address) -> Result<Connection, ConnectError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut connection = self.stream(address, deadline).await?;
        connection.server = connection.greet(&self.options.credentials, deadline).await?;
        Ok(connection)
    }

    /// Opens a connection to a server that takes messages and scripts.
    pub(crate) async fn open_primary(&self, address: &Address) -> Result<Connection, ConnectError> {
        let connection = self.open(address).await?;
        if connection.server.replica { Err(ConnectError::Replica) } else { Ok(connection) }
    }

    /// Opens a connection to a sentinel.
    pub(crate) async fn open_sentinel(
        &self,
        address: &Address,
        credentials: &Credentials,
    ) -> Result<Connection, ConnectError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let mut connection = self.stream(address, deadline).await?;
        if let Some(password) = &credentials.password {
            let mut auth = vec![&b"AUTH"[..]];
            auth.extend(credentials.user.as_deref().map(str::as_bytes));
            auth.push(password.as_bytes());
            connection.call_until(deadline, &auth, |_| ()).await?;
        }
        Ok(connection)
    }

    async fn stream(&self, address: &Address, deadline: Instant) -> Result<Connection, ConnectError> {
        let opening = async {
            let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
            tcp.set_nodelay(true)?;
            let Some(tls) = &self.tls else { return Ok(Box::new(tcp) as _) };
            let name = ServerName::try_from(address.host.clone())
                .map_err(|_| ConnectError::Refused(format!("{:?} is not a name for TLS", address.host)))?;
            // An expired or foreign certificate stays one until somebody acts.
            let stream = tls.connect(name, tcp).await.map_err(|error| match error.kind() {
                io::ErrorKind::InvalidData => ConnectError::Refused(format!("TLS with {address}: {error}")),
                _ => ConnectError::Io(error),
            })?;
            Ok::<Box<dyn Stream>, ConnectError>(Box::new(stream))
        };
        let stream = timeout_at(deadline, opening).await.map_err(|_| ConnectError::Timeout)??;
        let server = Server { sharded_pubsub: false, replica: false };
        Ok(Connection { stream, buffer: BytesMut::with_capacity(4096), server })
    }

    /// A pool of the client library's connections.
    pub(crate) fn pool(&self, address: &Address) -> Result<deadpool_redis::Pool, ConnectError> {
        let refused = |error: &dyn std::fmt::Display| ConnectError::Refused(error.to_string());
        let (host, port) = (address.host.clone(), address.port);
        let target = if self.options.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(self.options.database));
        if let Some(user) = &self.options.credentials.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.options.credentials.password {
            settings = settings.set_password(password);
        }
        let target = target.into_connection_info().map_err(|error| refused(&error))?;
        let target = target.set_redis_settings(settings);
        let certificates = TlsCertificates { client_tls: None, root_cert: self.ca.clone() };
        let client = if self.options.tls {
            Client::build_with_tls(target, certificates)
        } else {
            Client::open(target)
        };
        let client = client.map_err(|error| refused(&error))?;
        let timeouts = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let manager =
            deadpool_redis::Manager::new_with_config(client.get_connection_info().clone(), timeouts)
                .map_err(|error| refused(&error))?;
        deadpool_redis::Pool::builder(manager)
            .max_size(POOL_SIZE)
            .wait_timeout(Some(ANSWER_TIMEOUT))
            .create_timeout(Some(ANSWER_TIMEOUT))
            .recycle_timeout(Some(ANSWER_TIMEOUT))
            .runtime(deadpool_redis::Runtime::Tokio1)
            .build()
            .map_err(|error| refused(&error))
    }
}

/// One connection of the message path.
pub(crate) struct Connection {
    pub(crate) stream: Box<dyn Stream>,
    /// What was read and is not taken yet.
    pub(crate) buffer: BytesMut,
    pub(crate) server: Server,
}

impl Connection {
    async fn greet(&mut self, credentials: &Credentials, deadline: Instant) -> Result<Server, ConnectError> {
        let mut hello = vec![&b"HELLO"[..], b"3"];
        if let Some(password) = &credentials.password {
            let user = credentials.user.as_deref().unwrap_or("default");
            hello.extend([&b"AUTH"[..], user.as_bytes(), password.as_bytes()]);
        }
        hello.extend([&b"SETNAME"[..], b"heliograph"]);
        let role = |reply: &Value<'_>| Some(reply.get("role")?.text()? != b"master");
        let role = self.call_until(deadline, &hello, role).await?;
        // Not by the version: a server may be told not to know a command, and forks count differently.
        let known = |reply: &Value<'_>| reply.elements().iter().all(|command| !command.elements().is_empty());
        let question = [&b"COMMAND"[..], b"INFO", b"SPUBLISH", b"SSUBSCRIBE"];
        let sharded_pubsub = self.call_until(deadline, &question, known).await?;
        Ok(Server { sharded_pubsub, replica: role.ok_or(Malformed)? })
    }

    /// Asks, and reads what it needs off the answer.
    pub(crate) async fn call<T>(
        &mut self,
        arguments: &[&[u8]],
        read: impl FnOnce(&Value<'_>) -> T,
    ) -> Result<T, ConnectError> {
        self.call_until(Instant::now() + CONNECT_TIMEOUT, arguments, read).await
    }

    async fn call_until<T>(
        &mut self,
        deadline: Instant,
        arguments: &[&[u8]],
        read: impl FnOnce(&Value<'_>) -> T,
    ) -> Result<T, ConnectError> {
        let asking = async {
            self.stream.write_all(&command(arguments)).await?;
            self.stream.flush().await?;
            loop {
                let Some((value, length)) = parse(&self.buffer)? else {
                    self.buffer.reserve(READ_BYTES);
                    if self.stream.read_buf(&mut self.buffer).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                    continue;
                };
                match &value {
                    Value::Push(_) => self.buffer.advance(length),
                    Value::Error(text) => return Err(ConnectError::answered(text)),
                    value => {
                        let answer = read(value);
                        self.buffer.advance(length);
                        return Ok(answer);
                    }
                }
            }
        };
        timeout_at(deadline, asking).await.map_err(|_| ConnectError::Timeout)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_repeats_a_password() {
        for text in [
            "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `me`, `secret`, ",
            "WRONGPASS invalid username-password pair or user is disabled: secret",
            "ERR AUTH <password> called without any password configured: secret",
            "ERR something new about secret",
        ] {
            let error = ConnectError::answered(text.as_bytes()).to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
