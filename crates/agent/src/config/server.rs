//! The service's addresses.

use std::fmt;

use http::Uri;

use super::ConfigError;

/// The address of a service, `http://…` or `https://…`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// Reads `text`, which `source` gave.
    pub fn parse(source: &str, text: &str) -> Result<Self, ConfigError> {
        let text = text.trim().trim_end_matches('/');
        let checked = check(source, text, &["http://", "https://"])?;
        if checked.contains('?') {
            return Err(ConfigError(format!(
                "{source}: give the address of the server alone, without a query"
            )));
        }
        Ok(Self(checked))
    }

    /// Where the service takes WebSockets.
    pub fn socket_url(&self) -> String {
        // `http` becomes `ws`, `https` becomes `wss`.
        format!("ws{}/ws", self.0.strip_prefix("http").unwrap_or(&self.0))
    }

    /// Where the service exchanges credentials for session tokens.
    pub fn token_url(&self) -> String {
        format!("{}/api/token", self.0)
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address that begins with one of `schemes` and names a host. Nothing is quoted: who puts a password or a token into an
/// address must not find it in a log.
pub(super) fn check(source: &str, text: &str, schemes: &[&str]) -> Result<String, ConfigError> {
    let wrong = |why: &str| {
        let example = schemes[0];
        Err(ConfigError(format!("{source} is not an address{why}; write it like {example}127.0.0.1:8080")))
    };
    let Some(scheme) = schemes.iter().find(|scheme| text.starts_with(**scheme)) else {
        return wrong(&format!(" that begins with {}", schemes.join(" or ")));
    };
    let authority = text[scheme.len()..].split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return wrong(": it has a name or password in it");
    }
    match text.parse::<Uri>() {
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) && !text.contains('#') => {
            Ok(text.to_owned())
        }
        _ => wrong(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_a_socket_and_gives_tokens() {
        let check = |text, socket: &str, token: &str| {
            let server = ServerUrl::parse("--server", text).unwrap();
            assert_eq!((server.socket_url().as_str(), server.token_url().as_str()), (socket, token));
        };
        check("http://h:8080", "ws://h:8080/ws", "http://h:8080/api/token");
        check(" https://h/ ", "wss://h/ws", "https://h/api/token");
        check("https://h/signal/", "wss://h/signal/ws", "https://h/signal/api/token");
        check("http://[::1]:8080", "ws://[::1]:8080/ws", "http://[::1]:8080/api/token");
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_quoted() {
        for text in [
            "",
            "h",
            "h:8080",
            "ws://h",
            "http://",
            "http://:80",
            "http:///x",
            "http://me:hunter2@h",
            "http://h/#x",
            "http://h?token=hunter2",
            "http://h h",
            "ftp://hunter2",
        ] {
            let said = ServerUrl::parse("--server", text).expect_err(text).to_string();
            assert!(said.starts_with("--server") && !said.contains("hunter2"), "{text}: {said}");
        }
    }
}
