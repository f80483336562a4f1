//! The load balancers as they ship, real ones, in front of three gateways: quiet sockets stand for longer than the
//! balancer's time-out for anything else, and nobody loses anything when a gateway behind it drains.

use std::net::SocketAddr;
use std::time::Duration;

use heliograph_sandbox::{Folder, Port, Process, Program, find_program};
use heliograph_testkit::{Dial, MeshClient, Node, eventually, in_time};
use serde_json::json;
use tokio::net::TcpStream;

use crate::scene::{CLIENTS, Scene, alone, flows, name, plan, token};

const HAPROXY: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/haproxy/haproxy.cfg"));
const NGINX: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/nginx/nginx.conf"));
/// The bound that holds for what is no WebSocket, in place of a minute: the tests have no time for that. What the
/// shipped files say about WebSockets stays as it is.
const IDLE: Duration = Duration::from_secs(3);
/// More than the drain window of test nodes, and what they do afterwards.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
enum Kind {
    Haproxy,
    Nginx,
}

/// Clients that know nothing of `goaway` and `resume`: enough for each gateway to have one.
const PLAIN: usize = 6;
/// All peers of a test: the swarm's, the plain ones, two for the test of quiet sockets.
const PEERS: usize = CLIENTS + PLAIN + 2;

/// Public keys: of RFC 8037 A.2 (with its name in rendezvous rooms) and of RFC 7517 A.1.
const KEYS: [&str; 2] = [
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
    r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}"#,
];
const KEY_ID: &str = "20aab9665358bc73da7fc6ab0c064cc7487d8cc311c4596851adcce62db1f1e1";

/// A running load balancer.
struct Balancer {
    process: Process,
    address: SocketAddr,
    _port: Port,
    _folder: Folder,
}

impl Balancer {
    async fn start(kind: Kind, configuration: &str, nodes: &[Node]) -> Self {
        let (port, folder) = (Port::reserve().unwrap(), Folder::new("balancer").unwrap());
        let address = port.address();
        let file = folder.path().join("balancer.conf");
        std::fs::write(&file, placed(kind, configuration, address, nodes, &folder)).unwrap();
        let program = match kind {
            Kind::Haproxy => {
                Program::new(find_program("haproxy", "haproxy").unwrap()).args(["-db", "-f"]).arg(file)
            }
            Kind::Nginx => {
                let pid = folder.path().join("nginx.pid");
                Program::new(find_program("nginx", "nginx-light").unwrap())
                    .args(["-e", "stderr", "-g"])
                    .arg(format!("daemon off; pid {};", pid.display()))
                    .arg("-c")
                    .arg(file)
            }
        };
        let process = program.start().unwrap();
        let mut balancer = Self { process, address, _port: port, _folder: folder };
        eventually("the load balancer listens", async || {
            balancer.process.must_run().unwrap();
            TcpStream::connect(address).await.ok().map(drop)
        })
        .await;
        balancer
    }
}

/// Replaces what must be there.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the shipped file does not say {from:?} any more");
    text.replace(from, to)
}

/// A configuration with addresses of these nodes, a folder of its own, and a shorter patience.
fn placed(kind: Kind, configuration: &str, address: SocketAddr, nodes: &[Node], folder: &Folder) -> String {
    let mut text = configuration.to_owned();
    for (number, node) in (1..).zip(nodes) {
        let (shipped, public) = (format!(" gateway-{number}:8080"), node.address());
        let checked = match kind {
            Kind::Haproxy => format!(" {public} port {}", node.ops_address().port()),
            Kind::Nginx => format!(" {public}"),
        };
        text = replaced(&text, &shipped, &checked);
    }
    let idle = IDLE.as_secs();
    match kind {
        Kind::Haproxy => {
            text = replaced(&text, "bind :8080", &format!("bind {address}"));
            text = replaced(&text, "timeout client 60s", &format!("timeout client {idle}s"));
            replaced(&text, "timeout server 60s", &format!("timeout server {idle}s"))
        }
        Kind::Nginx => {
            let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|what| format!("{what}_temp_path {}/{what};", folder.path().display()));
            let defaults =
                format!("proxy_read_timeout {idle}s; proxy_send_timeout {idle}s; {}", temporary.join(" "));
            text = replaced(&text, "http {\n", &format!("http {{\n{defaults}\n"));
            replaced(&text, "listen 8080;", &format!("listen {address};"))
        }
    }
}

/// What ships, and the same without what it says about sockets that are quiet.
fn shipped(kind: Kind) -> (&'static str, String) {
    let (text, patience) = match kind {
        Kind::Haproxy => (HAPROXY, "timeout tunnel"),
        Kind::Nginx => (NGINX, "proxy_read_timeout"),
    };
    let without: Vec<_> = text.lines().filter(|line| !line.trim_start().starts_with(patience)).collect();
    assert_eq!(without.len() + 1, text.lines().count(), "{patience}");
    (text, without.join("\n") + "\n")
}

async fn connect(balancer: &Balancer, peer: usize) -> MeshClient {
    let client = Dial::to(balancer.address).token(&token(peer)).open(&name(peer)).await;
    let mut client = client.unwrap_or_else(|status| panic!("refused: {status}"));
    client.register().await;
    client
}

