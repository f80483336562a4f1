//! Our own accept loop: every phase of a connection has a deadline, and every connection a permit.
//!
//! `axum::serve` sets no deadline for the request head, and reads first bytes without one; a client that sends one
//! byte per second would hold a connection for ever.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use foldhash::quality::RandomState;
use heliograph_core::limits::{self, Limits};
use heliograph_http::TrustedProxies;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::{IntCounter, IntGauge};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Connections that a listener beside the public one takes at once.
const MAX_CONNECTIONS_APART: u32 = 1_024;

/// What a listener needs to know.
#[derive(Debug, Clone)]
pub struct Listening {
    /// Deadlines and bounds.
    pub limits: Limits,
    /// Whose word on the client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// Counts the connections.
    pub admission: Arc<Admission>,
    /// Ends the loop and, gently, its connections.
    pub stop: CancellationToken,
}

/// Takes connections until `stop`, and answers requests with `app`. Each request carries a
/// [`ClientAddress`](heliograph_http::ClientAddress).
pub async fn serve(listener: TcpListener, app: Router, listening: Listening) {
    let listening = Arc::new(listening);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = listening.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, address)) => admit(stream, address, &app, &listening),
            Err(error) => {
                // Out of descriptors, most likely: what is open stays, and a pause lets some of it end.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(stream: TcpStream, address: SocketAddr, app: &Router, listening: &Arc<Listening>) {
    let Some(permit) = listening.admission.connection() else {
        tracing::debug!("connection refused: too many");
        return;
    };
    let (app, listening) = (app.clone(), Arc::clone(listening));
    tokio::spawn(async move {
        // Small frames must not wait for each other. A peer that vanished is noticed by the deadlines of HTTP and by
        // the pings of the socket, so the kernel's keepalive is not needed.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let first_byte = stream.readable();
        if !matches!(tokio::time::timeout(listening.limits.first_byte_deadline, first_byte).await, Ok(Ok(())))
        {
            return; // silent: not one byte was believed, so none is answered
        }
        // Boxed, and gone when the socket's own life begins: an idle socket's task must not be as large as HTTP.
        let after = Box::pin(http(stream, address, app, &listening, Arc::new(permit))).await;
        if let Some(session) = after.take() {
            session.await;
        }
    });
}

/// What is to run on a connection when HTTP has ended on it with an upgrade: in the same task, so that no other
/// thread has to be woken for it.
#[derive(Clone, Default)]
pub struct AfterHttp(Arc<Mutex<Option<Session>>>);

type Session = Pin<Box<dyn Future<Output = ()> + Send>>;

