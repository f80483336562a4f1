//! The history checker under traffic: clients that send, are cut off, come back and move, and nothing that the
//! contract rules out.

use heliograph_testkit::TestServer;
use heliograph_testkit::history::{Credential, Expectations, Introduced, Options, Swarm, expect_clean};
use heliograph_testkit::jwt::{SECRET, hand_signed};

/// Limits of a single address off: here all clients have one.
const SETTINGS: [(&str, &str); 4] = [
    ("SIGNING_SECRET", SECRET),
    ("MAX_UPGRADES_PER_SECOND", "0"),
    ("MAX_SOCKETS_PER_ADDRESS", "0"),
    ("REGISTER_DEADLINE", "60s"),
];

fn credentials(count: usize) -> Vec<Credential> {
    let credential = |peer: String| Credential { token: hand_signed(&peer), peer };
    (0..count).map(|i| credential(format!("peer-{i}"))).collect()
}

async fn swarm(server: &TestServer, count: usize, options: Options) -> Swarm {
    let swarm = Swarm::start(server.addresses(), &credentials(count), options).await;
    swarm.start_traffic();
    swarm
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_peers_talk_and_nothing_is_wrong() {
    let server = TestServer::start_with_peers(20, &SETTINGS).await;
    let swarm = swarm(&server, 20, Options { rate: 20.0, ..Options::default() }).await;
    swarm.more_traffic(1_000).await;
    let expected = Expectations {
        codes: true,
        nothing_lost: true,
        introduced: Introduced::Everyone,
        ..swarm.expectations()
    };
    let sums = expect_clean(&swarm.finish().await, &expected);
    assert!(sums.sent >= 1_000, "{sums:?}");
    assert_eq!(
        (sums.sent, sums.sent, 0, 0),
        (sums.received, sums.delivered, sums.open, sums.unsure),
        "{sums:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_cut_off_come_back_to_everything() {
    let server = TestServer::start_with_peers(12, &SETTINGS).await;
    let swarm = swarm(&server, 12, Options { rate: 30.0, ..Options::default() }).await;
    for round in 0..10 {
        swarm.more_traffic(100).await;
        swarm.reset(round % 12).await;
        swarm.abandon((round + 5) % 12).await;
    }
    let expected = swarm.expectations();
    let sums = expect_clean(&swarm.finish().await, &expected);
    assert!(sums.resumed >= 15, "{sums:?}");
    assert_eq!((sums.fresh, sums.lost, sums.open, sums.errors), (0, 0, 0, 0), "{sums:?}");
}
