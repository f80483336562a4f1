//! Two connections in one process, over real sockets.

pub(crate) mod relay;

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

/// One side: a connection, and what it has told.
struct Side {
    connection: Connection,
    events: mpsc::Receiver<Event>,
    channel: Option<Channel>,
}

impl Side {
    async fn open() -> Self {
        Self::open_with(&Settings::default()).await
    }

    async fn open_with(settings: &Settings) -> Self {
        let (connection, events) = Connection::open(settings).await.unwrap();
        Self { connection, events, channel: None }
    }

    async fn note(&mut self, event: Event, other: &Connection) {
        match event {
            Event::Candidate(candidate) => other.add(&candidate).await.unwrap(),
            Event::State(_) => {}
            Event::Channel(channel) => self.channel = Some(channel),
        }
    }
}

async fn negotiate(a: &Connection, b: &Connection, restart: bool) {
    let offer = a.offer(restart).await.unwrap();
    b.take_offer(&offer).await.unwrap();
    let answer = b.answer().await.unwrap();
    a.take_answer(&answer).await.unwrap();
}

/// Passes candidates on until it is so.
async fn until(a: &mut Side, b: &mut Side, what: &str, so: impl Fn(&Side, &Side) -> bool) {
    within(what, async {
        while !so(a, b) {
            pass_one_on(a, b).await;
        }
    })
    .await;
}

/// Passes candidates on while something else is done.
async fn meanwhile<T>(a: &mut Side, b: &mut Side, done: impl Future<Output = T>) -> T {
    let mut done = std::pin::pin!(done);
    loop {
        tokio::select! {
            done = &mut done => return done,
            () = pass_one_on(a, b) => {}
        }
    }
}

async fn pass_one_on(a: &mut Side, b: &mut Side) {
    tokio::select! {
        event = a.events.recv() => a.note(event.unwrap(), &b.connection).await,
        event = b.events.recv() => b.note(event.unwrap(), &a.connection).await,
    }
}

/// Two sides with a channel that `a` made.
async fn connected() -> (Side, Side) {
    let (mut a, mut b) = (Side::open().await, Side::open().await);
    connect(&mut a, &mut b).await;
    (a, b)
}

async fn connect(a: &mut Side, b: &mut Side) {
    a.channel = Some(a.connection.create_channel().await.unwrap());
    negotiate(&a.connection, &b.connection, false).await;
    until(a, b, "a channel", |_, b| b.channel.is_some()).await;
    for side in [a, b] {
        let event = within("open", side.channel.as_ref().unwrap().next()).await;
        assert!(matches!(event, ChannelEvent::Opened), "{event:?}");
    }
}

/// A text each way; candidates are passed on meanwhile.
async fn converse(a: &mut Side, b: &mut Side) {
    let (at_a, at_b) = (a.channel.clone().unwrap(), b.channel.clone().unwrap());
    let talk = async {
        at_a.send("from a").await.unwrap();
        at_b.send("from b").await.unwrap();
        assert_eq!(text(&at_b).await, "from a");
        assert_eq!(text(&at_a).await, "from b");
    };
    meanwhile(a, b, talk).await;
}

async fn text(channel: &Channel) -> String {
    match within("a text", channel.next()).await {
        ChannelEvent::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_pass_both_ways_complete_and_in_order_up_to_the_limit() {
    const MESSAGES: usize = 10_000;
    let (a, b) = connected().await;
    let (at_a, at_b) = (a.channel.clone().unwrap(), b.channel.clone().unwrap());
    let pass = async |from: &Channel, to: &Channel| {
        let send = async {
            for n in 0..MESSAGES {
                from.send(&n.to_string()).await.unwrap();
            }
        };
        let receive = async {
            for n in 0..MESSAGES {
                assert_eq!(text(to).await, n.to_string());
            }
        };
        tokio::join!(send, receive);
    };
    tokio::join!(pass(&at_a, &at_b), pass(&at_b, &at_a));

    let limit = a.connection.message_limit().await;
    assert_eq!(limit, channel::MESSAGE_BYTES);
    at_a.send(&"x".repeat(limit)).await.unwrap();
    assert_eq!(text(&at_b).await.len(), limit);
    at_a.send(&"x".repeat(limit + 1)).await.unwrap_err();
    let pair = a.connection.pair().await.unwrap();
    assert_eq!(pair.local, "host", "{pair:?}");
    tokio::join!(a.connection.close(), b.connection.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_the_channel_also_when_two_cross() {
    let (mut a, mut b) = connected().await;
    for crossing in [false, true] {
        if crossing {
            let _lost = b.connection.offer(true).await.unwrap();
            b.connection.roll_back().await.unwrap();
        }
        let before = a.connection.description().await;
        negotiate(&a.connection, &b.connection, true).await;
        let after = a.connection.description().await;
        assert_ne!(before, after);
        converse(&mut a, &mut b).await;
    }
    tokio::join!(a.connection.close(), b.connection.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_of_others_and_too_many_of_ours_are_closed() {
    let (mut a, mut b) = connected().await;
    b.channel = None;
    let second = a.connection.create_channel().await.unwrap();
    until(&mut a, &mut b, "the second", |_, b| b.channel.is_some()).await;
    assert!(matches!(within("open", second.next()).await, ChannelEvent::Opened));

    let third = a.connection.create_channel().await.unwrap();
    let other = a.connection.inner.create_data_channel("other", None).await.map(Channel::new).unwrap();
    for unwanted in [third, other] {
        let event = within("open", unwanted.next()).await;
        assert!(matches!(event, ChannelEvent::Opened), "{event:?}");
        let event = within("closed", unwanted.next()).await;
        assert!(matches!(event, ChannelEvent::Closed), "{event:?}");
    }
    tokio::join!(a.connection.close(), b.connection.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_is_heard_and_nothing_is_left_after_it() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let (a, b) = connected().await;
    assert!(tasks() > before);
    a.channel.as_ref().unwrap().close().await;
    a.connection.close().await;
    let event = within("the goodbye", b.channel.as_ref().unwrap().next()).await;
    assert!(matches!(event, ChannelEvent::Closed), "{event:?}");
    b.channel.as_ref().unwrap().send("too late").await.unwrap_err();
    b.connection.close().await;
    within("the tasks end", async {
        while tasks() > before {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_harms_nothing() {
    let a = Side::open().await;
    let b = Side::open().await;
    for nonsense in
        ["", "v=0", "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=application", "\u{0}\u{ffff}"]
    {
        let _refused_or_empty = b.connection.take_offer(nonsense).await;
        b.connection.answer().await.unwrap_err();
        b.connection.take_answer(nonsense).await.unwrap_err();
    }
    for text in [
        "",
        "candidate:",
        "candidate:1 1 udp x 192.0.2.1 1 typ host",
        "candidate:1 1 udp 1 192.0.2.1 99999 typ host",
    ] {
        let candidate = Candidate { text: text.into(), mid: None, index: Some(0) };
        let _passed_over = b.connection.add(&candidate).await;
    }
    let b = Side::open().await;
    a.connection.create_channel().await.unwrap();
    negotiate(&a.connection, &b.connection, false).await;
    tokio::join!(a.connection.close(), b.connection.close());
}
