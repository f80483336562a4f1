//! One direction of a connection: bytes, their end and their breaking off arrive in order, when the faults let them.

use std::io::Result;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::faults::{Direction, Faults};

/// The largest piece that travels at once, and how many are under way; more waits with the sender.
const PIECE: usize = 16 * 1024;
const UNDER_WAY: usize = 64;
/// A throttled lane hands on so many times per second, so that it does so evenly.
const TURNS_PER_SECOND: u32 = 50;

/// Carries both directions until both have ended; an error when one broke off.
pub(super) async fn both(
    client: &mut TcpStream,
    server: &mut TcpStream,
    faults: &watch::Receiver<Faults>,
) -> Result<()> {
    // Delays are the proxy's to make, not the kernel's.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::try_join!(
        lane(from_client, to_server, Direction::ToServer, faults.clone()),
        lane(from_server, to_client, Direction::ToClient, faults.clone()),
    )?;
    Ok(())
}

/// What came, and when; nothing is the end.
struct Piece {
    came: Instant,
    bytes: Result<Vec<u8>>,
}

async fn lane(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    towards: Direction,
    faults: watch::Receiver<Faults>,
) -> Result<()> {
    let (sender, pieces) = mpsc::channel(UNDER_WAY);
    let exit = Exit { to, towards, faults, free: Instant::now() };
    let ((), ended) = tokio::join!(take_in(from, sender), exit.hand_on(pieces));
    ended
}

async fn take_in(mut from: impl AsyncRead + Unpin, pieces: mpsc::Sender<Piece>) {
    loop {
        let mut bytes = vec![0; PIECE];
        let bytes = from.read(&mut bytes).await.map(|length| {
            bytes.truncate(length);
            bytes
        });
        let is_last = bytes.as_ref().map_or(true, Vec::is_empty);
        let is_unwanted = pieces.send(Piece { came: Instant::now(), bytes }).await.is_err();
        if is_last || is_unwanted {
            return;
        }
    }
}

struct Exit<W> {
    to: W,
    towards: Direction,
    faults: watch::Receiver<Faults>,
    /// When a throttled lane may hand on again.
    free: Instant,
}

impl<W: AsyncWrite + Unpin> Exit<W> {
    async fn hand_on(mut self, mut pieces: mpsc::Receiver<Piece>) -> Result<()> {
        while let Some(Piece { came, bytes }) = pieces.recv().await {
            let mut rate = self.turn(came).await;
            let bytes = bytes?;
            if bytes.is_empty() {
                break;
            }
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(share(rate)));
                self.to.write_all(now).await?;
                if let Some(rate) = rate {
                    self.free = Instant::now() + took(now.len(), rate);
                }
                rest = later;
                rate = self.turn(came).await;
            }
        }
        self.to.shutdown().await
    }

    /// Waits until what came at a time may go on; faults may change meanwhile. The rate that holds now.
    async fn turn(&mut self, came: Instant) -> Option<u32> {
        loop {
            let faults = self.faults.borrow_and_update().clone();
            let mut due = came + faults.delay;
            if faults.rate.is_some() {
                due = due.max(self.free);
            }
            if !faults.stop(self.towards) && due <= Instant::now() {
                return faults.rate;
            }
            tokio::select! {
                () = sleep_until(due), if !faults.stop(self.towards) => return faults.rate,
                changed = self.faults.changed() => if changed.is_err() {
                    // The proxy goes, and this with it.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

/// How many bytes go at once.
fn share(rate: Option<u32>) -> usize {
    rate.and_then(|rate| usize::try_from((rate / TURNS_PER_SECOND).max(1)).ok()).unwrap_or(PIECE)
}

/// How long so many bytes take.
fn took(bytes: usize, rate: u32) -> Duration {
    Duration::from_secs_f64(bytes as f64 / f64::from(rate))
}
