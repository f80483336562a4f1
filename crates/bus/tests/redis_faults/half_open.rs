//! Links that are silent in one direction while nobody says that they are broken.

use heliograph_bus::redis::Options;
use heliograph_bus::testing::{TestNode, signal};
use heliograph_bus::{Lost, Sent};
use heliograph_sandbox::{Direction, Proxy, Redis};

use crate::picky::{Picky, Way};
use crate::redis_support::{node, nodes, of_its_own, until};
use crate::traffic::{Traffic, to};

/// A node with a good link to Redis, and one whose link can be spoilt.
async fn two_nodes(redis: &Redis) -> (TestNode, TestNode, Proxy) {
    let proxy = Proxy::to(redis.nodes()[0].address()).await.unwrap();
    let url = of_its_own(&redis.url());
    let good = nodes(&Options::parse(&url).unwrap(), 1).await.remove(0);
    let spoilt = node(&Options::parse(&proxy.through(&url)).unwrap(), "spoilt");
    until("both are up", || good.link.bus.is_up() && spoilt.link.bus.is_up()).await;
    (good, spoilt, proxy)
}

async fn check(fault: impl Fn(&Proxy)) {
    let redis = Redis::standalone().await.unwrap();
    let (good, spoilt, proxy) = two_nodes(&redis).await;
    let receiving = Traffic::start(&good, &spoilt).await;
    receiving.flows().await;
    fault(&proxy);
    // Nothing is sent over the link now but what the bus tries itself.
    until("the spoilt link is noticed", || !spoilt.link.bus.is_up()).await;
    until("the way out is known to be closed", || {
        spoilt.link.bus.send(to(0), signal("b", "x")) == Sent::Down
    })
    .await;
    assert!(good.link.bus.is_up());
    proxy.heal();
    until("the node is up again", || spoilt.link.bus.is_up()).await;
    receiving.flows().await;
    receiving.check();
    good.link.bus.subscribe(to(1_000)).await.unwrap();
    assert_eq!(spoilt.link.bus.send(to(1_000), signal("b", "back")), Sent::Queued);
    good.log.wait_for(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_not_heard() {
    check(|proxy| proxy.half_open(Direction::ToClient)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_does_not_hear() {
    check(|proxy| proxy.half_open(Direction::ToServer)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_hears_the_other() {
    check(|proxy| proxy.half_open(Direction::Both)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_is_cut() {
    check(Proxy::cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_into_a_silent_link_comes_back() {
    let redis = Redis::standalone().await.unwrap();
    let (good, spoilt, proxy) = two_nodes(&redis).await;
    good.link.bus.subscribe(to(0)).await.unwrap();
    proxy.half_open(Direction::ToServer);
    assert_eq!(spoilt.link.bus.send(to(0), signal("b", "1")), Sent::Queued);
    until("it came back", || !spoilt.log.came_back().is_empty()).await;
    assert_eq!(spoilt.log.came_back()[0].2, Lost::Down);
    proxy.heal();
    until("the node is up again", || spoilt.link.bus.is_up()).await;
    spoilt.link.bus.send(to(0), signal("b", "2"));
    // Whether the first one arrives after all is up to the network; it is not sent again, and not after the second.
    until("the second one arrives", || {
        good.log.all().last().is_some_and(|(_, last)| *last == signal("b", "2"))
    })
    .await;
    let arrived = good.log.all();
    let all = [(to(0), signal("b", "1")), (to(0), signal("b", "2"))];
    assert!(arrived == all || arrived == all[1..], "{arrived:?}");
}

/// The publisher's connection is well all the time, so that nothing but the subscriber itself can notice.
async fn check_subscriber(way: Way, notices: impl AsyncFn(&TestNode)) {
    let redis = Redis::standalone().await.unwrap();
    let server = redis.nodes()[0].address();
    let picky = Picky::to(server).await;
    let url = of_its_own(&redis.url());
    let good = nodes(&Options::parse(&url).unwrap(), 1).await.remove(0);
    let through = url.replace(&server.to_string(), &picky.address.to_string());
    let silenced = node(&Options::parse(&through).unwrap(), "silenced");
    until("the node is up", || silenced.link.bus.is_up()).await;
    let receiving = Traffic::start(&good, &silenced).await;
    receiving.flows().await;
    picky.silence_subscribers(way);
    notices(&silenced).await;
    receiving.flows().await;
    until("the node is up again", || silenced.link.bus.is_up()).await;
    assert_eq!(silenced.link.bus.send(to(0), signal("b", "x")), Sent::Queued);
    receiving.check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_hears_nothing_is_replaced() {
    check_subscriber(Way::ToClient, async |node| {
        until("it is noticed", || !node.link.bus.is_up()).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_that_is_not_heard_is_replaced() {
    check_subscriber(Way::ToServer, async |node| {
        until("it is noticed", || !node.link.bus.is_up()).await;
        until("the node is up again", || node.link.bus.is_up()).await;
        node.link.bus.subscribe(to(1_000)).await.unwrap();
    })
    .await;
}
