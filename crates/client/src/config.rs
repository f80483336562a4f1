//! What a client needs to know.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::connect::{Connector, TcpConnector};
use crate::limits;
use crate::token::{Credential, TokenExchange, TokenSource};

/// Where the service is and who we are to it.
#[derive(Clone)]
pub struct Config {
    /// Address of the socket, `ws://…/ws` or `wss://…/ws`. Holds no token.
    pub socket_url: String,
    /// Where tokens come from.
    pub tokens: Arc<dyn TokenSource>,
    /// Who opens connections.
    pub connector: Arc<dyn Connector>,
    /// Largest frame that is sent, in bytes. The service's limit, where an operator has changed it.
    pub max_frame_bytes: usize,
    /// How long a message waits for its outcome.
    pub feedback_within: Duration,
}

impl Config {
    /// To this socket, with tokens from there.
    pub fn new(socket_url: impl Into<String>, tokens: impl TokenSource) -> Self {
        Self {
            socket_url: socket_url.into(),
            tokens: Arc::new(tokens),
            connector: Arc::new(TcpConnector::new()),
            max_frame_bytes: limits::FRAME_BYTES,
            feedback_within: limits::FEEDBACK,
        }
    }

    /// To a service at `http://…` or `https://…`, whose socket and token exchange are where they usually are.
    pub fn for_server(server: &str, credential: Credential) -> Self {
        let server = server.trim().trim_end_matches('/');
        // What begins with neither is no address, which the client says when it starts.
        let socket =
            server.strip_prefix("http").map_or_else(|| server.to_owned(), |rest| format!("ws{rest}"));
        Self::new(format!("{socket}/ws"), TokenExchange::new(format!("{server}/api/token"), credential))
    }

    /// With another way of opening connections.
    #[must_use]
    pub fn connector(self, connector: impl Connector) -> Self {
        Self { connector: Arc::new(connector), ..self }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address may hold a password.
        f.debug_struct("Config")
            .field("max_frame_bytes", &self.max_frame_bytes)
            .field("feedback_within", &self.feedback_within)
            .finish_non_exhaustive()
    }
}
