//! The yardstick: as little as a relay over WebSockets can do, on the library and with the settings of the product.
//!
//! A client names itself in the query (`/ws?id=NAME`). A text frame is `TARGET`, a line feed and a payload; the
//! target gets the payload as it came. There is no authentication and no JSON, nobody is told of anybody, and a
//! message to nobody is dropped. What the product costs beyond this is what its features cost.
//!
//! With `--redis`, several of these processes are one relay: what is for nobody here is published to a channel with the
//! target's name. A client then gets an empty text as soon as Redis has confirmed the subscription of its channel, so
//! that it knows from when on it can be reached, as the product's clients know by their list.

#![expect(clippy::print_stdout, reason = "a program: it prints its address")]

mod redis;
mod resp;

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Poll;

use anyhow::Context;
use atomic_waker::AtomicWaker;
use bytes::Bytes;
use clap::Parser;
use foldhash::fast::RandomState;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

/// The product's allocator: with glibc's, memory per socket would compare allocators.
#[global_allocator]
static GLOBAL: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bound of a client's queue, in messages; beyond it messages to the client are dropped.
const MAX_QUEUE: usize = 8_192;
/// Most sockets that may wait to be accepted; the kernel bounds it further.
const BACKLOG: u32 = 4_096;

/// A minimal WebSocket relay without authentication or JSON, to compare with.
#[derive(Parser)]
struct Arguments {
    /// Address to listen on; port 0 takes a free one, which is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A Redis server, through which several of these relay to each other.
    #[arg(long)]
    redis: Option<SocketAddr>,
}

/// What waits for one client: anyone may push, its own task takes. Empty, it holds no memory.
#[derive(Default)]
struct Mailbox {
    queue: Mutex<VecDeque<Bytes>>,
    waker: AtomicWaker,
}

struct Relay {
    clients: RwLock<HashMap<Box<str>, Arc<Mailbox>, RandomState>>,
    /// The way to the other processes, if there are any.
    others: Option<redis::Link>,
}

impl Mailbox {
    // A queue is whole at every step, so a poisoned lock is still good.
    fn lock(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, payload: Bytes) {
        {
            let mut queue = self.lock();
            if queue.len() >= MAX_QUEUE {
                return;
            }
            queue.push_back(payload);
        }
        self.waker.wake();
    }

    async fn take(&self) -> VecDeque<Bytes> {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            let mut queue = self.lock();
            if queue.is_empty() { Poll::Pending } else { Poll::Ready(std::mem::take(&mut *queue)) }
        })
        .await
    }
}

impl Relay {
    fn new(others: Option<redis::Link>) -> Self {
        Self { clients: RwLock::default(), others }
    }

    fn enter(&self, name: &str) -> Arc<Mailbox> {
        let mailbox = Arc::<Mailbox>::default();
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        clients.insert(name.into(), Arc::clone(&mailbox));
        // Under the lock: of a client that leaves and one that comes, the last has the last word.
        if let Some(others) = &self.others {
            others.subscribe(name);
        }
        mailbox
    }

    fn leave(&self, name: &str, mailbox: &Arc<Mailbox>) {
        let mut clients = self.clients.write().unwrap_or_else(PoisonError::into_inner);
        if clients.get(name).is_some_and(|now| Arc::ptr_eq(now, mailbox)) {
            clients.remove(name);
            if let Some(others) = &self.others {
                others.unsubscribe(name);
            }
        }
    }

    fn forward(&self, frame: &Bytes) {
        let Some(end) = frame.iter().position(|&byte| byte == b'\n') else { return };
        let (target, payload) = (&frame[..end], frame.slice(end + 1..));
        if let (Err(payload), Some(others)) = (self.deliver(target, payload), &self.others) {
            others.publish(target, &payload);
        }
    }

    /// Puts a message into the queue of a client of this process; gives it back where there is none.
    fn deliver(&self, target: &[u8], payload: Bytes) -> Result<(), Bytes> {
        let Ok(name) = std::str::from_utf8(target) else { return Err(payload) };
        let clients = self.clients.read().unwrap_or_else(PoisonError::into_inner);
        let Some(mailbox) = clients.get(name) else { return Err(payload) };
        mailbox.push(payload);
        Ok(())
    }
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // As the product: several threads, as many as there are processors.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let Some(redis) = arguments.redis else {
            return serve(arguments.listen, Arc::new(Relay::new(None))).await;
        };
        let (link, lines) = redis::connect(redis).await?;
        let relay = Arc::new(Relay::new(Some(link)));
        // It cannot go on without Redis: a yardstick that loses messages measures nothing.
        tokio::select! {
            result = serve(arguments.listen, Arc::clone(&relay)) => result,
            result = lines.run(Arc::clone(&relay)) => result,
        }
    })
}

async fn serve(address: SocketAddr, relay: Arc<Relay>) -> anyhow::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address).with_context(|| format!("cannot listen on {address}"))?;
    let listener: TcpListener = socket.listen(BACKLOG)?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept")?;
        let relay = Arc::clone(&relay);
        tokio::spawn(async move {
            // Boxed: the handshake is much larger than what an idle socket needs.
            if let Some((socket, name, mailbox)) = Box::pin(greet(stream, &relay)).await {
                let _lost = converse(socket, &relay, &mailbox).await;
                relay.leave(&name, &mailbox);
            }
        });
    }
}

type Greeted = (WebSocketStream<TcpStream>, Box<str>, Arc<Mailbox>);

async fn greet(stream: TcpStream, relay: &Relay) -> Option<Greeted> {
    stream.set_nodelay(true).ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(2 * 1024)
        .write_buffer_size(8 * 1024)
        .max_write_buffer_size(64 * 1024)
        .max_message_size(Some(64 * 1024))
        .max_frame_size(Some(64 * 1024));
    let mut entered = None;
    // The signature is the library's.
    #[expect(clippy::result_large_err, reason = "the library wants a whole response as error")]
    let callback = |request: &Request, response: Response| {
        let name = request.uri().query().and_then(|query| query.strip_prefix("id="));
        let Some(name) = name else { return Err(ErrorResponse::new(Some("?id=NAME is missing".to_owned()))) };
        // Before the answer goes out: whoever knows that the client is connected may send to it.
        entered = Some((Box::<str>::from(name), relay.enter(name)));
        Ok(response)
    };
    let accepted = accept_hdr_async_with_config(stream, callback, Some(config)).await;
    let (name, mailbox) = entered?;
    if accepted.is_err() {
        relay.leave(&name, &mailbox);
    }
    Some((accepted.ok()?, name, mailbox))
}

async fn converse(
    mut socket: WebSocketStream<TcpStream>,
    relay: &Relay,
    mailbox: &Mailbox,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            batch = mailbox.take() => {
                // All that waits goes into one write.
                for payload in batch {
                    let frame = Frame::message(payload, OpCode::Data(Data::Text), true);
                    socket.feed(Message::Frame(frame)).await?;
                }
                socket.flush().await?;
            }
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) => relay.forward(&Bytes::from(text)),
                // Reading on sends the library's answer to a close frame, and ends.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            },
        }
    }
}
