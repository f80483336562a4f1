//! The clock and the sockets of the library's task.
//!
//! It oversleeps. The task writes what the protocols have to say when something wakes it: a packet, a call, a timer. Three
//! times while a channel opens (ICE is connected, DTLS is, SCTP is) they have something to say after it has looked, and it
//! then sleeps until the next tick of ICE, 200 ms away. So for a moment after ICE connects, it is made to sleep lightly:
//! measured on one machine, with the shorter interval of ICE checks, a channel then opens within 100 ms in the median, and
//! not 800.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

/// How long the sleep is light after ICE connects.
const HURRY: Duration = Duration::from_secs(1);
/// How long it sleeps then, at most.
const NAP: Duration = Duration::from_millis(5);

/// What a socket holds of packets that were not read yet. The usual 208 KiB of Linux are some ninety packets, fewer than SCTP
/// sends in one go: on a busy machine they overflow, and the library finds out by timers that double.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1_048_576;

/// Tokio, except for the length of its sleeps.
#[derive(Debug)]
pub(super) struct LightSleeper {
    tokio: TokioRuntime,
    until: Mutex<Option<Instant>>,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl LightSleeper {
    pub(super) fn new() -> Self {
        Self { tokio: TokioRuntime, until: Mutex::new(None) }
    }

    /// Sleep lightly for a moment.
    pub(super) fn hurry(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + HURRY);
    }

    fn is_in_a_hurry(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

impl Runtime for LightSleeper {
    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        self.tokio.sleep(if self.is_in_a_hurry() { duration.min(NAP) } else { duration })
    }

    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        self.tokio.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        // As much as the system gives; without it there is loss, not failure.
        let _as_it_is = rustix::net::sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES);
        self.tokio.wrap_udp_socket(socket)
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        self.tokio.wrap_tcp_listener(listener)
    }

    fn connect_tcp(&self, remote: SocketAddr) -> Boxed<'_, io::Result<Arc<dyn AsyncTcpStream>>> {
        self.tokio.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        self.tokio.resolve_host(host)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        self.tokio.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        self.tokio.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        self.tokio.yield_now()
    }

    fn name(&self) -> &'static str {
        self.tokio.name()
    }
}
