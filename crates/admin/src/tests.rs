//! The handlers against the store of the tests, through the routers as a server composes them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use heliograph_auth::secret::{Hasher, Purpose};
use heliograph_bus::local::{Hub, Node};
use heliograph_core::id::{GatewayId, MeshName, PeerId, Version};
use heliograph_core::limits::Limits;
use heliograph_http::ClientAddress;
use heliograph_store::memory::MemoryStore;
use heliograph_store::{ApiKeys, AuditLog, By, Leases, NewKey, UnixMillis};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use prometheus::{IntCounterVec, Opts, Registry};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::{Admin, Mode, NodeControl, Parts};

mod administration;
mod describe;
mod events;
mod groups;
mod ops;
mod pages;
mod pairing;
mod revocation;

const OPERATOR: &str = "ak_operator";
const AGENT: &str = "ak_agent";
const OTHER_ADMIN: &str = "ak_other_admin";
const START: UnixMillis = 1_800_000_000_000;

/// A node with a store of its own, and its keys.
struct World {
    app: Router,
    ops: Router,
    store: Arc<MemoryStore>,
    node: Arc<TestNode>,
    now: Arc<AtomicI64>,
    registry: Registry,
    bus: Arc<Node>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {:?}", self.text))
    }

    /// A refusal: its status and its stable code.
    fn is(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.json()["code"], code, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.json()["error"], self.json()["detail"]);
    }

    fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }
}

/// Who calls, and how.
#[derive(Clone, Copy, Default)]
struct With<'a> {
    key: Option<&'a str>,
    bearer: Option<&'a str>,
    address: Option<[u8; 4]>,
}

fn key(key: &str) -> With<'_> {
    With { key: Some(key), ..With::default() }
}

fn bearer(bearer: &str) -> With<'_> {
    With { bearer: Some(bearer), ..With::default() }
}

fn from(address: [u8; 4]) -> With<'static> {
    With { address: Some(address), ..With::default() }
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let store = Arc::new(MemoryStore::new());
        let node = Arc::new(TestNode::new());
        let bus = Hub::new().join(node.id());
        let now = Arc::new(AtomicI64::new(START));
        let clock = now.clone();
        let registry = Registry::new();
        let rate_limited = Opts::new("heliograph_rate_limited_total", "Refused by a limit");
        let rate_limited = IntCounterVec::new(rate_limited, &["limit"]).unwrap();
        registry.register(Box::new(rate_limited.clone())).unwrap();
        let admin = Admin::new(Parts {
            store: store.clone(),
            link: bus.link(),
            hasher: Arc::new(hasher()),
            limits,
            lease_term: Duration::from_secs(3),
            node: node.clone(),
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
            registry: registry.clone(),
            rate_limited,
            mode: Mode::Dev,
        })
        .unwrap();
        let app = crate::public_router(&admin)
            .merge(crate::admin_router(&admin))
            .merge(crate::pages_router(Mode::Dev));
        let world = Self { app, ops: crate::ops_router(&admin), store, node, now, registry, bus };
        world.add_key(OPERATOR, "operator", "default", "admin").await;
        world.add_key(AGENT, "agent-001", "default", "agent").await;
        world.add_key(OTHER_ADMIN, "other-admin", "other", "admin").await;
        world
    }

    async fn add_key(&self, secret: &str, peer: &str, mesh: &str, role: &str) {
        let key = NewKey {
            id: format!("key_{peer}"),
            secret: hasher().hash(Purpose::ApiKey, secret),
            mesh: MeshName::parse(mesh).unwrap(),
            peer: PeerId::parse(peer).unwrap(),
            role: role.into(),
            name: String::new(),
        };
        self.store.create_key(key, By { actor: "test", now: START }).await.unwrap();
    }

    async fn send(&self, method: Method, path: &str, with: With<'_>, body: Option<Value>) -> Answer {
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send_body(method, path, with, body).await
    }

    async fn send_body(&self, method: Method, path: &str, with: With<'_>, body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(key) = with.key {
            request = request.header("x-api-key", key);
        }
        if let Some(token) = with.bearer {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let address = IpAddr::from(with.address.unwrap_or([127, 0, 0, 1]));
        answer(&self.app, request.extension(ClientAddress(address)).body(body).unwrap()).await
    }

    async fn get(&self, path: &str, with: With<'_>) -> Answer {
        self.send(Method::GET, path, with, None).await
    }

    async fn post(&self, path: &str, with: With<'_>, body: Value) -> Answer {
        self.send(Method::POST, path, with, Some(body)).await
    }

    async fn delete(&self, path: &str, with: With<'_>) -> Answer {
        self.send(Method::DELETE, path, with, None).await
    }

    /// A code of the default mesh.
    async fn code(&self) -> String {
        let made = self.post("/api/pairing/generate-code", key(AGENT), json!({})).await.ok();
        made["code"].as_str().unwrap().to_owned()
    }

    async fn redeem(&self, code: &str, with: With<'_>) -> Answer {
        self.post("/api/pairing/pair", with, json!({ "code": code, "agent_name": "newbie" })).await
    }

    /// A device that waits for approval.
    async fn paired(&self) -> Device {
        let answer = self.redeem(&self.code().await, With::default()).await.ok();
        let text = |name: &str| answer[name].as_str().unwrap().to_owned();
        Device { id: text("id"), peer: text("peer_id"), claim: text("claim_token") }
    }

    async fn status(&self, device: &Device, query: &str) -> Value {
        self.get(&format!("/api/pairing/{}/status{query}", device.id), bearer(&device.claim)).await.ok()
    }

    async fn decide(&self, device: &Device, decision: &str, body: Value) -> Answer {
        self.post(&format!("/api/pairing/{}/{decision}", device.id), key(OPERATOR), body).await
    }

    /// A node that acknowledges each change as it comes.
    fn holder(&self, name: &str) {
        let (store, id) = (self.store.clone(), GatewayId::parse(name).unwrap());
        tokio::spawn(async move {
            let mut hints = store.hints(heliograph_store::Hint::Change);
            loop {
                let version = store.version().await.unwrap();
                store.renew(&id, version, version).await.unwrap();
                let _ = tokio::time::timeout(Duration::from_millis(500), hints.changed()).await;
            }
        });
    }

    fn later(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

struct Device {
    id: String,
    peer: String,
    claim: String,
}

fn hasher() -> Hasher {
    Hasher::new([7; 32])
}

async fn answer(app: &Router, request: Request<Body>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, text }
}

/// A node that is as the test wants it.
struct TestNode {
    leased: AtomicBool,
    draining: AtomicBool,
    bus_up: AtomicBool,
    presence: watch::Sender<u64>,
}

impl TestNode {
    fn new() -> Self {
        Self {
            leased: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            bus_up: AtomicBool::new(true),
            presence: watch::Sender::new(0),
        }
    }
}

impl NodeControl for TestNode {
    fn id(&self) -> GatewayId {
        GatewayId::parse("gw-self").unwrap()
    }

    fn sessions(&self) -> u64 {
        *self.presence.borrow()
    }

    fn version(&self) -> Version {
        Version(1)
    }

    fn authorization_current(&self) -> bool {
        self.leased.load(Ordering::SeqCst)
    }

    fn bus_up(&self) -> bool {
        self.bus_up.load(Ordering::SeqCst)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn drain(&self, on: bool) {
        self.draining.store(on, Ordering::SeqCst);
    }

    fn presence_changes(&self) -> watch::Receiver<u64> {
        self.presence.subscribe()
    }
}