impl AfterHttp {
    pub(crate) fn run(&self, session: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(session));
    }

    fn take(&self) -> Option<Session> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn http(
    stream: TcpStream,
    address: SocketAddr,
    app: Router,
    listening: &Listening,
    permit: Arc<Permit>,
) -> AfterHttp {
    let after = AfterHttp::default();
    let service = hyper::service::service_fn(|mut request: http::Request<Incoming>| {
        let client = listening.trusted_proxies.client(address, request.headers());
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(Arc::clone(&permit));
        request.extensions_mut().insert(after.clone());
        app.clone().oneshot(request.map(axum::body::Body::new))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(listening.limits.header_deadline)
        .max_buf_size(limits::MAX_HEADER_BYTES);
    let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = &mut connection => result,
        () = listening.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
    after
}

/// Counts connections and sockets against their bounds.
#[derive(Debug)]
pub struct Admission {
    open: Arc<Counter>,
    unauthenticated: Arc<Counter>,
    refused: Option<IntCounter>,
    per_address: Mutex<HashMap<IpAddr, Arc<AddressCounts>, RandomState>>,
    max_sockets_per_address: u32,
    max_unauthenticated_per_address: u32,
}

#[derive(Debug)]
struct Counter {
    now: AtomicU32,
    max: u32,
    gauge: Option<IntGauge>,
}

#[derive(Debug, Default)]
struct AddressCounts {
    sockets: AtomicU32,
    unauthenticated: AtomicU32,
}

/// A place that is taken until this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Counter>);

/// A socket's place under its address; see [`Admission::socket`].
#[derive(Debug)]
pub(crate) struct SocketPermit {
    counts: Arc<AddressCounts>,
    unauthenticated: Option<Permit>,
}

impl Counter {
    fn new(max: u32, gauge: Option<IntGauge>) -> Arc<Self> {
        Arc::new(Self { now: AtomicU32::new(0), max, gauge })
    }

    fn take(self: &Arc<Self>) -> Option<Permit> {
        if !take(&self.now, self.max) {
            return None;
        }
        if let Some(gauge) = &self.gauge {
            gauge.inc();
        }
        Some(Permit(Arc::clone(self)))
    }
}

fn take(counter: &AtomicU32, max: u32) -> bool {
    let free = |now| (max == 0 || now < max).then_some(now + 1);
    counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).is_ok()
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
        if let Some(gauge) = &self.0.gauge {
            gauge.dec();
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: &Limits, connections: IntGauge, refused: IntCounter) -> Self {
        Self {
            open: Counter::new(limits.max_connections, Some(connections)),
            refused: Some(refused),
            ..Self::apart(limits)
        }
    }

    /// For a listener beside the public one: health must answer when the public listener is full.
    pub fn apart(limits: &Limits) -> Self {
        Self {
            open: Counter::new(MAX_CONNECTIONS_APART, None),
            refused: None,
            unauthenticated: Counter::new(limits.max_unauthenticated, None),
            per_address: Mutex::default(),
            max_sockets_per_address: limits.max_sockets_per_address,
            max_unauthenticated_per_address: limits.max_unauthenticated_per_address,
        }
    }

    fn connection(&self) -> Option<Permit> {
        let permit = self.open.take();
        if let (None, Some(refused)) = (&permit, &self.refused) {
            refused.inc();
        }
        permit
    }

    /// A place for a WebSocket of `address`; `Err` names the limit that is reached. A socket that has yet to
    /// authenticate takes a place among those too, until [`SocketPermit::authenticated`].
    pub(crate) fn socket(&self, address: IpAddr, authenticated: bool) -> Result<SocketPermit, &'static str> {
        let counts = {
            let mut addresses = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(addresses.entry(address).or_default())
        };
        if !take(&counts.sockets, self.max_sockets_per_address) {
            return Err("sockets_per_address");
        }
        let mut permit = SocketPermit { counts, unauthenticated: None };
        if !authenticated {
            let global = self.unauthenticated.take().ok_or("unauthenticated")?;
            if !take(&permit.counts.unauthenticated, self.max_unauthenticated_per_address) {
                return Err("unauthenticated_per_address");
            }
            permit.unauthenticated = Some(global);
        }
        Ok(permit)
    }

    /// Forgets addresses without sockets.
    pub(crate) fn tidy(&self) {
        let mut addresses = self.per_address.lock().unwrap_or_else(PoisonError::into_inner);
        addresses.retain(|_, counts| Arc::strong_count(counts) > 1);
        if addresses.capacity() > 64 && addresses.len() < addresses.capacity() / 4 {
            addresses.shrink_to_fit();
        }
    }
}

impl SocketPermit {
    pub(crate) fn authenticated(&mut self) {
        if self.unauthenticated.take().is_some() {
            self.counts.unauthenticated.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for SocketPermit {
    fn drop(&mut self) {
        self.authenticated();
        self.counts.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(limits: &Limits) -> Admission {
        Admission::new(limits, IntGauge::new("x", "x").unwrap(), IntCounter::new("y", "y").unwrap())
    }

    #[test]
    fn a_full_public_listener_leaves_room_for_health() {
        let limits = Limits { max_connections: 1, ..Limits::default() };
        let (public, ops) = (admission(&limits), Admission::apart(&limits));
        let _only = public.connection().unwrap();
        assert!(public.connection().is_none());
        assert_eq!(public.refused.as_ref().map(IntCounter::get), Some(1));
        assert!(ops.connection().is_some());
    }

    #[test]
    fn places_are_bounded_and_come_back() {
        let limits =
            Limits { max_sockets_per_address: 2, max_unauthenticated_per_address: 1, ..Limits::default() };
        let admission = admission(&limits);
        let (a, b) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut first = admission.socket(a, false).unwrap();
        assert_eq!(admission.socket(a, false).unwrap_err(), "unauthenticated_per_address");
        first.authenticated();
        let second = admission.socket(a, false).unwrap();
        assert_eq!(admission.socket(a, true).unwrap_err(), "sockets_per_address");
        assert!(admission.socket(b, true).is_ok());
        drop(second);
        assert!(admission.socket(a, true).is_ok());
        drop(first);
        admission.tidy();
        assert!(admission.per_address.lock().unwrap().is_empty());
    }
}
