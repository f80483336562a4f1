//! `GET /ws` and the paths of rooms: from a request to a session. Everything that can be refused is refused before the upgrade, with a
//! status that says why; what comes later closes with a code.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use heliograph_auth::room_key::RoomKey;
use heliograph_bus::budget::{Limit, Scope};
use heliograph_core::authority::Standing;
use heliograph_core::close::CloseCode;
use heliograph_core::id::{InvalidName, MeshName, PeerId, RoomName, Version};
use heliograph_core::manners::{Manner, RoomPolicy};
use heliograph_core::message::{ClientMessage, Peer};
use heliograph_core::rate::Rate;
use heliograph_http::credential::{bearer, header};
use heliograph_http::{ClientAddress, Problem};
use heliograph_store::{PeerRecord, StoreError};
use heliograph_wire::Dialect;
use http::header::{
    CONNECTION, HOST, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rand::RngExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::{Message, protocol::Role};

use crate::accept::{AfterHttp, Permit, SocketPermit};
use crate::connection::{self, Connection};
use crate::entry::{Door, Entry, Holder};
use crate::gateway::{Gateway, unix_seconds};
use crate::lobby::Lobby;
use crate::metrics::Join;

/// The subprotocol of the mesh dialect, for clients that offer one.
pub const MESH_SUBPROTOCOL: &str = "heliograph.mesh.v1";
/// Before a token that is offered as a subprotocol (the one header that browsers let pages set). Never echoed.
pub const TOKEN_SUBPROTOCOL: &str = "heliograph.token.";

/// The handler of `GET /ws`.
pub async fn mesh(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    upgrade(gateway, Dialect::Mesh, None, request).await
}

/// The handler of `GET /room/{room}/websocket`.
pub async fn rendezvous(
    State(gateway): State<Arc<Gateway>>,
    Path(room): Path<String>,
    request: Request,
) -> Response {
    upgrade(gateway, Dialect::Rendezvous, Some(&room), request).await
}

/// The handler of the paths of rtc-signaller clients, which name their room later.
pub async fn rtc_signaller(State(gateway): State<Arc<Gateway>>, request: Request) -> Response {
    upgrade(gateway, Dialect::RtcSignaller, None, request).await
}

/// Whether a request asks for a socket where there may also be a page.
pub fn asks_for_socket(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

#[tracing::instrument(name = "upgrade", skip_all, fields(dialect = dialect.as_str()))]
async fn upgrade(
    gateway: Arc<Gateway>,
    dialect: Dialect,
    room: Option<&str>,
    mut request: Request,
) -> Response {
    let extensions = request.extensions_mut();
    let (Some(address), Some(after)) =
        (extensions.get::<ClientAddress>().copied(), extensions.remove::<AfterHttp>())
    else {
        return Problem::bad_request("no_upgrade", "this connection cannot be upgraded").into_response();
    };
    match prepare(&gateway, address, dialect, room, request).await {
        Ok((pending, response)) => {
            after.run(pending.run(Arc::clone(&gateway)));
            response
        }
        Err(problem) => {
            let status = problem.status();
            gateway.metrics.upgrade_refused(status.as_u16());
            tracing::debug!(status = status.as_u16(), "upgrade refused");
            problem.into_response()
        }
    }
}

/// An upgrade that was answered and is not a session yet.
struct Pending {
    on_upgrade: OnUpgrade,
    dialect: Dialect,
    peer: Option<Arc<Peer>>,
    /// Where its client may go, if it says itself where it goes.
    door: Option<Door>,
    permits: Permits,
    /// Not for who has yet to say who it is: those have a bound of their own.
    opening: Option<Opening>,
}

/// A session on its way from upgrade to open. Their number is bounded: in a reconnect storm those who are let in are
/// served in time, and the others come back spread over some seconds.
struct Opening(Arc<Gateway>);

impl Opening {
    fn begin(gateway: &Arc<Gateway>) -> Result<Self, Problem> {
        let max = i64::from(gateway.config.limits.max_opening);
        if max > 0 && gateway.metrics.comings.opening.get() >= max {
            gateway.metrics.limited("opening");
            let seconds = rand::rng().random_range(1..=3);
            let detail = "many clients come at once: come back a little later";
            return Err(Problem::unavailable("busy", detail).retry_after(seconds));
        }
        gateway.metrics.comings.opening.inc();
        Ok(Self(Arc::clone(gateway)))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.metrics.comings.opening.dec();
    }
}

/// What a session holds as long as it lives.
struct Permits {
    socket: SocketPermit,
    _connection: Option<Arc<Permit>>,
}

async fn prepare(
    gateway: &Arc<Gateway>,
    ClientAddress(address): ClientAddress,
    dialect: Dialect,
    room: Option<&str>,
    mut request: Request,
) -> Result<(Pending, Response), Problem> {
    let limits = &gateway.config.limits;
    let rate = Rate::per_second(limits.max_upgrades_per_second, limits.max_upgrades_per_second);
    if !rate.is_off() && !gateway.link.budget.take(Limit::Upgrades, Scope::of(address), rate).await {
        gateway.metrics.limited(Limit::Upgrades.as_str());
        return Err(Problem::too_many("upgrades", 1));
    }
    if gateway.drain.is_closed() {
        return Err(Problem::unavailable("draining", "this node restarts, another one accepts"));
    }
    if !gateway.bus_up() {
        return Err(Problem::unavailable("bus_unavailable", "this node cannot reach the others now"));
    }
    let key = handshake_key(request.headers())?;
    check_origin(request.headers(), &gateway.config.allowed_origins)?;
    let token = offered_token(&request);
    // Before the store is asked: in a storm its connections are the first thing that all wait for.
    let opening = token.is_some().then(|| Opening::begin(gateway)).transpose()?;
    let peer = match &token {
        Some(token) => Some(authenticate(gateway, token).await?),
        None => None,
    };
    let manner = dialect.manners().in_rooms();
    let door = match manner {
        Some(manner) => Some(door(gateway, manner, peer.as_ref(), room, request.uri()).await?),
        None => None,
    };
    let socket = gateway.admission.socket(address, peer.is_some()).map_err(|limit| {
        gateway.metrics.limited(limit);
        Problem::too_many(limit, 1)
    })?;
    let on_upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| Problem::bad_request("no_upgrade", "this connection cannot be upgraded"))?;
    let connection = request.extensions_mut().remove::<Arc<Permit>>();
    let response = switching_protocols(&key, request.headers());
    let permits = Permits { socket, _connection: connection };
    // In a room it is opening only once the client has said which.
    let opening = opening.filter(|_| manner.is_none());
    let pending = Pending { on_upgrade, dialect, peer, door, permits, opening };
    Ok((pending, response))
}

/// Where the client of a dialect of rooms may go, as its request and the policy say.
async fn door(
    gateway: &Gateway,
    manner: &'static Manner,
    token: Option<&Arc<Peer>>,
    room: Option<&str>,
    uri: &Uri,
) -> Result<Door, Problem> {
    let bad = |error: InvalidName| Problem::bad_request("invalid_name", error.to_string());
    let room = room.map(RoomName::parse).transpose().map_err(bad)?;
    let Query(query) = Query::<Named>::try_from_uri(uri)
        .map_err(|_| Problem::bad_request("invalid_query", "the query cannot be read"))?;
    let mesh = match (token, &query.mesh) {
        (Some(peer), _) => peer.space.mesh().clone(),
        (None, Some(mesh)) => MeshName::parse(mesh).map_err(bad)?,
        (None, None) => MeshName::default_mesh(),
    };
    let policy = gateway.config.rooms.of(&mesh);
    let holder = match policy {
        RoomPolicy::Off => {
            return Err(Problem::new(
                StatusCode::NOT_FOUND,
                "no_rooms",
                "there are no rooms in this mesh (setting `rooms`)",
            ));
        }
        RoomPolicy::Open => None,
        RoomPolicy::Paired => Some(match (token, &query.peer) {
            (Some(peer), _) => Holder { peer: Arc::clone(peer), enrolled: None },
            (None, Some(peer)) => enrolled(gateway, &mesh, &PeerId::parse(peer).map_err(bad)?).await?,
            (None, None) => {
                let detail = "rooms are for paired peers: show a token, or name the peer whose key you have (`?peer=`)";
                return Err(Problem::unauthorized("not_paired", detail));
            }
        }),
    };
    Ok(Door { manner, mesh, room, policy, holder })
}

/// What the query of a client of rooms may name.
#[derive(serde::Deserialize)]
struct Named {
    mesh: Option<String>,
    peer: Option<String>,
}

/// A peer that will prove to have the key with which it was enrolled. Unknown peers and such without a key look alike.
async fn enrolled(gateway: &Gateway, mesh: &MeshName, id: &PeerId) -> Result<Holder, Problem> {
    let refused =
        || Problem::forbidden("not_allowed", "no approved peer of this name was enrolled with a key");
    let record = gateway.store.peer(mesh, id).await.map_err(|error| match error {
        StoreError::NotFound => refused(),
        error => {
            tracing::warn!(%error, "a peer could not be looked up");
            Problem::unavailable("storage_unavailable", "the pairing state cannot be read now")
        }
    })?;
    let key = record.public_key.as_ref().and_then(|jwk| RoomKey::parse(jwk.as_bytes()).ok());
    let peer = gateway.remember(&record);
    match key {
        Some(key) if peer.right.is_approved() => Ok(Holder { peer, enrolled: Some(key.thumbprint()) }),
        _ => Err(refused()),
    }
}

/// RFC 6455 §4.2.1: what has to be there for an upgrade.
fn handshake_key(headers: &HeaderMap) -> Result<String, Problem> {
    let has = |name: HeaderName, word: &str| {
        let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
        lines.flat_map(|line| line.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        let detail = "this path speaks WebSocket: send `Connection: Upgrade` and `Upgrade: websocket`";
        return Err(Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", detail));
    }
    if header(headers, "sec-websocket-version") != Some("13") {
        return Err(Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "websocket_version",
            "Sec-WebSocket-Version must be 13",
        ));
    }
    header(headers, SEC_WEBSOCKET_KEY.as_str()).filter(|key| key.len() == 24).map(str::to_owned).ok_or_else(
        || Problem::bad_request("websocket_key", "Sec-WebSocket-Key is missing or not 16 bytes in base64"),
    )
}

/// Pages of other sites may not use a visitor's network position. Programs send no `Origin` and hold a token.
fn check_origin(headers: &HeaderMap, allowed: &[String]) -> Result<(), Problem> {
    let Some(origin) = header(headers, ORIGIN.as_str()) else { return Ok(()) };
    let same = header(headers, HOST.as_str()).is_some_and(|host| {
        ["http://", "https://"]
            .iter()
            .any(|scheme| origin.strip_prefix(scheme).is_some_and(|rest| rest == host))
    });
    if same || allowed.iter().any(|allowed| allowed == origin) {
        return Ok(());
    }
    Err(Problem::forbidden("origin", "this origin is not in the allow-list (allowed_origins)"))
}

/// Where a token may stand: the query (as the original), `Authorization`, a subprotocol. By message comes later.
fn offered_token(request: &Request) -> Option<String> {
    let query = request.uri().query().unwrap_or_default();
    let in_query = query.split('&').find_map(|pair| pair.strip_prefix("token="));
    in_query
        .or_else(|| bearer(request.headers()))
        .or_else(|| {
            offered_protocols(request.headers()).find_map(|name| name.strip_prefix(TOKEN_SUBPROTOCOL))
        })
        .map(str::to_owned)
}

fn offered_protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

fn switching_protocols(key: &str, headers: &HeaderMap) -> Response {
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&derive_accept_key(key.as_bytes())) {
        answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if offered_protocols(headers).any(|name| name == MESH_SUBPROTOCOL) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MESH_SUBPROTOCOL));
    }
    response
}

