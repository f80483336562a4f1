//! Through a real TURN server, with the configuration that the project ships.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::*;
use crate::rtc::tests::relay::{Coturn, SECRET, vended};

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
