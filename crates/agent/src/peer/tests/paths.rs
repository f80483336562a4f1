//! Detours that can be cut: candidates are rewritten to sockets that pass packets on, as a NAT does.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::peer::Signal;
use crate::rtc::Candidate;

/// All the ways between two peers; neither learns the other's own address.
#[derive(Default)]
pub(super) struct Paths {
    open: Mutex<Vec<JoinHandle<()>>>,
    since_the_cut: AtomicUsize,
    /// Of so many packets one is lost; 0: none is.
    lossy: usize,
}

impl Paths {
    /// Ways on which one of `packets` is lost.
    pub(super) fn losing_one_of(packets: usize) -> Self {
        Self { lossy: packets, ..Self::default() }
    }

    /// The signal with a detour in place of the candidate's address, and no candidates in descriptions.
    pub(super) fn detour(&self, signal: Signal) -> Signal {
        let without = |sdp: String| {
            let lines = sdp.split_inclusive('\n').filter(|line| !line.starts_with("a=candidate:"));
            lines.collect()
        };
        match signal {
            Signal::Offer(sdp) => Signal::Offer(without(sdp)),
            Signal::Answer(sdp) => Signal::Answer(without(sdp)),
            Signal::Candidate(Candidate { text, mid, index }) => {
                let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
                let real: SocketAddr = format!("{}:{}", words[4], words[5]).parse().unwrap();
                words[5] = self.open(real).to_string();
                Signal::Candidate(Candidate { text: words.join(" "), mid, index })
            }
        }
    }

    /// No packet passes on the ways that there are.
    pub(super) fn cut(&self) {
        for task in self.open.lock().unwrap().drain(..) {
            task.abort();
        }
        self.since_the_cut.store(0, Ordering::Relaxed);
    }

    pub(super) fn opened_since_the_cut(&self) -> usize {
        self.since_the_cut.load(Ordering::Relaxed)
    }

    fn open(&self, real: SocketAddr) -> u16 {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let port = socket.local_addr().unwrap().port();
        let front = Arc::new(UdpSocket::from_std(socket).unwrap());
        self.open.lock().unwrap().push(tokio::spawn(pass(front, real, self.lossy)));
        self.since_the_cut.fetch_add(1, Ordering::Relaxed);
        port
    }
}

/// Passes on what comes to `front`, to the real address and back; one socket behind it for each sender.
async fn pass(front: Arc<UdpSocket>, real: SocketAddr, lossy: usize) {
    let mut behind: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    // They end with this task.
    let mut ways_back = tokio::task::JoinSet::new();
    let (mut packet, mut passed) = ([0; 2_048], 0);
    while let Ok((length, from)) = front.recv_from(&mut packet).await {
        let socket = match behind.entry(from) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
                ways_back.spawn(back(socket.clone(), front.clone(), from, lossy));
                new.insert(socket)
            }
        };
        if is_lost(&mut passed, lossy) {
            continue;
        }
        let _lost = socket.send_to(&packet[..length], real).await;
    }
}

async fn back(socket: Arc<UdpSocket>, front: Arc<UdpSocket>, to: SocketAddr, lossy: usize) {
    let (mut packet, mut passed) = ([0; 2_048], 0);
    while let Ok(length) = socket.recv(&mut packet).await {
        if is_lost(&mut passed, lossy) {
            continue;
        }
        let _lost = front.send_to(&packet[..length], to).await;
    }
}

fn is_lost(passed: &mut usize, lossy: usize) -> bool {
    *passed += 1;
    lossy != 0 && passed.is_multiple_of(lossy)
}
