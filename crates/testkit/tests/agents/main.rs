//! Agents as users run them: processes on different gateways of a cluster, with programs at their bridges.

#![expect(clippy::unwrap_used, reason = "a panic is how tests and their helpers fail")]

mod bad_input;
mod examples;
mod rolling;

use std::time::Duration;

use futures_util::future::join_all;
use heliograph_testkit::{Agent, Cluster, LocalProgram, Plan, in_time, text};
use serde_json::{Value, json};

/// In each direction.
const MESSAGES: usize = 10_000;
/// How long a burst may take: the bound is there so that nothing hangs.
const BURST: Duration = Duration::from_mins(1);

/// The agent of `peer-N`, on the gateway whose turn it is.
async fn agent(cluster: &Cluster, number: usize) -> Agent {
    let node = cluster.node(number % cluster.nodes().len());
    Agent::start(&peer(number), &format!("http://{}", node.address()), &key(number)).await
}

fn peer(number: usize) -> String {
    format!("peer-{number}")
}

fn key(number: usize) -> String {
    format!("ak_test_peer-{number}")
}

/// So many agents, each with a program.
async fn agents(cluster: &Cluster, count: usize) -> Vec<(Agent, LocalProgram)> {
    join_all((0..count).map(async |number| {
        let agent = agent(cluster, number).await;
        let program = agent.attach().await;
        (agent, program)
    }))
    .await
}

/// Two agents on two gateways, whose channel is open.
async fn pair(cluster: &Cluster) -> [(Agent, LocalProgram); 2] {
    let mut agents = agents(cluster, 2).await;
    join_all(agents.iter_mut().enumerate().map(|(number, (_, program))| all_connected(program, number, 2)))
        .await;
    agents.try_into().unwrap()
}

#[tokio::test]
async fn two_agents_on_two_gateways_pass_ten_thousand_messages_both_ways() {
    let cluster = Plan::nodes(2).peers(2).start().await;
    let [(a, a_hears), (b, b_hears)] = pair(&cluster).await;
    let (a_says, b_says) = (a.attach().await, b.attach().await);

    let burst = async {
        tokio::join!(
            say_all(a_says, "peer-1"),
            say_all(b_says, "peer-0"),
            hear_all(a_hears, "peer-1"),
            hear_all(b_hears, "peer-0"),
        )
    };
    tokio::time::timeout(BURST, burst).await.unwrap();
}

