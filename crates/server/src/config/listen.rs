//! Where the node listens, and whom it believes there.

use std::fmt;
use std::net::SocketAddr;

use heliograph_http::TrustedProxies;
use ipnet::IpNet;

use super::setting::Preset::{PerMode, Unset};
use super::setting::section;
use super::source::Reader;
use super::value::Scalar;

section! {
    "Listeners";
    /// Where the node listens, and whom it believes there.
    pub struct ListenConfig {
        /// Public listener: sockets, token exchange, pairing, admin API, console.
        /// `PORT` (only the port, on all addresses) is accepted.
        listen: SocketAddr = PerMode { dev: "127.0.0.1:8080", serve: "0.0.0.0:8080" }, also "PORT" via every_address;
        /// `/livez`, `/readyz`, `/startupz`, `/metrics` and nothing else. Not for the public.
        ops_listen: SocketAddr = PerMode { dev: "127.0.0.1:9464", serve: "0.0.0.0:9464" };
        /// When set, admin API and console move here, off the public listener.
        admin_listen: Option<SocketAddr> = Unset;
        /// Origins (`https://app.example`) from which browsers may connect. None: only pages of the same origin.
        allowed_origins: Vec<Origin> = Unset;
        /// Networks of proxies whose `X-Forwarded-For` is believed. None: the socket's address is the client's.
        trusted_proxies: Vec<IpNet> = Unset;
    }
}

fn every_address(port: &str) -> String {
    format!("0.0.0.0:{}", port.trim())
}

impl ListenConfig {
    /// The proxies in the form that handlers use.
    pub fn proxies(&self) -> TrustedProxies {
        TrustedProxies::new(self.trusted_proxies.clone())
    }

    pub(super) fn check(&self, reader: &mut Reader<'_>) {
        let mut taken = vec![("listen", self.listen)];
        for (key, address) in [("ops_listen", Some(self.ops_listen)), ("admin_listen", self.admin_listen)] {
            let Some(address) = address else { continue };
            if let Some((other, _)) = taken.iter().find(|(_, used)| clash(*used, address)) {
                reader
                    .object(key, &format!("{address} is taken by {other}; give each listener its own port"));
            }
            taken.push((key, address));
        }
    }
}

/// Port 0 is a new port each time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let same_address = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && same_address
}

/// A web origin: scheme, host and port, as browsers send it in `Origin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// As browsers write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Scalar for Origin {
    const KIND: &'static str = "origin";

    fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let wrong =
            "is not an origin; write it like https://app.example or http://localhost:3000, without a path";
        let (scheme, host) = lower.split_once("://").ok_or(wrong)?;
        let host = host.strip_suffix('/').unwrap_or(host);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
        if !["http", "https"].contains(&scheme) || host.is_empty() || !host.chars().all(plain) {
            return Err(wrong.into());
        }
        // Browsers leave the scheme's own port out.
        let own_port = if scheme == "https" { ":443" } else { ":80" };
        let host = host.strip_suffix(own_port).unwrap_or(host);
        Ok(Self(format!("{scheme}://{host}")))
    }
}
