//! Through a real TURN server, with the configuration that the project ships.

#[expect(dead_code, reason = "the tests of TURN itself use more of it")]
#[path = "../../../../testkit/tests/turn/coturn.rs"]
mod coturn;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use heliograph_auth::secret::Secret;
use heliograph_auth::turn::IceConfig;
use heliograph_client::IceServer;

use super::*;
use coturn::Coturn;

const SECRET: &str = "a secret shared with coturn";

/// What the service would give to `peer`.
fn vended(coturn: &Coturn, peer: &str) -> Vec<IceServer> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let vendor = IceConfig {
        turn_urls: vec![coturn.url()],
        turn_secret: Some(Secret::new(SECRET)),
        ..IceConfig::default()
    };
    let servers = vendor.servers_for(Some(&id(peer)), now).into_iter().map(|server| IceServer {
        urls: server.urls,
        username: server.username,
        credential: server.credential.map(|credential| Arc::new(Secret::new(credential))),
    });
    servers.collect()
}

/// Keeps what leaves.
fn overheard(by: &Arc<Mutex<Vec<Signal>>>) -> Fate {
    let by = by.clone();
    Box::new(move |signal| {
        by.lock().unwrap().push(signal.clone());
        Some(signal)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_only_side_is_reached_through_the_relay_and_shows_no_address() {
    let coturn = Coturn::start(&[SECRET]).await;
    let settings = PeerSettings { listen: vec![Ipv4Addr::LOCALHOST.into()], ..PeerSettings::default() };
    let hidden = PeerSettings { relay_only: true, ice_servers: vended(&coturn, "a"), ..settings.clone() };
    let left = Arc::default();
    let (to_b, at_b) = way();
    let (to_a, at_a) = way();
    let mut a = End::start("a", "b", &hidden, to_b(overheard(&left)), at_a);
    let mut b = End::start("b", "a", &settings, to_a(all()), at_b);
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    talk(&mut a, &mut b).await;

    let snapshot = a.peer.snapshot();
    assert_eq!(snapshot.pair.map(|pair| pair.local).as_deref(), Some("relay"));
    let mut candidates: Vec<String> = vec![];
    for signal in left.lock().unwrap().iter() {
        match signal {
            Signal::Candidate(candidate) => candidates.push(candidate.text.clone()),
            Signal::Offer(sdp) | Signal::Answer(sdp) => {
                candidates
                    .extend(sdp.lines().filter(|line| line.starts_with("a=candidate")).map(str::to_owned));
            }
        }
    }
    assert!(!candidates.is_empty());
    for candidate in candidates {
        assert!(candidate.contains(" typ relay raddr 0.0.0.0 rport 0"), "{candidate}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relay_only_sides_meet_and_new_credentials_serve_the_next_connection() {
    let coturn = Coturn::start(&[SECRET]).await;
    let hidden = |servers| PeerSettings {
        relay_only: true,
        listen: vec![Ipv4Addr::LOCALHOST.into()],
        ice_servers: servers,
        ..PeerSettings::default()
    };
    let (to_b, at_b) = way();
    let (to_a, at_a) = way();
    // What `a` has at first has expired.
    let mut expired = vended(&coturn, "a");
    for server in &mut expired {
        server.username = Some("1:a".into());
    }
    let mut a = End::start("a", "b", &hidden(expired), to_b(all()), at_a);
    let mut b = End::start("b", "a", &hidden(vended(&coturn, "b")), to_a(all()), at_b);
    a.peer.tell(ToPeer::Configure(vended(&coturn, "a")));
    a.peer.tell(ToPeer::Connect);
    tokio::join!(a.opens(), b.opens());
    talk(&mut a, &mut b).await;
    for end in [&a, &b] {
        assert_eq!(end.peer.snapshot().pair.map(|pair| pair.local).as_deref(), Some("relay"));
    }
}