/// From a token to a peer whose right is filled in and kept current from now on.
pub(crate) async fn authenticate(gateway: &Gateway, token: &str) -> Result<Arc<Peer>, Problem> {
    let claims = gateway.tokens.verify(token, unix_seconds()).map_err(|error| {
        tracing::debug!(%error, "token refused");
        Problem::unauthorized("invalid_token", format!("the token is not valid: {error}"))
    })?;
    let peer = gateway.peer(&claims.mesh, &claims.peer).await?;
    if !peer.right.standing().may_connect() {
        return Err(Problem::forbidden("not_allowed", "this peer may not connect"));
    }
    Ok(peer)
}

impl Gateway {
    /// A peer, its right read from the store if it is not known here. That of one who waits is read again: it may have
    /// been approved on another node a moment ago, and connects because of it. Every other standing is what the feed
    /// says, and most of them are final.
    ///
    /// The value is in the directory before the store is read, so that a change which is committed after the read
    /// finds it there: whichever comes last has the higher version and stays.
    pub(crate) async fn peer(&self, mesh: &MeshName, id: &PeerId) -> Result<Arc<Peer>, Problem> {
        let peer = self.directory.mesh(mesh).intern(id);
        if !matches!(peer.right.standing(), Standing::Unknown | Standing::Pending) {
            return Ok(peer);
        }
        self.may_read_rights()?;
        match self.store.peer(mesh, id).await {
            Ok(record) => Ok(self.remember(&record)),
            Err(StoreError::NotFound) => Ok(peer),
            Err(error) => {
                tracing::warn!(%error, "a peer could not be looked up");
                Err(Problem::unavailable("storage_unavailable", "the pairing state cannot be read now"))
            }
        }
    }

