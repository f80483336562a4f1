//! The task of one socket: opens it, then carries frames in both directions until it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use heliograph_auth::secret::Secret;
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{HeaderValue, Uri};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::close::End;
use crate::connect::{Address, Connector, Duplex};
use crate::limits;
use crate::session::LinkId;
use crate::token::retry_after_of;

type Socket = WebSocketStream<Box<dyn Duplex>>;

/// Where a socket is opened, and how.
#[derive(Clone)]
pub(crate) struct Dialer {
    url: Arc<Secret>, // it may hold a password
    address: Address,
    connector: Arc<dyn Connector>,
}

/// What a link tells.
pub(crate) enum Told {
    Open,
    Text(Utf8Bytes),
    /// The last word.
    End(End),
}

enum Out {
    Text(String),
    Ping,
    HangUp(u16),
}

/// Where frames for a link are put. Dropped without a farewell, the connection just ends.
pub(crate) struct Writer {
    out: mpsc::Sender<Out>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Whether there was no room for a frame.
#[derive(Debug)]
pub(crate) struct Full;

impl Writer {
    pub(crate) fn write(&self, text: String) -> Result<(), Full> {
        let bytes = text.len();
        if self.waiting_bytes.load(Ordering::Relaxed).saturating_add(bytes) > limits::OUTGOING_BYTES {
            return Err(Full);
        }
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // After an error the link has ended, or is told to: nobody counts its bytes any more.
        self.out.try_send(Out::Text(text)).map_err(|_| Full)
    }

    /// Closes the socket once what was written is out.
    pub(crate) fn hang_up(self, code: u16) {
        // Where there is no room it ends without a farewell.
        _ = self.out.try_send(Out::HangUp(code));
    }
}

impl Dialer {
    /// To this address; `None` if it is none.
    pub(crate) fn new(url: &str, connector: Arc<dyn Connector>) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let (is_secure, usual_port) = match uri.scheme_str()? {
            "ws" => (false, 80),
            "wss" => (true, 443),
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let address =
            Address { host: host.to_owned(), port: uri.port_u16().unwrap_or(usual_port), is_secure };
        Some(Self { url: Arc::new(Secret::new(url)), address, connector })
    }

    /// A link that is still to be run.
    pub(crate) fn link(
        &self,
        id: LinkId,
        token: Arc<Secret>,
        tell: mpsc::Sender<(LinkId, Told)>,
    ) -> (Writer, impl Future<Output = ()> + Send + 'static) {
        let (out, written) = mpsc::channel(limits::OUTGOING);
        let waiting_bytes = Arc::<AtomicUsize>::default();
        let ping = out.downgrade();
        let link = Link { id, tell, ping, written, waiting_bytes: Arc::clone(&waiting_bytes) };
        (Writer { out, waiting_bytes }, link.run(self.clone(), token))
    }

    async fn open(&self, token: &Secret) -> Result<Socket, End> {
        let stream = self.connector.connect(&self.address).await.map_err(|error| {
            tracing::debug!(%error, "cannot connect");
            End::Lost
        })?;
        let mut request = self.url.expose().into_client_request().map_err(|_| End::Lost)?;
        // A token that no header can have is no token.
        let unusable = |_| End::Refused { status: 401, retry_after: None };
        let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose())).map_err(unusable)?;
        bearer.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, bearer);
        let config = WebSocketConfig::default()
            .max_message_size(Some(limits::INCOMING_BYTES))
            .max_frame_size(Some(limits::INCOMING_BYTES));
        let (socket, _) =
            client_async_with_config(request, stream, Some(config)).await.map_err(|error| refusal(&error))?;
        Ok(socket)
    }
}

fn refusal(error: &Error) -> End {
    let Error::Http(response) = error else {
        tracing::debug!(%error, "no upgrade");
        return End::Lost;
    };
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after = retry_after.and_then(|value| retry_after_of(value, SystemTime::now()));
    End::Refused { status: response.status().as_u16(), retry_after }
}

