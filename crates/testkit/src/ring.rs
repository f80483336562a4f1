//! Addresses that are taken in turn.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Addresses of which each call takes the next; clones go on in the same turn.
#[derive(Debug, Clone)]
pub struct Ring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    addresses: Box<[SocketAddr]>,
    turn: AtomicUsize,
}

impl Ring {
    /// At least one address.
    pub fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let addresses: Box<[SocketAddr]> = addresses.into_iter().collect();
        assert!(!addresses.is_empty(), "no address to go to");
        Self(Arc::new(Inner { addresses, turn: AtomicUsize::new(0) }))
    }

    /// The one whose turn it is.
    pub fn next(&self) -> SocketAddr {
        let Inner { addresses, turn } = &*self.0;
        addresses[turn.fetch_add(1, Ordering::Relaxed) % addresses.len()]
    }

    /// All of them, in their order.
    pub fn all(&self) -> &[SocketAddr] {
        &self.0.addresses
    }
}

impl From<SocketAddr> for Ring {
    fn from(address: SocketAddr) -> Self {
        Self::of([address])
    }
}
