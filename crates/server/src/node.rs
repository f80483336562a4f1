//! One running node: listeners and parts.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::IntoResponse;
use axum::routing::get;
use heliograph_admin::{Admin, NodeControl};
use heliograph_core::id::{GatewayId, Version};
use heliograph_core::limits::Limits;
use heliograph_gateway::Gateway;
use heliograph_gateway::accept::{self, Admission, Listening};
use heliograph_gateway::upgrade;
use heliograph_http::{Problem, TrustedProxies};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::backends::Neighbours;
use crate::cors::Cors;

/// How long clients wait for a node's first lease before they are served without.
const FIRST_LEASE_PATIENCE: Duration = Duration::from_secs(3);

/// The sockets that a node listens on; whoever starts it binds them.
#[derive(Debug)]
pub struct Listeners {
    /// Sockets, token exchange, pairing.
    pub public: TcpListener,
    /// Health and metrics.
    pub ops: TcpListener,
    /// Administration and console, where they are not on the public listener.
    pub admin: Option<TcpListener>,
}

/// What a node is made of.
pub struct Parts {
    /// The sockets' side.
    pub gateway: Arc<Gateway>,
    /// The HTTP side.
    pub admin: Admin,
    /// `/` shows the demonstration page.
    pub mode: heliograph_admin::Mode,
    /// Bounds of the listeners.
    pub limits: Limits,
    /// Proxies in front of the public listener.
    pub trusted_proxies: TrustedProxies,
    /// Origins of other sites whose pages may call the API.
    pub allowed_origins: Vec<String>,
    /// The way to the other nodes.
    pub(crate) neighbours: Neighbours,
    /// The lock on the data directory, where there is one: held as long as the node lives.
    pub(crate) keep: Option<File>,
}

/// A node that serves.
pub struct Node {
    parts: Parts,
    stop: CancellationToken,
    listeners: JoinSet<()>,
    public: SocketAddr,
    ops: SocketAddr,
}

impl Node {
    /// Starts to serve. The node runs until [`Self::shutdown`].
    pub fn serve(listeners: Listeners, parts: Parts) -> std::io::Result<Self> {
        let stop = CancellationToken::new();
        let (public, ops) = (listeners.public.local_addr()?, listeners.ops.local_addr()?);
        let mut tasks = JoinSet::new();
        parts.gateway.start();
        let listening = |admission| Listening {
            limits: parts.limits.clone(),
            trusted_proxies: parts.trusted_proxies.clone(),
            admission,
            stop: stop.clone(),
        };
        let aside = || listening(Arc::new(Admission::apart(&parts.limits)));
        let apart = listeners.admin.is_some();
        tasks.spawn(once_leased(
            Arc::clone(&parts.gateway),
            accept::serve(listeners.public, public_app(&parts, apart), listening(parts.gateway.admission())),
        ));
        tasks.spawn(accept::serve(listeners.ops, ops_app(&parts), aside()));
        if let Some(admin) = listeners.admin {
            tasks.spawn(accept::serve(admin, admin_app(&parts), aside()));
        }
        Ok(Self { parts, stop, listeners: tasks, public, ops })
    }

    /// Where clients connect.
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where health and metrics are.
    pub fn ops_address(&self) -> SocketAddr {
        self.ops
    }

    /// The sockets' side, for tests and simulations.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.parts.gateway
    }

    /// Says goodbye to the sockets, then stops listening.
    pub async fn shutdown(mut self) {
        self.parts.gateway.drain().await;
        self.parts.neighbours.leave().await;
        self.stop.cancel();
        while self.listeners.join_next().await.is_some() {}
    }
}

/// Clients wait in the listener's backlog until the node may relay; not for ever, since what they ask for may be an
/// answer that says why it may not.
async fn once_leased(gateway: Arc<Gateway>, serve: impl Future<Output = ()>) {
    gateway.ready(FIRST_LEASE_PATIENCE).await;
    serve.await;
}

fn public_app(parts: &Parts, admin_apart: bool) -> Router {
    let app = heliograph_gateway::token::router(Arc::clone(&parts.gateway))
        .merge(heliograph_admin::public_router(&parts.admin))
        .merge(heliograph_admin::assets_router(parts.mode))
        .merge(root(parts));
    let app = if admin_apart { app } else { app.merge(heliograph_admin::admin_router(&parts.admin)) };
    let cors = Cors::new(parts.allowed_origins.clone());
    finished(app).layer(axum::middleware::from_fn(move |request, next| cors.clone().handle(request, next)))
}

/// `/` is a page, and a socket for whoever asks for one.
fn root(parts: &Parts) -> Router {
    let mode = parts.mode;
    let answer = move |gateway: State<Arc<Gateway>>, request: Request| async move {
        if upgrade::asks_for_socket(request.headers()) {
            upgrade::rtc_signaller(gateway, request).await
        } else {
            heliograph_admin::root_page(mode, request.headers())
        }
    };
    Router::new().route("/", get(answer)).with_state(Arc::clone(&parts.gateway))
}

fn admin_app(parts: &Parts) -> Router {
    finished(heliograph_admin::admin_router(&parts.admin).merge(heliograph_admin::assets_router(parts.mode)))
}

fn ops_app(parts: &Parts) -> Router {
    finished(heliograph_admin::ops_router(&parts.admin))
}

/// Unknown paths and wrong methods get a problem document too.
fn finished(app: Router) -> Router {
    app.fallback(|| async { Problem::not_found("there is nothing at this path").into_response() })
        .method_not_allowed_fallback(|method: Method| async move {
            let status = axum::http::StatusCode::METHOD_NOT_ALLOWED;
            Problem::new(status, "method_not_allowed", format!("{method} is not possible here"))
                .into_response()
        })
}

/// The gateway as the administration sees it.
pub(crate) struct Control(pub(crate) Arc<Gateway>);

impl NodeControl for Control {
    fn id(&self) -> GatewayId {
        self.0.id().clone()
    }

    fn sessions(&self) -> u64 {
        self.0.sessions()
    }

    fn version(&self) -> Version {
        self.0.version()
    }

    fn authorization_current(&self) -> bool {
        self.0.authorization_current()
    }

    fn bus_up(&self) -> bool {
        self.0.bus_up()
    }

    fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    fn drain(&self, on: bool) {
        if on {
            self.0.begin_drain();
        } else {
            self.0.cancel_drain();
        }
    }

    fn presence_changes(&self) -> watch::Receiver<u64> {
        self.0.presence_changes()
    }
}
