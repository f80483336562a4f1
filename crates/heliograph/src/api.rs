//! The server's HTTP interface, as commands need it.

use std::fmt::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow};
use heliograph_auth::secret::Secret;
use serde_json::{Value, json};
use ureq::http::{Method, Request, Response};

use crate::cli::ServerArgs;
use crate::failure::Failure;

/// Where `heliograph dev` listens.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:8080";
/// Longest answer that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// Longer than the server's longest wait.
const DEADLINE: Duration = Duration::from_secs(70);
/// Rows asked for at once; the server gives no more.
const PAGE: usize = 500;

/// A server, and whom we are to it.
pub(crate) struct Api {
    agent: ureq::Agent,
    server: String,
    key: Option<Secret>,
}

/// An answer with a good status.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body; null when it is no JSON.
    pub(crate) body: Value,
    /// The server's clock, to the second.
    pub(crate) date: Option<SystemTime>,
}

impl Api {
    /// The server that the flags name.
    pub(crate) fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let named = args.server.clone().or_else(|| variable("HELIOGRAPH_SERVER"));
        let server = named.as_deref().unwrap_or(DEFAULT_SERVER).trim().trim_end_matches('/');
        if !server.starts_with("http://") && !server.starts_with("https://") {
            return Err(Failure::usage(format!(
                "--server {server:?} is not an address; write it like http://127.0.0.1:8080"
            )));
        }
        Ok(Self { agent: agent(server), server: server.to_owned(), key: key(args)? })
    }

    /// A server at another address, as nobody.
    pub(crate) fn anonymous(server: &str) -> Self {
        Self { agent: agent(server), server: server.to_owned(), key: None }
    }

    /// The address.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The key, or what to do about having none.
    pub(crate) fn require_key(&self) -> Result<&Secret, Failure> {
        self.key.as_ref().ok_or_else(|| {
            Failure::usage(
                "this needs an API key: set HELIOGRAPH_KEY (`heliograph dev` prints one at its first start)",
            )
        })
    }

    /// Whether there is a key.
    pub(crate) fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// `GET`, as an administrator.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.call(&Method::GET, path, None)
    }

    /// `POST`, as an administrator.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        self.call(&Method::POST, path, Some(body))
    }

    /// `DELETE`, as an administrator.
    pub(crate) fn delete(&self, path: &str) -> Result<Answer, Failure> {
        self.call(&Method::DELETE, path, None)
    }

    fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer, Failure> {
        let key = self.require_key()?;
        Ok(self.send(method, path, &[("x-api-key", key.expose())], body)?)
    }

    /// A call with headers of its own.
    pub(crate) fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Answer> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(body).map_err(|_| anyhow!("the key or an id cannot be sent over HTTP"))?;
        let response = self.agent.run(request).map_err(|error| self.unreachable(&error))?;
        self.answer(response)
    }

    fn answer(&self, response: Response<ureq::Body>) -> anyhow::Result<Answer> {
        let status = response.status();
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (date, location, retry_after) = (header("date"), header("location"), header("retry-after"));
        let text = response.into_body().into_with_config().limit(MAX_ANSWER_BYTES).read_to_string();
        let text = text.with_context(|| format!("the answer of {} cannot be read", self.server))?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_redirection() {
            let to = location.unwrap_or_else(|| "somewhere else".into());
            return Err(anyhow!("{} sends on to {to}; give the right address with --server", self.server));
        }
        if !status.is_success() {
            return Err(anyhow::Error::new(refusal(status.as_u16(), &body, retry_after.as_deref())));
        }
        let date = date.and_then(|date| httpdate::parse_http_date(&date).ok());
        Ok(Answer { status: status.as_u16(), body, date })
    }

    fn unreachable(&self, error: &ureq::Error) -> anyhow::Error {
        anyhow!(
            "cannot reach {} ({error}): start it with `heliograph dev`, or name another server with --server",
            self.server
        )
    }

    /// All rows of a list, up to `limit`, and whether there are more. `query` is the path's, without the cursor.
    pub(crate) fn rows(
        &self,
        path: &str,
        member: &str,
        mesh: Option<&str>,
        limit: usize,
    ) -> Result<List, Failure> {
        let mut rows = vec![];
        let mut cursor = None;
        while rows.len() < limit {
            let mut url = format!("{path}?limit={}", PAGE.min(limit - rows.len()));
            for (name, value) in [("mesh", mesh), ("cursor", cursor.as_deref())] {
                if let Some(value) = value {
                    _ = write!(url, "&{name}={}", encode(value));
                }
            }
            let mut answer = self.get(&url)?.body;
            let page = answer[member].as_array_mut().map(std::mem::take);
            rows.extend(
                page.ok_or_else(|| anyhow!("{} answers without {member:?}: is it heliograph?", self.server))?,
            );
            cursor = answer["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        Ok(List { member: member.to_owned(), rows, more: cursor.is_some() })
    }
}

/// A list, or its beginning.
pub(crate) struct List {
    member: String,
    pub(crate) rows: Vec<Value>,
    /// Whether the limit cut it off.
    pub(crate) more: bool,
}

impl List {
    /// In the form in which the server gives it.
    pub(crate) fn to_json(&self) -> Value {
        json!({ &self.member: self.rows, "more": self.more })
    }
}

/// Whether the server answered that there is no such thing.
pub(crate) fn is_not_found(failure: &Failure) -> bool {
    matches!(failure, Failure::Failed(error) if Refusal::of(error).is_some_and(|refusal| refusal.status == 404))
}

/// A refusal in words. The server's own come first: they are meant to be shown.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The HTTP status.
    pub(crate) status: u16,
    /// When it may be tried again, if the server says so.
    pub(crate) retry_after: Option<Duration>,
    text: String,
}

