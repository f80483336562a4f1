//! Connections through a real TURN server, with the configuration that the project ships.

#[expect(dead_code, reason = "the tests of TURN itself use more of it")]
#[path = "../../../../testkit/tests/turn/coturn.rs"]
mod coturn;

use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

use heliograph_auth::secret::Secret;
use heliograph_auth::turn::IceConfig;
use heliograph_testkit::eventually;

use super::*;
pub(crate) use coturn::Coturn;

pub(crate) const SECRET: &str = "a secret shared with coturn";

/// What the service would give to `peer`.
pub(crate) fn vended(coturn: &Coturn, peer: &str) -> Vec<IceServer> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let vendor = IceConfig {
        turn_urls: vec![coturn.url()],
        turn_secret: Some(Secret::new(SECRET)),
        ..IceConfig::default()
    };
    let peer = heliograph_core::id::PeerId::parse(peer).unwrap();
    let servers = vendor.servers_for(Some(&peer), now).into_iter().map(|server| IceServer {
        urls: server.urls,
        username: server.username,
        credential: server.credential.map(|credential| Arc::new(Secret::new(credential))),
    });
    servers.collect()
}

/// coturn holds an allocation to the name that it was opened with, and each new credential has a new name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_credentials_are_for_new_allocations_alone() {
    let coturn = Coturn::start_with(&[SECRET], &["--verbose"]).await;
    let settings = |peer| Settings {
        relay_only: true,
        listen: vec![Ipv4Addr::LOCALHOST.into()],
        ice_servers: vended(&coturn, peer),
        ..Settings::default()
    };
    let mut a = Side::open_with(&settings("a")).await;
    let mut b = Side::open_with(&settings("b")).await;
    connect(&mut a, &mut b).await;
    a.connection.configure(vended(&coturn, "a-renewed"));
    b.connection.configure(vended(&coturn, "b-renewed"));

    // Said again without a restart, as a page may: the allocations stay, and so do their names.
    negotiate(&a.connection, &b.connection, false).await;
    converse(&mut a, &mut b).await;
    negotiate(&a.connection, &b.connection, true).await;
    converse(&mut a, &mut b).await;
    for peer in ["a", "b"] {
        let given_back = format!(":{peer}>: incoming packet REFRESH processed, success");
        let opened = format!(":{peer}-renewed>: incoming packet ALLOCATE processed, success");
        eventually("a new allocation in place of the old one", async || {
            let log = coturn.log();
            (log.contains(&given_back) && log.contains(&opened)).then_some(())
        })
        .await;
    }
    assert!(!coturn.log().contains("error 441"), "{}", coturn.log());
    tokio::join!(a.connection.close(), b.connection.close());
}
