//! What a test says to the service, wherever it runs and on how many nodes: keys, tokens, pairings, clients, metrics.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{ALL, Dial, MeshClient};
use crate::eventually;
use crate::http::{Answer, Api};
use crate::ring::Ring;

/// The admin key of every test node.
pub const ADMIN_KEY: &str = "ak_test_admin_0123456789abcdef";

/// The addresses of a node, or of several that are one service: then each new socket goes to the next of them, and so
/// does each call. Clones go on in the same turn.
#[derive(Debug, Clone)]
pub struct Access {
    sockets: Ring,
    // A turn of their own: between two sockets there may be any number of calls.
    calls: Ring,
    ops: Ring,
}

/// A device that waits for its approval.
#[derive(Debug, Clone)]
pub struct Paired {
    /// The pairing.
    pub id: String,
    /// The peer that it would become.
    pub peer: String,
    /// Its claim token.
    pub claim: String,
}

impl Access {
    /// To one node: where clients connect, and where health and metrics are.
    pub fn to(address: SocketAddr, ops: SocketAddr) -> Self {
        Self { sockets: address.into(), calls: address.into(), ops: ops.into() }
    }

    /// To several nodes in turn.
    pub fn to_all<'a>(nodes: impl IntoIterator<Item = &'a Access>) -> Self {
        let nodes: Vec<&Access> = nodes.into_iter().collect();
        let all =
            |ring: fn(&Access) -> &Ring| Ring::of(nodes.iter().flat_map(|node| ring(node).all()).copied());
        Self {
            sockets: all(|node| &node.sockets),
            calls: all(|node| &node.calls),
            ops: all(|node| &node.ops),
        }
    }

    /// Where the next client connects.
    pub fn address(&self) -> SocketAddr {
        self.sockets.next()
    }

    /// Where clients may connect.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.sockets.all()
    }

    /// Where health and metrics of the next node are.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops.next()
    }

    /// How many nodes there are.
    pub fn nodes(&self) -> usize {
        self.ops.all().len()
    }

    /// A caller without a credential.
    pub fn api(&self) -> Api {
        Api::new(self.calls.clone())
    }

    /// A caller with the admin key.
    pub fn admin(&self) -> Api {
        self.api().with("x-api-key", ADMIN_KEY)
    }

    /// Asks every node to drain.
    pub async fn drain(&self) {
        for node in self.calls.all() {
            let admin = Api::new(*node).with("x-api-key", ADMIN_KEY);
            admin.post_empty("/api/gateways/self/drain").await.expect(200);
        }
    }

    /// A caller on the ops listener.
    pub fn ops(&self) -> Api {
        Api::new(self.ops.clone())
    }

    /// Waits until every node relays: without its first lease, or without the others, it does not.
    pub async fn wait_until_ready(&self) {
        for ops in self.ops.all() {
            eventually("ready", async || (Api::new(*ops).get("/readyz").await.status == 200).then_some(()))
                .await;
        }
    }

    /// The metrics pages of all nodes, one after the other.
    pub async fn metrics(&self) -> String {
        let mut pages = String::new();
        for ops in self.ops.all() {
            pages += &Api::new(*ops).get("/metrics").await.text;
        }
        pages
    }

    /// The value of one metric on each node that has it, a whole number, with exactly these labels as the page shows it.
    pub async fn metric_of_each(&self, series: &str) -> Vec<i64> {
        let pages = self.metrics().await;
        let lines = pages.lines().filter_map(|line| line.rsplit_once(' '));
        lines.filter(|(name, _)| *name == series).filter_map(|(_, value)| value.parse().ok()).collect()
    }

    /// The value of one metric, of all nodes together; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> i64 {
        self.metric_of_each(series).await.iter().sum()
    }

    /// The pairing version that all nodes have applied.
    pub async fn applied_version(&self) -> i64 {
        let applied = self.metric_of_each("heliograph_authorization_version").await;
        applied.into_iter().min().unwrap_or(0)
    }

    /// How many messages were written to their targets, here or through the bus.
    pub async fn relayed(&self) -> i64 {
        let count =
            async |path| self.metric(&format!("heliograph_relay_seconds_count{{path=\"{path}\"}}")).await;
        count("local").await + count("bus").await
    }

    /// An API key for a peer.
    pub async fn key(&self, peer: &str, mesh: &str) -> String {
        let body = json!({ "peer_id": peer, "role": "agent", "mesh": mesh });
        text(&self.admin().post("/api/keys", &body).await.expect(201), "key")
    }

    /// The token exchange with one credential.
    pub async fn exchange_with(&self, header: &str, value: &str) -> Answer {
        self.api().with(header, value).post_empty("/api/token").await
    }

    /// A session token for an API key.
    pub async fn exchange(&self, key: &str) -> String {
        text(&self.exchange_with("x-api-key", key).await.expect(200), "token")
    }

    /// A session token for a peer of the default mesh that has an API key.
    pub async fn token(&self, peer: &str) -> String {
        self.exchange(&self.key(peer, "default").await).await
    }

    /// A new socket without a credential.
    pub fn dial_bare(&self) -> Dial {
        Dial::to(self.address())
    }

    /// A new socket with a token.
    pub fn dial(&self, token: &str) -> Dial {
        self.dial_bare().token(token)
    }

    /// A socket of a peer that has a token.
    pub async fn open(&self, peer: &str, token: &str) -> MeshClient {
        self.dial(token).open(peer).await.unwrap_or_else(|status| panic!("{peer}: {status}"))
    }

    /// A connected, not yet registered peer of the default mesh.
    pub async fn connect(&self, peer: &str) -> MeshClient {
        self.open(peer, &self.token(peer).await).await
    }

    /// A connected peer that registered as the original does.
    pub async fn join(&self, peer: &str) -> MeshClient {
        let mut client = self.connect(peer).await;
        client.register().await;
        client
    }

    /// A connected peer that registered with all capabilities.
    pub async fn join_fully(&self, peer: &str) -> MeshClient {
        let mut client = self.connect(peer).await;
        client.register_with(&ALL).await;
        client
    }

    /// A new invite code.
    pub async fn invite(&self) -> String {
        text(&self.admin().post("/api/pairing/generate-code", &json!({})).await.expect(200), "code")
    }

    /// Redeems a code.
    pub async fn redeem(&self, code: &str, name: &str) -> Answer {
        self.api().post("/api/pairing/pair", &json!({ "code": code, "agent_name": name })).await
    }

    /// A device that redeemed an invite.
    pub async fn pair(&self, name: &str) -> Paired {
        Paired::of(&self.redeem(&self.invite().await, name).await.expect(200))
    }

    /// One of `approve`, `reject`, `revoke`, on a pairing or peer.
    pub async fn decide(&self, id: &str, verb: &str) -> Answer {
        self.admin().post_empty(&format!("/api/pairing/{id}/{verb}")).await
    }

    /// A device that redeemed an invite and was approved, and its device token.
    pub async fn pair_and_approve(&self, name: &str) -> (Paired, String) {
        let paired = self.pair(name).await;
        let approved = self.decide(&paired.id, "approve").await.expect(200);
        (paired, text(&approved, "device_token"))
    }

    /// A session token for a device that waits for its approval.
    pub async fn token_of_claim(&self, paired: &Paired) -> String {
        let api = self.api().with("x-pairing-id", &paired.id).with("x-claim-token", &paired.claim);
        text(&api.post_empty("/api/token").await.expect(200), "token")
    }

    /// Revokes a peer and waits until that holds; the report.
    pub async fn revoke(&self, id: &str) -> Value {
        self.decide(id, "revoke").await.expect(200)
    }
}

impl Paired {
    /// From the answer to a redemption.
    #[track_caller]
    pub fn of(answer: &Value) -> Self {
        Self { id: text(answer, "id"), peer: text(answer, "peer_id"), claim: text(answer, "claim_token") }
    }
}

/// A string member of an answer.
#[track_caller]
pub fn text(answer: &Value, member: &str) -> String {
    answer[member].as_str().unwrap_or_else(|| panic!("no {member} in {answer}")).to_owned()
}