impl Refusal {
    /// The refusal that a call ended with; `None` if there was no answer, or none that can be read.
    pub(crate) fn of(error: &anyhow::Error) -> Option<&Self> {
        error.downcast_ref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

fn refusal(status: u16, problem: &Value, retry_after: Option<&str>) -> Refusal {
    let detail = ["detail", "error", "title"].iter().find_map(|member| problem[*member].as_str());
    let mut text = detail.map_or_else(|| format!("the server answered with status {status}"), str::to_owned);
    let current = problem["current_status"].as_str().filter(|current| !text.contains(current));
    if let Some(current) = current {
        _ = write!(text, "; it is {current}");
    }
    match (status, retry_after) {
        (401, _) => text.push_str("; give a key that it knows with HELIOGRAPH_KEY or --key"),
        (_, Some(seconds)) => _ = write!(text, "; try again in {seconds} s"),
        _ => {}
    }
    if let Some(code) = problem["code"].as_str() {
        _ = write!(text, " [{status} {code}]");
    }
    let seconds = retry_after.and_then(|seconds| seconds.trim().parse().ok());
    Refusal { status, retry_after: seconds.map(Duration::from_secs), text }
}

fn agent(server: &str) -> ureq::Agent {
    // The provider that signs tokens also encrypts.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build();
    let mut config = ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_connect(Some(CONNECT_DEADLINE))
        .timeout_global(Some(DEADLINE))
        .http_status_as_error(false)
        .user_agent(concat!("heliograph/", env!("CARGO_PKG_VERSION")))
        // A key goes to the server that was named and nowhere else.
        .max_redirects(0)
        .max_redirects_will_error(false);
    if is_local(server) {
        config = config.proxy(None);
    }
    config.build().new_agent()
}

/// A proxy would look for our own machine on its own.
fn is_local(server: &str) -> bool {
    let host = server.split_once("://").map_or(server, |(_, rest)| rest);
    ["localhost", "127.", "[::1]"].iter().any(|local| host.starts_with(local))
}

/// The key that the flags give, else the environment.
fn key(args: &ServerArgs) -> Result<Option<Secret>, Failure> {
    let (key, file) = match (&args.key, &args.key_file) {
        (None, None) => (variable("HELIOGRAPH_KEY"), variable("HELIOGRAPH_KEY_FILE").map(PathBuf::from)),
        (key, file) => (key.clone(), file.clone()),
    };
    let text = match (key, file) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage(
                "HELIOGRAPH_KEY and HELIOGRAPH_KEY_FILE are both set; keep one of them",
            ));
        }
        (Some(key), None) => key,
        (None, Some(path)) => std::fs::read_to_string(&path).map_err(|error| {
            Failure::usage(format!("cannot read the key file {}: {error}", path.display()))
        })?,
        (None, None) => return Ok(None),
    };
    Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(Secret::new))
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A value as a part of a path or query.
pub(crate) fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_to_do() {
        let told = json!({"detail": "it is revoked", "current_status": "revoked"});
        assert_eq!(refusal(409, &told, None).text, "it is revoked");
        let problem = json!({"detail": "no", "code": "conflict", "current_status": "revoked"});
        assert_eq!(refusal(409, &problem, None).text, "no; it is revoked [409 conflict]");
        assert_eq!(refusal(429, &json!({"error": "slow"}), Some("7")).text, "slow; try again in 7 s");
        assert_eq!(refusal(502, &Value::Null, None).text, "the server answered with status 502");
        assert!(refusal(401, &Value::Null, None).text.ends_with("with HELIOGRAPH_KEY or --key"));
    }

    #[test]
    fn ids_cannot_leave_their_place_in_a_path() {
        assert_eq!(encode("a/../b?c#d é"), "a%2F..%2Fb%3Fc%23d%20%C3%A9");
    }

    #[test]
    fn own_machine_needs_no_proxy() {
        assert!(
            is_local("http://127.0.0.1:8080") && is_local("https://localhost") && is_local("http://[::1]:1")
        );
        assert!(!is_local("https://signal.example"));
    }
}
