//! `cargo xtask cluster`, with the product's own program: it serves through the load balancer, brings a gateway back,
//! and leaves nothing.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests fail by a panic")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use heliograph_sandbox::{Process, Program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

async fn eventually<T>(what: &str, mut state: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = state().await {
            return value;
        }
        assert!(Instant::now() < give_up, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Starts a cluster; where everything is.
async fn start(arguments: &[&str]) -> (Process, Value) {
    let product = std::env::var("HELIOGRAPH_BIN")
        .expect("set HELIOGRAPH_BIN to the built binary, e.g. HELIOGRAPH_BIN=$PWD/target/debug/heliograph");
    let mut process = Program::new(env!("CARGO_BIN_EXE_heliograph-cluster"))
        .args(["--json", "--port", "0", "--heliograph", &product])
        .args(arguments)
        .start()
        .unwrap();
    let line = eventually("the cluster runs", async || {
        process.must_run().unwrap();
        process.output().lines().next().map(str::to_owned)
    });
    let places = serde_json::from_str(&line.await).unwrap();
    (process, places)
}

/// What follows `http://`.
fn address(url: &Value) -> SocketAddr {
    url.as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
}

/// The head and the body of an answer, as far as they come in one piece.
async fn ask(at: SocketAddr, head: &str, body: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(at).await.ok()?;
    let length = body.len();
    let request = format!(
        "{head}\r\nHost: {at}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = vec![];
    let mut bytes = [0; 4096];
    loop {
        let length = stream.read(&mut bytes).await.ok().filter(|length| *length > 0)?;
        answer.extend(&bytes[..length]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && (body.ends_with('}') || head.starts_with("HTTP/1.1 101"))
        {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}

async fn post(at: SocketAddr, path: &str, key: &str, body: &Value) -> Option<Value> {
    let (head, body) =
        ask(at, &format!("POST {path} HTTP/1.1\r\nx-api-key: {key}"), &body.to_string()).await?;
    head.starts_with("HTTP/1.1 20").then(|| serde_json::from_str(&body).unwrap())
}

async fn opens_a_socket(balancer: SocketAddr, admin_key: &str, peer: &str) -> bool {
    let wanted = json!({ "peer_id": peer, "role": "agent" });
    let Some(key) = post(balancer, "/api/keys", admin_key, &wanted).await else { return false };
    let key = key["key"].as_str().unwrap().to_owned();
    let Some(token) = post(balancer, "/api/token", &key, &json!({})).await else { return false };
    let upgrade = format!(
        "GET /ws?token={} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        token["token"].as_str().unwrap()
    );
    ask(balancer, &upgrade, "").await.is_some_and(|(head, _)| head.starts_with("HTTP/1.1 101"))
}

#[tokio::test]
async fn it_serves_and_brings_gateways_back_and_leaves_nothing() {
    let (mut cluster, places) = start(&["--gateways", "2"]).await;
    let balancer = address(&places["url"]);
    let admin_key = places["admin_key"].as_str().unwrap();
    assert_eq!(places["gateways"].as_array().unwrap().len(), 2);
    assert!(opens_a_socket(balancer, admin_key, "camera-1").await, "{places}");

    let first = &places["gateways"][0];
    let pid = i32::try_from(first["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    eventually("the killed gateway is missed", async || {
        cluster.log().contains("gateway-1 ended").then_some(())
    })
    .await;
    eventually("the other serves", async || {
        opens_a_socket(balancer, admin_key, "camera-2").await.then_some(())
    })
    .await;
    let ops = address(&first["ops"]);
    eventually("the killed gateway is back", async || {
        let (head, _) = ask(ops, "GET /readyz HTTP/1.1", "").await?;
        head.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;

    cluster.terminate().unwrap();
    assert!(cluster.wait(PATIENCE).await.unwrap().success(), "{}", cluster.log());
    let mut all = vec![balancer];
    for gateway in places["gateways"].as_array().unwrap() {
        all.extend([address(&gateway["url"]), address(&gateway["ops"])]);
    }
    all.extend(
        places["redis"]["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["address"].as_str().unwrap().parse::<SocketAddr>().unwrap()),
    );
    for server in all {
        TcpStream::connect(server).await.unwrap_err();
    }
}

#[tokio::test]
async fn it_runs_on_a_redis_cluster_and_behind_sentinels() {
    for (kind, scheme) in [("cluster", "redis+cluster://"), ("sentinel", "redis+sentinel://")] {
        let (mut cluster, places) = start(&["--gateways", "1", "--redis", kind]).await;
        assert!(places["redis"]["url"].as_str().unwrap().starts_with(scheme), "{places}");
        let (balancer, admin_key) = (address(&places["url"]), places["admin_key"].as_str().unwrap());
        assert!(opens_a_socket(balancer, admin_key, "camera-1").await, "{places}");
        cluster.terminate().unwrap();
        assert!(cluster.wait(PATIENCE).await.unwrap().success(), "{}", cluster.log());
    }
}