struct Link {
    id: LinkId,
    tell: mpsc::Sender<(LinkId, Told)>,
    // Weak, so that the link ends when whoever writes is gone.
    ping: mpsc::WeakSender<Out>,
    written: mpsc::Receiver<Out>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// Why nothing is written any more.
enum Silent {
    /// It was said that this is enough, and the farewell is out.
    HungUp,
    /// The connection does not take any more.
    Broken,
}

impl Link {
    async fn run(mut self, dialer: Dialer, token: Arc<Secret>) {
        let (id, tell) = (self.id, self.tell.clone());
        let opened = tokio::select! {
            opened = dialer.open(&token) => opened,
            // Nothing is written before it is open: it is not wanted any more.
            _ = self.written.recv() => return,
        };
        let end = match opened {
            Ok(socket) => {
                if tell.send((id, Told::Open)).await.is_err() {
                    return;
                }
                self.converse(socket).await
            }
            Err(end) => Some(end),
        };
        if let Some(end) = end {
            // Fails when nobody is interested any more.
            _ = tell.send((id, Told::End(end))).await;
        }
    }

    /// Carries frames; how it ended, unless we have ended it.
    async fn converse(self, socket: Socket) -> Option<End> {
        let Self { id, tell, ping, written, waiting_bytes } = self;
        let (sink, mut stream) = socket.split();
        let silent = {
            let mut reading = std::pin::pin!(read(&mut stream, id, &tell, &ping));
            let silent = tokio::select! {
                end = &mut reading => return Some(end),
                silent = write(sink, written, &waiting_bytes) => silent,
            };
            match silent {
                // Why may be among what has not been read yet.
                Silent::Broken => return Some(timeout(limits::FAREWELL, reading).await.unwrap_or(End::Lost)),
                Silent::HungUp => silent,
            }
        };
        if let Silent::HungUp = silent {
            // The service answers a farewell and closes; without waiting for that, what we wrote last may be lost.
            let end = async { while let Some(Ok(_)) = stream.next().await {} };
            _ = timeout(limits::FAREWELL, end).await;
        }
        None
    }
}

/// Reads to the end. A quiet socket is asked for a sign of life: a way that is dead says nothing by itself.
async fn read(
    stream: &mut SplitStream<Socket>,
    id: LinkId,
    tell: &mpsc::Sender<(LinkId, Told)>,
    ping: &mpsc::WeakSender<Out>,
) -> End {
    let mut was_asked = false;
    let mut end = End::Lost;
    loop {
        let patience = if was_asked { limits::SILENCE } else { limits::KEEPALIVE };
        let Ok(message) = timeout(patience, stream.next()).await else {
            if was_asked {
                tracing::debug!("the connection has gone quiet");
                return end;
            }
            was_asked = true;
            // Where there is no room enough is written already, and the silence is the answer.
            _ = ping.upgrade().map(|ping| ping.try_send(Out::Ping));
            continue;
        };
        was_asked = false;
        match message {
            // While the program does not take what is told, the socket is not read: that is what slows the service.
            Some(Ok(Message::Text(text))) => {
                if tell.send((id, Told::Text(text))).await.is_err() {
                    return end;
                }
            }
            Some(Ok(Message::Close(frame))) => {
                // Read on: that is how the answer goes out.
                end = frame.map_or(End::Lost, |frame| End::Closed(frame.code.into()));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "the connection has ended");
                return end;
            }
            None => return end,
        }
    }
}

/// Writes what waits, as much of it at once as there is.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut written: mpsc::Receiver<Out>,
    waiting_bytes: &AtomicUsize,
) -> Silent {
    while let Some(out) = written.recv().await {
        let mut next = Some(out);
        while let Some(out) = next {
            let message = match out {
                Out::Text(text) => {
                    waiting_bytes.fetch_sub(text.len(), Ordering::Relaxed);
                    Message::text(text)
                }
                Out::Ping => Message::Ping(Bytes::new()),
                Out::HangUp(code) => {
                    let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::default() };
                    // A connection that is broken needs no farewell.
                    _ = timeout(limits::FAREWELL, sink.send(Message::Close(Some(frame)))).await;
                    return Silent::HungUp;
                }
            };
            if sink.feed(message).await.is_err() {
                return Silent::Broken;
            }
            next = written.try_recv().ok();
        }
        if sink.flush().await.is_err() {
            return Silent::Broken;
        }
    }
    // Nobody writes any more, and nobody has said good-bye: it just ends.
    Silent::HungUp
}
