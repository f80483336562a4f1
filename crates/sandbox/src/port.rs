//! Ports that nobody else takes.
//!
//! A server that is stopped and started again wants its port back. A port of the range from which the kernel serves
//! outgoing connections may be taken in between, even by the client that keeps trying to reach the server: it may be
//! given the very port that it calls, and is then connected to itself. So ports come from below that range, and each
//! is reserved against other processes of this kind for as long as its [`Port`] lives, served or not.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Where ports come from.
const FIRST: u16 = 12_000;
const COUNT: u16 = 10_000;
/// What Redis Cluster adds to a port for the bus between its nodes. It stays below 32,768, where the kernel's own
/// range begins.
const BUS: u16 = 10_000;

/// A port of 127.0.0.1, reserved until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// A name in the kernel's own table, which is free again when this process ends, however it ends.
    _reserved: UnixDatagram,
}

impl Port {
    /// Reserves a port that nobody listens on, nor on the one 10,000 above it.
    pub fn reserve() -> Result<Self> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Processes begin at different places, so that they rarely meet.
        let spread = u16::try_from(std::process::id() % u32::from(COUNT / 8)).unwrap_or(0) * 8;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
            let number = FIRST + (spread + step) % COUNT;
            let Some(reserved) = reserve(number) else { continue };
            if is_free(number) && is_free(number + BUS) {
                return Ok(Self { number, _reserved: reserved });
            }
        }
        bail!("all ports from {FIRST} to {} are taken", FIRST + COUNT - 1);
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The address on this machine.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}

fn reserve(number: u16) -> Option<UnixDatagram> {
    let name = UnixAddr::from_abstract_name(format!("heliograph-port-{number}")).ok()?;
    UnixDatagram::bind_addr(&name).ok()
}

fn is_free(number: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_port_is_given_to_nobody_else_until_it_is_dropped() {
        let port = Port::reserve().unwrap();
        assert!(reserve(port.number()).is_none());
        let number = port.number();
        drop(port);
        assert!(reserve(number).is_some());
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_not_given() {
        let taken: Vec<_> = (0..8)
            .map(|_| TcpListener::bind(Port::reserve().unwrap().address()).unwrap())
            .map(|listener| (listener.local_addr().unwrap().port(), listener))
            .collect();
        for _ in 0..8 {
            let port = Port::reserve().unwrap();
            assert!(taken.iter().all(|(number, _)| *number != port.number()));
        }
    }
}