    /// Before the feed knows from where it follows changes, a right that is read may have changed unheard.
    pub(crate) fn may_read_rights(&self) -> Result<(), Problem> {
        if self.authority.has_begun() {
            return Ok(());
        }
        Err(Problem::unavailable(
            "authorization_unavailable",
            "this node does not know the pairing state yet",
        ))
    }

    /// Fills in the right of a peer that was read from the store, and keeps it current for a while: who exchanges a
    /// credential connects next, and needs no second read then.
    pub(crate) fn remember(&self, record: &PeerRecord) -> Arc<Peer> {
        let peer = self.directory.mesh(&record.mesh).intern(&record.peer);
        let new_here = peer.right.version() == Version(0);
        peer.right.apply(record.version, record.state.standing());
        if new_here {
            self.directory.hold(Arc::clone(&peer), Instant::now(), &self.authority);
        }
        peer
    }
}

impl Pending {
    async fn run(mut self, gateway: Arc<Gateway>) {
        if let (Some(door), Some(manner)) = (self.door.take(), self.dialect.manners().in_rooms()) {
            return Box::pin(self.enter_rooms(gateway, door, manner)).await;
        }
        // Boxed: what is needed until the session stands must not weigh on each idle socket.
        if let Some((connection, _permits)) = Box::pin(self.establish(gateway)).await {
            connection.run().await;
        }
    }

