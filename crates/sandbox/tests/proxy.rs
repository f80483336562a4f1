//! Each fault of the proxy, on connections that are open when it comes.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by a panic")]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use heliograph_sandbox::{Direction, Proxy, Redis};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Long enough for what should come, short enough to wait for what should not.
const PATIENCE: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(300);

/// Echoes what it gets and reports what that was.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (report, got) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let report = report.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    let _ = report.send(bytes[..length].to_vec());
                    if stream.write_all(&bytes[..length]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, got)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask(&mut stream, b"hello").await, b"hello");
    stream
}

async fn ask(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    stream.write_all(question).await.unwrap();
    answer(stream, question.len()).await
}

async fn answer(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut answer = vec![0; length];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
    answer
}

async fn is_quiet(stream: &mut TcpStream) -> bool {
    timeout(QUIET, stream.read(&mut [0; 1])).await.is_err()
}

async fn reset(stream: &mut TcpStream) {
    let ended = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("an end");
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

async fn until_connections_are(proxy: &Proxy, expect: usize) {
    let wait = async {
        while proxy.connections() != expect {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{} connections", proxy.connections()));
}

#[tokio::test]
async fn without_faults_bytes_and_their_end_arrive() {
    let (server, _got) = echo().await;
    let proxy = Proxy::to(server).await.unwrap();
    let mut stream = connect(&proxy).await;
    let much: Vec<u8> = (0..3_000_000u32).map(|i| i.to_le_bytes()[0]).collect();
    let (mut read, mut write) = stream.split();
    let mut back = vec![];
    let (sent, came) = tokio::join!(
        async {
            write.write_all(&much).await.unwrap();
            write.shutdown().await
        },
        timeout(PATIENCE, read.read_to_end(&mut back))
    );
    sent.unwrap();
    came.expect("the end").unwrap();
    assert!(back == much, "what came back is not what was sent");
    drop(stream);
    until_connections_are(&proxy, 0).await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_reset() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let proxy = Proxy::to(server).await.unwrap();
    reset(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
}

#[tokio::test]
async fn a_cut_resets_open_connections_and_new_ones_until_it_is_healed() {
    let (server, _got) = echo().await;
    let proxy = Proxy::to(server).await.unwrap();
    let (mut one, mut other) = (connect(&proxy).await, connect(&proxy).await);
    assert_eq!((proxy.connections(), proxy.accepted()), (2, 2));
    proxy.cut();
    reset(&mut one).await;
    reset(&mut other).await;
    until_connections_are(&proxy, 0).await;
    let mut refused = TcpStream::connect(proxy.address()).await.unwrap();
    reset(&mut refused).await;
    proxy.heal();
    connect(&proxy).await;
}

#[tokio::test]
async fn a_cut_that_is_healed_at_once_still_resets_what_was_open() {
    let (server, _got) = echo().await;
    let proxy = Proxy::to(server).await.unwrap();
    let mut stream = connect(&proxy).await;
    proxy.cut();
    proxy.heal();
    reset(&mut stream).await;
    connect(&proxy).await;
}

#[tokio::test]
async fn a_stopped_direction_holds_what_is_sent_and_the_other_goes_on() {
    let (server, mut got) = echo().await;
    let proxy = Proxy::to(server).await.unwrap();
    let mut stream = connect(&proxy).await;
    assert_eq!(got.recv().await.unwrap(), b"hello");

    proxy.half_open(Direction::ToClient);
    stream.write_all(b"one").await.unwrap();
    assert_eq!(timeout(PATIENCE, got.recv()).await.expect("it arrives").unwrap(), b"one");
    assert!(is_quiet(&mut stream).await, "the answer came");
    proxy.heal();
    assert_eq!(answer(&mut stream, 3).await, b"one");

    for stopped in [Direction::ToServer, Direction::Both] {
        proxy.half_open(stopped);
        stream.write_all(b"two").await.unwrap();
        assert!(timeout(QUIET, got.recv()).await.is_err(), "it arrived");
        assert!(is_quiet(&mut stream).await, "an answer came");
        assert_eq!(proxy.connections(), 1);
        proxy.heal();
        assert_eq!(answer(&mut stream, 3).await, b"two");
        assert_eq!(got.recv().await.unwrap(), b"two");
    }
}

#[tokio::test]
async fn the_end_of_a_connection_does_not_pass_a_black_hole() {
    let (server, _got) = echo().await;
    let proxy = Proxy::to(server).await.unwrap();
    let stream = connect(&proxy).await;
    proxy.half_open(Direction::Both);
    drop(stream);
    tokio::time::sleep(QUIET).await;
    assert_eq!(proxy.connections(), 1);
    proxy.heal();
    until_connections_are(&proxy, 0).await;
}

#[tokio::test]
async fn a_delay_holds_each_way_on_an_open_connection() {
    let (server, _got) = echo().await;
    let proxy = Proxy::to(server).await.unwrap();
    let mut stream = connect(&proxy).await;
    let delay = Duration::from_millis(200);
    proxy.delay(delay);
    let start = Instant::now();
    assert_eq!(ask(&mut stream, b"late").await, b"late");
    assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());
    // What waits does not wait for a delay that is over.
    proxy.delay(Duration::from_hours(1));
    stream.write_all(b"soon").await.unwrap();
    assert!(is_quiet(&mut stream).await);
    proxy.heal();
    assert_eq!(answer(&mut stream, 4).await, b"soon");
}

#[tokio::test]
async fn a_throttled_connection_carries_no_more_than_it_may() {
    let (server, _got) = echo().await;
    let proxy = Proxy::to(server).await.unwrap();
    let mut stream = connect(&proxy).await;
    proxy.throttle(10_000);
    let start = Instant::now();
    assert_eq!(ask(&mut stream, &[7; 5_000]).await, [7; 5_000]);
    // The first share goes at once.
    assert!(start.elapsed() >= Duration::from_millis(450), "{:?}", start.elapsed());
    proxy.throttle(1);
    stream.write_all(&[8; 5_000]).await.unwrap();
    assert!(timeout(QUIET, stream.read_exact(&mut [0; 5_000])).await.is_err());
    proxy.heal();
}

#[tokio::test]
async fn a_url_leads_through_it() {
    let redis = Redis::standalone().await.unwrap();
    let proxy = Proxy::to(redis.nodes()[0].address()).await.unwrap();
    assert_eq!(proxy.through(&redis.url()), format!("redis://{}", proxy.address()));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    assert_eq!(ask_redis(&mut stream).await, b"+PONG\r\n");
    assert_eq!(proxy.connections(), 1);
}

async fn ask_redis(stream: &mut TcpStream) -> Vec<u8> {
    stream.write_all(b"PING\r\n").await.unwrap();
    answer(stream, 7).await
}
