//! What no real service does on demand: stay silent, read nothing, answer anything. Over streams in memory, on a clock
//! that the test turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{SinkExt, StreamExt};
use heliograph_auth::secret::Secret;
use heliograph_client::{
    Address, Config, Connector, Duplex, Event, Refused, State, Stop, Token, TokenError, TokenSource,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::program::{Program, json as raw, peer};

const TOKEN: &str = "a.secret.token";

/// The other ends of the streams that a client opens.
struct Service {
    opened: mpsc::UnboundedReceiver<DuplexStream>,
    tokens: Arc<AtomicUsize>,
}

struct InMemory(mpsc::UnboundedSender<DuplexStream>);

#[async_trait]
impl Connector for InMemory {
    async fn connect(&self, address: &Address) -> std::io::Result<Box<dyn Duplex>> {
        assert_eq!(*address, Address { host: "::1".to_owned(), port: 80, is_secure: false });
        let (ours, theirs) = tokio::io::duplex(4096);
        self.0.send(theirs).map_err(std::io::Error::other)?;
        Ok(Box::new(ours))
    }
}

struct Counted(Arc<AtomicUsize>);

#[async_trait]
impl TokenSource for Counted {
    async fn token(&self) -> Result<Token, TokenError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let text = Arc::new(Secret::new(TOKEN));
        Ok(Token { text, peer: peer("me"), good_for: Duration::from_mins(5) })
    }
}

impl Service {
    fn start() -> (Program, Self) {
        let (tell, opened) = mpsc::unbounded_channel();
        let tokens = Arc::<AtomicUsize>::default();
        let config = Config::new("ws://[::1]/ws", Counted(Arc::clone(&tokens))).connector(InMemory(tell));
        (Program::start(config), Self { opened, tokens })
    }

    async fn stream(&mut self) -> DuplexStream {
        self.opened.recv().await.unwrap()
    }

    /// Answers an upgrade with a status.
    async fn refuse(&mut self, head: &str) {
        let mut stream = self.stream().await;
        let mut request = vec![];
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    }

    /// Takes the next socket and its registration.
    #[expect(clippy::result_large_err, reason = "the library's signature")]
    async fn accept(&mut self) -> Socket {
        let look = |request: &Request, response: Response| {
            assert_eq!(request.uri().to_string(), "/ws", "no token in it");
            assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(self.stream().await, look).await.unwrap();
        let mut socket = Socket(socket);
        let register = socket.next().await;
        assert_eq!(register["type"], "register");
        assert_eq!(register["payload"]["capabilities"].as_array().map(Vec::len), Some(6));
        socket.say("peer_list", &json!({ "peers": ["you"], "capabilities": ["feedback", "goaway"] })).await;
        socket
    }
}

struct Socket(WebSocketStream<DuplexStream>);

impl Socket {
    async fn say(&mut self, kind: &str, payload: &Value) {
        let frame = json!({ "type": kind, "peer_id": "registry", "payload": payload });
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        match self.0.next().await {
            Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
            other => panic!("a text frame expected, not {other:?}"),
        }
    }

