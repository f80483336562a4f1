//! Passwords and TLS.

use std::io::Write;
use std::sync::{Arc, Mutex};

use heliograph_bus::redis::{Options, connect};
use heliograph_bus::testing::{mesh, signal};
use heliograph_core::id::GatewayId;
use heliograph_sandbox::{Redis, RedisOptions};
use prometheus::Registry;

use crate::redis_support::{node, nodes, until};
use crate::traffic::to;

async fn passes(url: &str) {
    let nodes = nodes(&Options::parse(url).unwrap(), 2).await;
    nodes[1].link.bus.subscribe(to(0)).await.unwrap();
    nodes[0].link.bus.send(to(0), signal("a", "x"));
    nodes[1].log.wait_for(1).await;
}

/// What all tests of this process logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    fn start() -> Self {
        let logged = Self::default();
        let writer = logged.clone();
        tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).init();
        logged
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_opens_and_a_wrong_one_does_not() {
    let logged = Logged::start();
    let options = RedisOptions { password: Some("s3cret".into()), ..RedisOptions::default() };
    let redis = Redis::standalone_with(options).await.unwrap();
    passes(&redis.url()).await;
    let refused = node(&Options::parse(&redis.url().replace("s3cret", "wr0ng")).unwrap(), "refused");
    let error = refused.link.presence.online(&mesh()).await.unwrap_err();
    assert!(!refused.link.bus.is_up());
    assert!(!error.to_string().contains("wr0ng"), "{error}");
    let port = redis.nodes()[0].address().port().to_string();
    let complaints = || {
        let text = logged.text();
        let ours = text.lines().filter(|line| line.contains(&port) && line.contains("ERROR"));
        ours.filter(|line| line.contains("does not accept user and password")).count()
    };
    until("the log says what is wrong", || complaints() > 0).await;
    // Tried again and again, said once.
    assert_eq!(complaints(), 1);
    assert!(!logged.text().contains("wr0ng") && !logged.text().contains("s3cret"), "{}", logged.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_checked() {
    let options = RedisOptions { password: Some("s3cret".into()), tls: true, ..RedisOptions::default() };
    let redis = Redis::standalone_with(options).await.unwrap();
    let authority = redis.authority().unwrap();
    passes(&format!("{}?ca={}", redis.url(), authority.display())).await;
    // Another authority knows nothing of this server.
    let other = Redis::standalone_with(RedisOptions { tls: true, ..RedisOptions::default() }).await.unwrap();
    let other = other.authority().unwrap();
    let stranger =
        node(&Options::parse(&format!("{}?ca={}", redis.url(), other.display())).unwrap(), "stranger");
    assert!(stranger.link.presence.online(&mesh()).await.is_err());
    assert!(!stranger.link.bus.is_up());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_certificates_that_is_not_there_is_said_at_once() {
    let options = Options::parse("rediss://127.0.0.1:1?ca=/nowhere/ca.pem").unwrap();
    let id = GatewayId::parse("gw").unwrap();
    let error = connect(options, id, &Registry::new()).err().unwrap();
    assert!(error.to_string().contains("/nowhere/ca.pem"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_sharded_pubsub_serves() {
    let hidden =
        ["SPUBLISH", "SSUBSCRIBE"].map(|word| ["--rename-command".to_owned(), word.into(), String::new()]);
    let options = RedisOptions { arguments: hidden.concat(), ..RedisOptions::default() };
    let redis = Redis::standalone_with(options).await.unwrap();
    passes(&redis.url()).await;
}