async fn say_all(mut program: LocalProgram, to: &str) {
    for number in 0..MESSAGES {
        let message = json!({"type": "task_request", "request_id": number.to_string(), "payload": {"text": "x".repeat(number % 700)}});
        program.send(to, &message).await;
    }
    // Until its messages are through, nobody hangs up.
    program.say(r#"{"type":"list_peers","payload":{}}"#).await;
    program.expect("peer_list").await;
}

async fn hear_all(mut program: LocalProgram, from: &str) {
    for number in 0..MESSAGES {
        let (sender, message) = program.message().await;
        assert_eq!((sender.as_str(), text(&message, "request_id")), (from, number.to_string()));
        assert_eq!(text(&message["payload"], "text").len(), number % 700, "{number}");
    }
}

#[tokio::test]
async fn five_agents_have_ten_channels() {
    let cluster = Plan::nodes(3).peers(5).start().await;
    let mut agents = agents(&cluster, 5).await;
    join_all(agents.iter_mut().enumerate().map(|(number, (_, program))| all_connected(program, number, 5)))
        .await;

    // Each of the twenty directions of the ten channels carries a message.
    for (number, (_, program)) in agents.iter_mut().enumerate() {
        let message = json!({"type": "agent_status", "source_agent": peer(number), "target_agent": "*"});
        program.say(&json!({"type": "broadcast", "payload": {"message": message}}).to_string()).await;
    }
    for (number, (_, program)) in agents.iter_mut().enumerate() {
        let mut heard = vec![];
        for _ in 0..4 {
            let (from, message) = program.message().await;
            assert_eq!(message["source_agent"], from.as_str());
            heard.push(from);
        }
        heard.sort();
        let others: Vec<_> = (0..5).filter(|other| *other != number).map(peer).collect();
        assert_eq!(heard, others, "at {number}");
    }
}

async fn all_connected(program: &mut LocalProgram, number: usize, count: usize) {
    let mut missing: Vec<_> = (0..count).filter(|other| *other != number).map(peer).collect();
    while !missing.is_empty() {
        let connected = program.expect("peer_connected").await;
        missing.retain(|peer| connected["peer_id"] != peer.as_str());
    }
}

#[tokio::test]
async fn a_killed_agent_is_reconnected_when_it_is_back() {
    let cluster = Plan::nodes(2).peers(3).start().await;
    let mut agents = agents(&cluster, 3).await;
    join_all(agents.iter_mut().enumerate().map(|(number, (_, program))| all_connected(program, number, 3)))
        .await;

    agents[0].0.kill();
    agents[0].0.start_again().await;
    agents[0].1 = agents[0].0.attach().await;
    all_connected(&mut agents[0].1, 0, 3).await;
    for number in [1, 2] {
        // The others saw the old channel end, and the new one begin.
        agents[number].1.disconnected("peer-0").await;
        agents[number].1.connected("peer-0").await;
        agents[0].1.send(&peer(number), &json!({"type": "ping", "request_id": "again"})).await;
        let (from, message) = agents[number].1.message().await;
        assert_eq!((from.as_str(), &message["request_id"]), ("peer-0", &json!("again")));
    }
}

#[tokio::test]
async fn a_revoked_peer_loses_its_channels_and_its_agent_ends_with_a_clear_word() {
    let cluster = Plan::nodes(2).peers(3).start().await;
    let mut agents = agents(&cluster, 3).await;
    join_all(agents.iter_mut().enumerate().map(|(number, (_, program))| all_connected(program, number, 3)))
        .await;

    cluster.access().admin().post_empty("/api/pairing/peer-0/revoke").await.expect(200);
    let (left, right) = agents.split_at_mut(2);
    tokio::join!(left[1].1.disconnected("peer-0"), right[0].1.disconnected("peer-0"));
    let status = agents[0].0.ended().await;
    assert_eq!(status.code(), Some(1), "{}", agents[0].0.log());
    assert!(agents[0].0.log().contains("revoked"), "{}", agents[0].0.log());

    // Nobody else lost anything.
    let (left, right) = agents.split_at_mut(2);
    left[1].1.send("peer-2", &json!({"type": "ping"})).await;
    assert_eq!(right[0].1.message().await.0, "peer-1");
}

#[tokio::test]
async fn a_second_agent_of_the_same_peer_takes_over() {
    let cluster = Plan::nodes(2).peers(2).start().await;
    let [(first, _), (_b, mut b)] = pair(&cluster).await;
    let second = agent(&cluster, 0).await;
    assert_eq!(first.ended().await.code(), Some(1), "{}", first.log());
    assert!(first.log().contains("newer session"), "{}", first.log());

    let mut program = second.attach().await;
    program.connected("peer-1").await;
    program.send("peer-1", &json!({"type": "ping", "request_id": "second"})).await;
    loop {
        if b.message().await.1["request_id"] == "second" {
            break;
        }
    }
}

#[tokio::test]
async fn an_agent_that_ends_takes_leave() {
    let cluster = Plan::nodes(1).peers(2).start().await;
    let [(a, _), (_b, mut b)] = pair(&cluster).await;
    let socket = a.socket().to_owned();
    assert_eq!(a.stop().await.code(), Some(0), "{}", a.log());
    assert!(!socket.exists());
    in_time("the other hears of it", b.disconnected("peer-0")).await;
}

#[tokio::test]
async fn what_cannot_be_sent_is_answered() {
    let cluster = Plan::nodes(1).peers(1).start().await;
    let lonely = agent(&cluster, 0).await;
    let mut program = lonely.attach().await;
    program.send("nobody", &json!({"type": "ping"})).await;
    let error: Value = program.expect("error").await;
    assert_eq!((&error["code"], &error["peer"]), (&json!("unknown_peer"), &json!("nobody")), "{error}");
    program.say(r#"{"type":"connect","payload":{"target_peer_id":"nobody"}}"#).await;
    assert_eq!(program.expect("error").await["peer"], "nobody");
}
