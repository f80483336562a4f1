//! The whole agent: a bridge for local programs, a client of the service, and the mesh between them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow};
use heliograph_client::{Client, State, Stop, TokenExchange};
use tokio_util::sync::CancellationToken;

use crate::bridge::{Bridge, Hub, Notice};
use crate::config::{Config, IceSource, OwnIce};
use crate::mesh::Mesh;
use crate::peer::Ended;

/// How soon it is looked again whether the service has said who we are.
const LOOK: Duration = Duration::from_millis(200);

/// Runs an agent until `end` is cancelled, which is success, or until the service will not have it any more: revoked,
/// superseded by another agent of the same peer, credential refused.
pub async fn run(config: Config, end: CancellationToken) -> anyhow::Result<()> {
    let bridge = Bridge::bind(&config.bridge_socket).await?;
    let hub = Hub::new();
    let tokens = TokenExchange::new(config.token_url, config.credential);
    let (client, events) = Client::start(heliograph_client::Config::new(&config.socket_url, tokens));
    let (mesh, news) = Mesh::new(client.clone(), Arc::clone(&hub), config.relay_only, config.socket_url);
    tracing::info!(socket = %config.bridge_socket.display(), "local programs can attach");

    let closing = CancellationToken::new();
    let serving = tokio::spawn(bridge.serve(Arc::clone(&mesh) as Arc<_>, Arc::clone(&hub), closing.clone()));
    let informing = tokio::spawn({
        let mesh = Arc::clone(&mesh);
        async move { mesh.inform(news).await }
    });
    let own_ice = matches!(config.ice, IceSource::Own(_));
    let stop = tokio::select! {
        () = end.cancelled() => None,
        stop = mesh.hear_service(events, own_ice) => Some(stop),
        () = mesh.try_again() => None,
        () = renew(config.ice, &client, &mesh) => None,
    };

    mesh.close(if stop == Some(Stop::Revoked) { Ended::Revoked } else { Ended::Closed }).await;
    client.close().await;
    if let Some(stop) = stop {
        hub.tell(Notice::Status(mesh.status_of(&State::Stopped(stop)))).await;
    }
    closing.cancel();
    serving.await.context("the bridge broke")?;
    informing.abort();
    match stop {
        None | Some(Stop::Closed) => Ok(()),
        Some(stop) => Err(anyhow!("signaling has ended: {stop}")),
    }
}

/// Keeps the credentials of this machine's own TURN servers good. Never ends.
async fn renew(ice: IceSource, client: &Client, mesh: &Mesh) {
    if let IceSource::Own(own) = ice {
        loop {
            use_own(&own, client, mesh).await;
            let Some(after) = own.renew_after() else { break };
            tokio::time::sleep(after).await;
        }
    }
    std::future::pending::<()>().await;
}

async fn use_own(own: &OwnIce, client: &Client, mesh: &Mesh) {
    // Credentials are bound to the peer, whose name comes with the first token.
    let me = loop {
        if let Some(me) = client.peer_id() {
            break me;
        }
        tokio::time::sleep(LOOK).await;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    mesh.use_ice_servers(own.servers(&me, now));
}
