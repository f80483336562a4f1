//! A TURN server with the configuration that the project ships, and the client that comes with it.

use std::net::Ipv4Addr;

use heliograph_core::message::IceServer;
use heliograph_sandbox::{Folder, Port, Process, Program, find_program};
use heliograph_testkit::{PATIENCE, eventually};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

const CONFIGURATION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/coturn/turnserver.conf");
/// How many ports there are for relayed connections. An allocation whose client has gone without a word keeps its own for
/// minutes.
const RELAYS: usize = 48;

/// coturn, and something behind it that sends back whatever it gets.
pub(crate) struct Coturn {
    server: Process,
    /// How to start it, but for the secrets.
    program: Program,
    echo: JoinHandle<()>,
    port: Port,
    echo_port: u16,
    _relays: Vec<Port>,
    _folder: Folder,
}

impl Coturn {
    /// Starts it; it takes credentials that any of these secrets signed.
    pub(crate) async fn start(secrets: &[&str]) -> Self {
        Self::start_with(secrets, &[]).await
    }

    /// With more arguments.
    pub(crate) async fn start_with(secrets: &[&str], arguments: &[&str]) -> Self {
        let folder = Folder::new("coturn").unwrap();
        let port = Port::reserve().unwrap();
        let relays = neighbours();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let number = |port: &Port| port.number().to_string();
        let program = Program::new(find_program("turnserver", "coturn").unwrap())
            .args(["-c", CONFIGURATION, "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1"])
            // Both ends are on this machine, which the shipped file rightly denies.
            .args(["--allow-loopback-peers", "--allowed-peer-ip=127.0.0.1"])
            .args(["--listening-port", &number(&port)])
            .args(["--min-port", &number(relays.first().unwrap())])
            .args(["--max-port", &number(relays.last().unwrap())])
            .args(["--userdb", &file("users"), "--pidfile", &file("pid")])
            .args(arguments);
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let echo_port = socket.local_addr().unwrap().port();
        let echo = tokio::spawn(echo(socket));
        let server = with_secrets(&program, secrets).start().unwrap();
        let mut coturn = Self { server, program, echo, port, echo_port, _relays: relays, _folder: folder };
        coturn.wait_until_it_listens().await;
        coturn
    }

    /// Ends it, and with it all that it relays, and starts it at the same address with these secrets.
    pub(crate) async fn start_again(&mut self, secrets: &[&str]) {
        self.server.kill().unwrap();
        self.server.wait(PATIENCE).await.unwrap();
        self.server = with_secrets(&self.program, secrets).start().unwrap();
        self.wait_until_it_listens().await;
    }

    /// The end of what it logged.
    pub(crate) fn log(&self) -> String {
        self.server.output() + &self.server.log()
    }

    async fn wait_until_it_listens(&mut self) {
        let address = self.port.address();
        eventually("coturn listens", async || {
            self.server.must_run().unwrap();
            tokio::net::TcpStream::connect(address).await.ok().map(drop)
        })
        .await;
    }

    /// What `HELIOGRAPH_TURN_URLS` has to say.
    pub(crate) fn url(&self) -> String {
        format!("turn:{}", self.port.address())
    }

    /// Opens an allocation and sends something through it to the machine that `peer` names; the client's words.
    pub(crate) async fn relay(&self, credential: &IceServer, peer: Ipv4Addr) -> String {
        // A port that coturn has for it may be taken by another program for a moment, and then it gives up at once.
        eventually("coturn has a port", async || {
            let words = self.try_to_relay(credential, peer).await;
            (!words.contains("508 (Cannot create socket)")).then_some(words)
        })
        .await
    }

    async fn try_to_relay(&self, credential: &IceServer, peer: Ipv4Addr) -> String {
        let word = |value: &Option<String>| value.clone().unwrap_or_default();
        let client = Program::new(find_program("turnutils_uclient", "coturn").unwrap())
            .args(["-u", &word(&credential.username), "-w", &word(&credential.credential)])
            .args(["-p", &self.port.number().to_string(), "-e", &peer.to_string()])
            .args(["-r", &self.echo_port.to_string(), "-n", "5", "-m", "1", "-c", "127.0.0.1"]);
        let mut client = client.start().unwrap();
        // Which exit code stands for what is documented nowhere; what it says is clear.
        client.wait(PATIENCE).await.unwrap();
        client.output() + &client.log()
    }

    /// As [`Self::relay`], to the echo; it must work.
    pub(crate) async fn accepts(&self, what: &str, credential: &IceServer) {
        let words = self.relay(credential, Ipv4Addr::LOCALHOST).await;
        // Datagrams may get lost on a busy machine, but not all of them.
        let came_back = words.contains("Total lost packets") && !words.contains("(100.0");
        assert!(came_back, "{what}: {words}");
    }

    /// As [`Self::relay`], to the echo; the allocation must be refused.
    pub(crate) async fn refuses(&self, what: &str, credential: &IceServer) {
        let words = self.relay(credential, Ipv4Addr::LOCALHOST).await;
        assert!(words.contains("Cannot complete Allocation"), "{what}: {words}");
        assert!(!words.contains("Total lost packets"), "{what}: {words}");
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        self.echo.abort();
    }
}

fn with_secrets(program: &Program, secrets: &[&str]) -> Program {
    program.clone().args(secrets.iter().map(|secret| format!("--static-auth-secret={secret}")))
}

/// Sends back whatever comes.
async fn echo(socket: UdpSocket) {
    let mut packet = [0; 2_048];
    while let Ok((length, from)) = socket.recv_from(&mut packet).await {
        // Whoever asked may be gone.
        let _gone = socket.send_to(&packet[..length], from).await;
    }
}

/// Ports in a row, for relayed connections: coturn wants a range.
fn neighbours() -> Vec<Port> {
    let mut row: Vec<Port> = vec![];
    while row.len() < RELAYS {
        let port = Port::reserve().unwrap();
        if row.last().is_some_and(|last| last.number() + 1 != port.number()) {
            row.clear();
        }
        row.push(port);
    }
    row
}

/// The settings of a node that vends credentials for it.
pub(crate) fn settings<'a>(url: &'a str, secret: &'a str) -> [(&'a str, &'a str); 3] {
    [("ICE_URLS", "stun:stun.example"), ("TURN_URLS", url), ("TURN_SECRET", secret)]
}
