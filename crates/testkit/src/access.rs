//! What a test says to a node, wherever the node runs: keys, tokens, pairings, clients, metrics.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::client::{ALL, Dial, MeshClient};
use crate::eventually;
use crate::http::{Answer, Api};

/// The admin key of every test node.
pub const ADMIN_KEY: &str = "ak_test_admin_0123456789abcdef";

/// The addresses of a node.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where health and metrics are.
    pub ops: SocketAddr,
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
    /// A caller without a credential.
    pub fn api(&self) -> Api {
        Api::new(self.address)
    }

    /// A caller with the admin key.
    pub fn admin(&self) -> Api {
        self.api().with("x-api-key", ADMIN_KEY)
    }

    /// A caller on the ops listener.
    pub fn ops(&self) -> Api {
        Api::new(self.ops)
    }

    /// Waits until the node relays: without its first lease it does not.
    pub async fn wait_until_ready(&self) {
        eventually("ready", async || (self.ops().get("/readyz").await.status == 200).then_some(())).await;
    }

    /// The metrics page.
    pub async fn metrics(&self) -> String {
        self.ops().get("/metrics").await.text
    }

    /// The value of one metric, a whole number, with exactly these labels as the page shows it; 0 if it is not there.
    pub async fn metric(&self, series: &str) -> i64 {
        let page = self.metrics().await;
        let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(name, _)| name == series));
        line.and_then(|line| line.rsplit_once(' ')).and_then(|(_, value)| value.parse().ok()).unwrap_or(0)
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

    /// A new socket with a token.
    pub fn dial(&self, token: &str) -> Dial {
        Dial::to(self.address).token(token)
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
