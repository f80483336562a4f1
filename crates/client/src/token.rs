//! A long-lived credential becomes a short-lived token.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use heliograph_auth::secret::Secret;
use heliograph_core::id::PeerId;

mod exchange;

pub use exchange::TokenExchange;
pub(crate) use exchange::retry_after_of;

/// What a peer keeps.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `ak_…`, sent as `x-api-key`.
    ApiKey(Arc<Secret>),
    /// `dt_…` of a paired device, sent as `x-device-token`.
    DeviceToken(Arc<Secret>),
}

impl Credential {
    /// An API key.
    pub fn api_key(key: Secret) -> Self {
        Self::ApiKey(Arc::new(key))
    }

    /// A device token.
    pub fn device_token(token: Secret) -> Self {
        Self::DeviceToken(Arc::new(token))
    }
}

/// What opens a socket.
#[derive(Debug, Clone)]
pub struct Token {
    /// The token itself.
    pub text: Arc<Secret>,
    /// Whose it is.
    pub peer: PeerId,
    /// How long it is good. Zero: not known, so it is used once.
    pub good_for: Duration,
}

/// Why there is no token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The credential is not good (401, 403): the client stops.
    #[error("the credential was refused: {0}")]
    Refused(String),
    /// The address is none: the client stops.
    #[error("not an address for the token exchange")]
    BadUrl,
    /// Not now: the client tries again, after this pause if one is asked for.
    #[error("no token: {message}")]
    Unavailable {
        /// `Retry-After`.
        retry_after: Option<Duration>,
        /// What went wrong, for people.
        message: String,
    },
}

/// Where tokens come from. The client asks whenever it opens a socket and has none that is still good.
#[async_trait]
pub trait TokenSource: Send + Sync + 'static {
    /// A token. Dropped after [`limits::EXCHANGE`](crate::limits::EXCHANGE).
    async fn token(&self) -> Result<Token, TokenError>;
}