    /// Reads to the end; the code of the farewell.
    async fn end(&mut self) -> Option<u16> {
        let mut code = None;
        while let Some(Ok(message)) = self.0.next().await {
            if let Message::Close(frame) = message {
                code = frame.map(|frame| frame.code.into());
            }
        }
        code
    }
}

fn waiting(event: &Event) -> Option<Duration> {
    match event {
        Event::State(State::Waiting { retry_in }) => Some(*retry_in),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_has_died_without_a_word_is_noticed() {
    let (mut a, mut service) = Service::start();
    // Dead: nobody reads, so nobody answers the ping.
    let dead = service.accept().await;
    a.online().await;
    let since = Instant::now();
    tokio::time::sleep(Duration::from_secs(39)).await;
    assert_eq!(a.client.state(), State::Online, "after 25 s it asks, and waits for 15 s");
    a.until("to be given up", waiting).await;
    let gave_up = since.elapsed();
    assert!(gave_up >= Duration::from_secs(40) && gave_up < Duration::from_secs(42), "{gave_up:?}");
    // Quiet: whoever reads answers pings by itself.
    let mut quiet = service.accept().await;
    a.online().await;
    let reading = tokio::spawn(async move { quiet.end().await });
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!reading.is_finished() && a.client.state() == State::Online);
    drop(dead);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_answers_is_given_up_and_tried_again() {
    let (mut a, mut service) = Service::start();
    let since = Instant::now();
    let mute = service.stream().await;
    a.until("to be given up", waiting).await;
    assert_eq!(since.elapsed().as_secs(), 15);
    service.accept().await;
    a.online().await;
    drop(mute);
}

#[tokio::test(start_paused = true)]
async fn what_comes_instead_of_the_upgrade_is_heeded() {
    let (mut a, mut service) = Service::start();
    service.refuse("503 Service Unavailable\r\nretry-after: 7").await;
    assert!(a.until("a pause", waiting).await >= Duration::from_secs(7));
    service.refuse("429 Too Many Requests\r\nretry-after: 3").await;
    assert!(a.until("a pause", waiting).await >= Duration::from_secs(3));
    assert_eq!(service.tokens.load(Ordering::SeqCst), 1, "the token is good still");
    service.refuse("401 Unauthorized").await;
    service.refuse("502 Bad Gateway").await;
    assert!(a.until("a pause", waiting).await >= Duration::from_secs(1));
    assert_eq!(service.tokens.load(Ordering::SeqCst), 2, "a new one after the 401");
    service.refuse("403 Forbidden").await;
    assert_eq!(a.stopped().await, Stop::NotAllowed);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_read_is_refused_in_the_end() {
    let (mut a, mut service) = Service::start();
    let mut socket = service.accept().await;
    a.online().await;
    let payload = raw(&format!("\"{}\"", "x".repeat(60_000)));
    let mut written = 0;
    let refused = loop {
        match a.client.post("blob", &peer("you"), &payload).await {
            Ok(()) => written += 1,
            Err(refused) => break refused,
        }
        assert!(written < 100, "without a bound");
    };
    assert_eq!(refused, Refused::BufferFull);
    // What was taken arrives all the same, and then there is room again.
    for _ in 0..written {
        assert_eq!(socket.next().await["type"], "blob");
    }
    a.client.post("blob", &peer("you"), &payload).await.unwrap();
    assert_eq!(socket.next().await["target_id"], "you");
}

#[tokio::test(start_paused = true)]
async fn it_says_good_bye_when_it_is_closed_or_dropped_but_not_when_it_gives_up() {
    let (mut a, mut service) = Service::start();
    let mut socket = service.accept().await;
    a.online().await;
    let ((), code) = tokio::join!(a.client.close(), socket.end());
    assert_eq!(code, Some(1000));
    assert_eq!(a.stopped().await, Stop::Closed);

    let (mut a, mut service) = Service::start();
    let mut socket = service.accept().await;
    a.online().await;
    drop(a);
    assert_eq!(socket.end().await, Some(1000));

    // Nobody answers the farewell.
    let (mut a, mut service) = Service::start();
    let deaf = service.accept().await;
    a.online().await;
    let since = Instant::now();
    a.client.close().await;
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    drop(deaf);

    // The old socket after a move that the service leaves open: with 1000 it would end the session.
    let (mut a, mut service) = Service::start();
    let mut old = service.accept().await;
    a.online().await;
    old.say("goaway", &json!({ "reconnect_after_ms": 100, "deadline_ms": 1000 })).await;
    let _new = service.accept().await;
    a.online().await;
    assert_eq!(old.end().await, Some(4408));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_listen_can_still_send() {
    let (mut a, mut service) = Service::start();
    let socket = service.accept().await;
    a.online().await;
    // More than the events that are kept.
    let (mut sink, mut stream) = socket.0.split();
    let flood = tokio::spawn(async move {
        for n in 0..1000 {
            let frame = json!({ "type": "count", "peer_id": "you", "payload": n });
            sink.send(Message::text(frame.to_string())).await.unwrap();
        }
        sink
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!flood.is_finished(), "it is not read");
    a.client.post("hello", &peer("you"), &raw("1")).await.unwrap();
    let Some(Ok(Message::Text(hello))) = stream.next().await else { panic!("a message") };
    assert!(hello.contains("hello"));
    // An outcome that is not read is given up in time.
    let since = Instant::now();
    let outcome = a.client.send("hello", &peer("you"), &raw("2")).await;
    assert_eq!(format!("{outcome:?}"), "Unknown(Timeout)");
    assert_eq!(since.elapsed().as_secs(), 10);
    for n in 0..1000 {
        assert_eq!(a.hear().await.payload, n.to_string());
    }
    drop(flood.await.unwrap());
}
