//! Whose request it is, when proxies stand between.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

/// The client's address, worked out by the accept loop and put into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Proxies whose word on the client's address counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// These networks.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client behind `socket`: the rightmost address of `X-Forwarded-For` that no trusted proxy has. What
    /// stands further left was written by the client and proves nothing.
    pub fn client(&self, socket: SocketAddr, headers: &HeaderMap) -> ClientAddress {
        let mut client = socket.ip().to_canonical();
        let forwarded: Vec<&str> = headers
            .get_all("x-forwarded-for")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for hop in forwarded.iter().rev() {
            if !self.trusts(client) {
                break;
            }
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            client = address.to_canonical();
        }
        ClientAddress(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(trusted: &[&str], socket: &str, forwarded: Option<&str>, expect: &str) {
        let proxies = TrustedProxies::new(trusted.iter().map(|net| net.parse().unwrap()).collect());
        let mut headers = HeaderMap::new();
        if let Some(value) = forwarded {
            headers.insert("x-forwarded-for", value.parse().unwrap());
        }
        let client = proxies.client(socket.parse().unwrap(), &headers);
        assert_eq!(client, ClientAddress(expect.parse().unwrap()));
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        check(&[], "10.0.0.1:1", Some("1.2.3.4"), "10.0.0.1");
        check(&["10.0.0.0/8"], "10.0.0.1:1", Some("1.2.3.4"), "1.2.3.4");
        check(&["10.0.0.0/8"], "10.0.0.1:1", Some("6.6.6.6, 1.2.3.4, 10.0.0.9"), "1.2.3.4");
        check(&["10.0.0.0/8"], "10.0.0.1:1", Some("garbage"), "10.0.0.1");
        check(&["10.0.0.0/8"], "9.9.9.9:1", Some("1.2.3.4"), "9.9.9.9");
        check(&["10.0.0.0/8"], "10.0.0.1:1", None, "10.0.0.1");
    }
}