    async fn enter_rooms(self, gateway: Arc<Gateway>, door: Door, manner: &'static Manner) {
        let Self { on_upgrade, dialect, mut permits, .. } = self;
        let Some(socket) = Box::pin(upgraded(&gateway, on_upgrade)).await else { return };
        let lobby = Lobby::new(Arc::clone(&gateway), dialect, manner, door);
        let let_in = || {
            permits.socket.authenticated();
            Opening::begin(&gateway).ok()
        };
        lobby.run(socket, let_in).await;
    }

    async fn establish(self, gateway: Arc<Gateway>) -> Option<(Box<Connection<TcpStream>>, Permits)> {
        let mut socket = upgraded(&gateway, self.on_upgrade).await?;
        let mut permits = self.permits;
        let peer = match self.peer {
            Some(peer) => peer,
            None => match first_message(&gateway, &mut socket, self.dialect).await {
                Ok(peer) => peer,
                Err(code) => {
                    gateway.metrics.closed(code.code());
                    connection::close(socket, code).await;
                    return None;
                }
            },
        };
        permits.socket.authenticated();
        let Ok(opening) = self.opening.map_or_else(|| Opening::begin(&gateway), Ok) else {
            connection::close(socket, CloseCode::Unavailable).await;
            return None;
        };
        let since = Instant::now();
        let entry = Entry { peer, profile: None };
        let opened = Connection::open(Arc::clone(&gateway), socket, entry, self.dialect).await;
        drop(opening);
        match opened {
            Ok(connection) => Some((connection, permits)),
            Err((socket, error)) => {
                tracing::warn!(%error, "a session could not be opened");
                gateway.metrics.joins.ended(Join::Unavailable, since);
                connection::close(socket, CloseCode::Unavailable).await;
                None
            }
        }
    }
}

/// The socket of an upgrade that was answered.
async fn upgraded(gateway: &Gateway, on_upgrade: OnUpgrade) -> Option<WebSocketStream<TcpStream>> {
    let parts = on_upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    let config = connection::websocket_config(gateway.config.limits.max_message_bytes);
    let (stream, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
    Some(WebSocketStream::from_partially_read(stream, early, Role::Server, Some(config)).await)
}

/// Authentication by first message, for clients that cannot set headers and keep tokens out of URLs.
async fn first_message(
    gateway: &Gateway,
    socket: &mut WebSocketStream<TcpStream>,
    dialect: Dialect,
) -> Result<Arc<Peer>, CloseCode> {
    let limits = &gateway.config.limits;
    let text = tokio::time::timeout(limits.authenticate_deadline, first_text(socket))
        .await
        .map_err(|_| CloseCode::Deadline)?
        .ok_or(CloseCode::Unauthenticated)?;
    let envelope = dialect.decode(&text).map_err(|_| CloseCode::Unauthenticated)?;
    let ClientMessage::Authenticate { token } = envelope.message else {
        return Err(CloseCode::Unauthenticated);
    };
    authenticate(gateway, &token).await.map_err(|problem| match problem.status() {
        StatusCode::FORBIDDEN => CloseCode::Forbidden,
        StatusCode::SERVICE_UNAVAILABLE => CloseCode::Unavailable,
        _ => CloseCode::Unauthenticated,
    })
}

async fn first_text(socket: &mut WebSocketStream<TcpStream>) -> Option<Bytes> {
    loop {
        match socket.next().await? {
            Ok(Message::Text(text)) => return Some(Bytes::from(text)),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)) | Err(_) => return None,
        }
    }
}
