//! `POST /api/token`.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use heliograph_auth::secret::Secret;
use heliograph_core::id::PeerId;
use http::{Request, Uri};
use serde::Deserialize;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{Credential, Token, TokenError, TokenSource};
use crate::limits;
use crate::trust::{self, Authorities};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const DEADLINE: Duration = Duration::from_secs(15);
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;
/// Longest sentence of a refusal that is kept, in characters.
const MAX_DETAIL: usize = 200;

/// Exchanges a credential at the service, over HTTP.
#[derive(Debug, Clone)]
pub struct TokenExchange {
    url: Arc<Secret>, // it may hold a password
    credential: Credential,
    authorities: Option<Authorities>,
}

impl TokenExchange {
    /// At this address: `https://…/api/token`. Believes whom this machine believes.
    pub fn new(url: impl Into<String>, credential: Credential) -> Self {
        Self { url: Arc::new(Secret::new(url)), credential, authorities: None }
    }

    /// Believes these authorities and nobody else.
    #[must_use]
    pub fn trusting(self, authorities: Authorities) -> Self {
        Self { authorities: Some(authorities), ..self }
    }
}

#[async_trait]
impl TokenSource for TokenExchange {
    async fn token(&self) -> Result<Token, TokenError> {
        let this = self.clone();
        let asked = tokio::task::spawn_blocking(move || this.ask()).await;
        asked.unwrap_or_else(|_| Err(unavailable("the exchange was given up")))
    }
}

impl TokenExchange {
    fn ask(&self) -> Result<Token, TokenError> {
        let uri: Uri = self.url.expose().parse().map_err(|_| TokenError::BadUrl)?;
        let agent = agent(&uri, self.authorities.clone())?;
        let (header, value) = match &self.credential {
            Credential::ApiKey(key) => ("x-api-key", key),
            Credential::DeviceToken(token) => ("x-device-token", token),
        };
        let request = Request::post(uri).header(header, value.expose()).body(());
        // A credential with characters that no header can have is no credential.
        let request = request.map_err(|_| TokenError::Refused("it cannot be sent over HTTP".to_owned()))?;
        let response = agent.run(request).map_err(|error| unavailable(&kind_of(&error)))?;
        let status = response.status().as_u16();
        let retry_after = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after_of(value, SystemTime::now()));
        let mut body = String::new();
        let mut reader = response.into_body().into_reader().take(MAX_ANSWER_BYTES);
        reader.read_to_string(&mut body).map_err(|_| unavailable("the answer cannot be read"))?;
        read_answer(status, &body, retry_after)
    }
}

fn unavailable(message: &str) -> TokenError {
    TokenError::Unavailable { retry_after: None, message: message.to_owned() }
}

/// What went wrong, without the address: it may hold a password.
fn kind_of(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => "no answer in time".to_owned(),
        ureq::Error::HostNotFound => "the host is not known".to_owned(),
        ureq::Error::ConnectionFailed => "cannot connect".to_owned(),
        ureq::Error::Rustls(error) => error.to_string(),
        _ => "the request failed".to_owned(),
    }
}

fn agent(uri: &Uri, authorities: Option<Authorities>) -> Result<ureq::Agent, TokenError> {
    let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(trust::provider());
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            let authorities = authorities.map_or_else(Authorities::of_this_machine, Ok);
            let authorities = authorities.map_err(|error| unavailable(&error.to_string()))?;
            let authorities = authorities.certificates().iter();
            let authorities = authorities.map(|der| Certificate::from_der(der).to_owned()).collect();
            tls = tls.root_certs(RootCerts::Specific(Arc::new(authorities)));
        }
        _ => return Err(TokenError::BadUrl),
    }
    let mut config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .timeout_connect(Some(CONNECT_DEADLINE))
        .timeout_global(Some(DEADLINE))
        .http_status_as_error(false)
        .user_agent(concat!("heliograph-client/", env!("CARGO_PKG_VERSION")))
        // A credential goes to the server that was named and nowhere else.
        .max_redirects(0)
        .max_redirects_will_error(false);
    // A proxy would look for our own machine on its own.
    if uri.host().is_some_and(|host| host == "localhost" || host == "[::1]" || host.starts_with("127.")) {
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

/// What `POST /api/token` answers.
#[derive(Deserialize)]
struct Answer {
    token: String,
    peer_id: String,
    #[serde(default)]
    expires_in: f64,
}

/// A problem document (RFC 9457), and the member that the original's clients read.
#[derive(Deserialize, Default)]
struct Problem {
    detail: Option<String>,
    error: Option<String>,
}

fn read_answer(status: u16, body: &str, retry_after: Option<Duration>) -> Result<Token, TokenError> {
    if !(200..300).contains(&status) {
        let problem: Problem = serde_json::from_str(body).unwrap_or_default();
        let said =
            problem.detail.or(problem.error).unwrap_or_else(|| format!("the service answered {status}"));
        let message = said.chars().take(MAX_DETAIL).collect();
        return Err(match status {
            401 | 403 => TokenError::Refused(message),
            _ => TokenError::Unavailable { retry_after, message },
        });
    }
    let answer: Answer = serde_json::from_str(body)
        .map_err(|_| unavailable("the answer is not that of a token exchange: is the address right?"))?;
    let peer = PeerId::parse(&answer.peer_id).map_err(|_| unavailable("the token is of nobody"))?;
    let good_for = Duration::try_from_secs_f64(answer.expires_in).unwrap_or_default();
    Ok(Token { text: Arc::new(Secret::new(answer.token)), peer, good_for })
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date.
pub(crate) fn retry_after_of(value: &str, now: SystemTime) -> Option<Duration> {
    let pause = match value.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(value.trim()).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(limits::LONGEST_PAUSE))
}

#[cfg(test)]
mod tests;