/// A socket stays open through the shipped load balancer, and would not with the default.
async fn quiet_sockets_stand(kind: Kind, balancer: &Balancer, nodes: &[Node]) {
    let impatient = Balancer::start(kind, &shipped(kind).1, nodes).await;
    let mut stays = connect(balancer, PEERS - 2).await;
    let mut rooms = Rooms::enter(balancer).await;
    let mut goes = connect(&impatient, PEERS - 1).await;
    let code = in_time("the impatient one gives up", goes.closed()).await;
    assert_eq!(code, None, "closed by a gateway");
    // Both are as old; one more time-out on top.
    assert_eq!(stays.anything_within(IDLE).await, None);
    stays.send("ping", None, json!({})).await;
    stays.expect("pong").await;
    stays.close().await;
    rooms.speak().await;
}

/// Two members of a room of each dialect, through the load balancer.
struct Rooms {
    signallers: [MeshClient; 2],
    rendezvous: [MeshClient; 2],
}

impl Rooms {
    async fn enter(balancer: &Balancer) -> Self {
        let open = async |path: &str| {
            let opened = Dial::to(balancer.address).path(path).open(path).await;
            opened.unwrap_or_else(|status| panic!("{path}: {status}"))
        };
        let (mut first, mut second) = (open("/").await, open("/primus").await);
        for (client, id) in [(&mut first, "a"), (&mut second, "b")] {
            client.send_text(&format!(r#"/announce|{id}|{{"id":"{id}","room":"hall"}}"#)).await;
            assert!(client.next_text().await.starts_with("/roominfo|"));
        }
        assert!(first.next_text().await.starts_with("/announce|b|"));
        let signallers = [first, second];
        let (mut first, mut second) =
            (open("/room/hall/websocket").await, open("/room/hall/websocket").await);
        for (client, key) in [(&mut first, KEYS[0]), (&mut second, KEYS[1])] {
            client.send_text(&format!(r#"{{"type":"register","publicKey":{key}}}"#)).await;
            assert_eq!(client.next().await.unwrap()["type"], "welcome");
        }
        assert_eq!(first.next().await.unwrap()["type"], "peer-joined");
        Self { signallers, rendezvous: [first, second] }
    }

    /// What one says reaches the other.
    async fn speak(&mut self) {
        let [first, second] = &mut self.signallers;
        second.send_text("/hi|b").await;
        assert_eq!(first.next_text().await, "/hi|b");
        let [first, second] = &mut self.rendezvous;
        second.send_text(&format!(r#"{{"type":"offer","to":"{KEY_ID}","sdp":"v=0"}}"#)).await;
        let offer = first.next().await.unwrap();
        assert_eq!((&offer["type"], &offer["sdp"]), (&json!("offer"), &json!("v=0")));
    }
}

/// Clients know the load balancer alone, and move when the gateway that they are on drains.
async fn a_gateway_behind_it_drains(kind: Kind) {
    const SESSIONS: &str = r#"heliograph_sessions{dialect="mesh"}"#;
    let alone = alone().await;
    // A window in which clients still find their way when a busy machine makes the load balancer notice late.
    let settings = [("TRUSTED_PROXIES", "127.0.0.1/32"), ("DRAIN_WINDOW", "10s"), ("ROOMS", "open")];
    let cluster = plan(PEERS).settings(&settings).start().await;
    let balancer = Balancer::start(kind, shipped(kind).0, cluster.nodes()).await;
    quiet_sockets_stand(kind, &balancer, cluster.nodes()).await;

    let scene = Scene::at(&[balancer.address], cluster, alone).await;
    let (drained, others) = scene.cluster.nodes().split_first().unwrap();
    for node in scene.cluster.nodes() {
        assert!(node.metric(SESSIONS).await > 0, "the load balancer leaves {} out", node.gateway());
    }
    let mut plain = vec![];
    for peer in CLIENTS..CLIENTS + PLAIN {
        plain.push(connect(&balancer, peer).await);
    }
    drained.terminate();
    let status = drained.ended(STOPPED_WITHIN).await;
    assert!(status.success(), "{status}");
    scene.swarm.wait_until_all_stand().await;
    flows(others).await;
    let moved = told_to_come_back(plain).await;
    assert!(moved > 0 && moved < PLAIN, "the load balancer sent {moved} plain clients to one gateway");
    let summary = scene.finish(|expected| (expected.codes, expected.nothing_lost) = (true, true)).await;
    assert!(summary.resumed > 0, "nobody had to move: {summary:?}");
    assert_eq!((summary.fresh, summary.lost), (0, 0), "{summary:?}");
}

/// How many of these were closed, each with the code that says "come back"; the others are still served.
async fn told_to_come_back(clients: Vec<MeshClient>) -> usize {
    let mut moved = 0;
    for (peer, mut client) in (CLIENTS..).zip(clients) {
        // Taken or not: what the client reads next tells whether it was closed.
        client.try_send(&json!({ "type": "ping", "peer_id": name(peer), "payload": {} }).to_string()).await;
        let code = loop {
            match client.next().await {
                Ok(message) if message["type"] == "pong" => break None,
                Ok(_) => {}
                Err(code) => break Some(code),
            }
        };
        if let Some(code) = code {
            assert_eq!(code, Some(1012));
            moved += 1;
        }
    }
    moved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_keeps_quiet_sockets_and_moves_clients_of_a_node_that_drains() {
    a_gateway_behind_it_drains(Kind::Haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_keeps_quiet_sockets_and_moves_clients_of_a_node_that_drains() {
    a_gateway_behind_it_drains(Kind::Nginx).await;
}
