//! The history checker under traffic: clients that send, are cut off, come back and move, and nothing that the
//! contract rules out.

use heliograph_testkit::TestServer;
use heliograph_testkit::history::{
    Credential, Event, Expectations, History, Introduced, Options, Rule, Swarm, What, check, expect_clean,
};
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

/// The rules that a history breaks.
fn broken(history: &[Event], expected: &Expectations) -> Vec<Rule> {
    let violations = check(&History(history.to_vec()), expected).err().unwrap_or_default();
    violations.iter().map(|violation| violation.rule).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_is_answered_too_early_is_noticed() {
    let server = TestServer::start_with_peers(8, &SETTINGS).await;
    let swarm = swarm(&server, 8, Options { rate: 50.0, ..Options::default() }).await;
    swarm.more_traffic(200).await;
    server.revoke("peer-0").await;
    swarm.recorder().record(&"administrator".into(), 0, What::RevokeAnswered("peer-0".into()));
    for client in 0..8 {
        swarm.ask(client).await;
    }
    swarm.more_traffic(200).await;
    let expected = swarm.expectations();
    let History(mut events) = swarm.finish().await;
    assert_eq!(broken(&events, &expected), []);

    // What would be seen had the answer come before the last message of the peer was sent, or that message been written
    // after the answer.
    let is_answer = |event: &Event| matches!(event.what, What::RevokeAnswered(_));
    let answered = events.iter().position(is_answer).unwrap();
    let last = events[..answered].iter().rev().find_map(|event| match &event.what {
        What::Received { from, id, .. } if **from == *"peer-0" => Some(id.clone()),
        _ => None,
    });
    let last = last.unwrap();
    let write = Event { what: What::WriteBegan(last.clone()), ..events[answered].clone() };
    for (place, rules) in [(answered, vec![]), (answered + 1, vec![Rule::AfterRevoke])] {
        events.insert(place, write.clone());
        assert_eq!(broken(&events, &expected), rules);
        events.remove(place);
    }
    let answer = events.remove(answered);
    let is_sent = |event: &Event| matches!(&event.what, What::Sent { id, .. } if *id == last);
    let sent = events.iter().position(is_sent).unwrap();
    events.insert(sent, answer);
    let found = broken(&events, &expected);
    assert!(!found.is_empty() && found.iter().all(|rule| *rule == Rule::AfterRevoke), "{found:?}");
}
