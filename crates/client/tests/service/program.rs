//! What a program does with a client, for tests: waits for one event, keeps the others.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use heliograph_auth::secret::Secret;
use heliograph_client::{
    Client, Config, Credential, Event, Events, Listed, Outcome, State, Stop, Token, TokenError,
    TokenExchange, TokenSource,
};
use heliograph_core::id::PeerId;
use heliograph_testkit::{Access, PATIENCE, in_time};
use serde_json::value::RawValue;

/// A client and what it heard.
pub(crate) struct Program {
    pub(crate) client: Client,
    events: Events,
    kept: VecDeque<Event>,
    /// What else was heard but messages, since it joined.
    notes: Vec<String>,
}

/// A message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) from: String,
    pub(crate) kind: String,
    pub(crate) payload: String,
}

impl Program {
    pub(crate) fn start(config: Config) -> Self {
        let (client, events) = Client::start(config);
        Self { client, events, kept: VecDeque::new(), notes: vec![] }
    }

    /// A peer with a key of its own, which is there.
    pub(crate) async fn join(access: &Access, peer: &str) -> Self {
        let key = access.key(peer, "default").await;
        let mut program = Self::start(config(access, &key));
        program.online().await;
        program.notes.clear();
        program
    }

    /// The next event for which `pick` has a value. Those before it are dropped.
    pub(crate) async fn until<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                let event = match self.kept.pop_front() {
                    Some(event) => event,
                    None => self.events.next().await?,
                };
                if !matches!(event, Event::Message { .. }) {
                    self.notes.push(format!("{event:?}"));
                }
                if let Some(picked) = pick(&event) {
                    return Some(picked);
                }
            }
        });
        let found = found.await.ok().flatten();
        found.unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}, but {:?}", self.notes))
    }

    /// Waits until it is registered; the list and whether it is a later one.
    pub(crate) async fn listed(&mut self) -> (Vec<Listed>, bool) {
        let list = |event: &Event| match event {
            Event::PeerList { peers, again } => Some((peers.clone(), *again)),
            _ => None,
        };
        self.until("a list", list).await
    }

    pub(crate) async fn online(&mut self) {
        self.listed().await;
    }

    /// Forgets what was heard.
    pub(crate) fn forget(&mut self) {
        self.notes.clear();
    }

    pub(crate) async fn stopped(&mut self) -> Stop {
        let stop = |event: &Event| match event {
            Event::State(State::Stopped(stop)) => Some(*stop),
            _ => None,
        };
        let stop = self.until("the end", stop).await;
        assert!(in_time("no more events", self.events.next()).await.is_none());
        assert_eq!(self.client.state(), State::Stopped(stop));
        stop
    }

    /// The next message.
    pub(crate) async fn hear(&mut self) -> Said {
        self.until("a message", said).await
    }

    /// Waits until it has moved; it must have been told to, and have been online all the time since it joined.
    pub(crate) async fn moved(&mut self) {
        let is_moved = |notes: &[String]| notes.iter().any(|note| note.contains("again: true"));
        if !is_moved(&self.notes) {
            self.online().await;
        }
        let place = |note: &str| self.notes.iter().position(|noted| noted.starts_with(note));
        let (goaway, resumed) = (place("GoAway"), place("Resumed"));
        assert!(goaway.is_some() && goaway < resumed && place("State").is_none(), "{:?}", self.notes);
        assert!(resumed.is_some_and(|at| self.notes[at].contains("lost: Some(0)")), "{:?}", self.notes);
    }

    pub(crate) async fn resumed(&mut self) -> (u64, Option<u64>) {
        let resumed = |event: &Event| match event {
            Event::Resumed { recovered, lost } => Some((*recovered, *lost)),
            _ => None,
        };
        self.until("to be resumed", resumed).await
    }

    /// Sends and waits for the outcome. Events that come meanwhile are kept.
    pub(crate) async fn send(&mut self, kind: &str, target: &str, payload: &str) -> Outcome {
        let (client, target, payload) = (self.client.clone(), peer(target), json(payload));
        let kind = kind.to_owned();
        let sending = tokio::spawn(async move { client.send(&kind, &target, &payload).await });
        tokio::pin!(sending);
        let outcome = async {
            loop {
                tokio::select! {
                    outcome = &mut sending => return outcome.expect("no panic"),
                    Some(event) = self.events.next() => self.kept.push_back(event),
                }
            }
        };
        in_time("an outcome", outcome).await
    }
}

impl Said {
    pub(crate) fn new(from: &str, kind: &str, payload: &str) -> Self {
        Self { from: from.to_owned(), kind: kind.to_owned(), payload: payload.to_owned() }
    }
}

fn said(event: &Event) -> Option<Said> {
    match event {
        Event::Message { from, kind, payload, .. } => {
            Some(Said { from: from.to_string(), kind: kind.clone(), payload: payload.get().to_owned() })
        }
        _ => None,
    }
}

/// To the node to which `access` goes, with an API key.
pub(crate) fn config(access: &Access, key: &str) -> Config {
    config_at(&access.address().to_string(), key)
}

pub(crate) fn config_at(address: &str, key: &str) -> Config {
    Config::for_server(&format!("http://{address}"), Credential::api_key(Secret::new(key)))
}

pub(crate) fn peer(id: &str) -> PeerId {
    PeerId::parse(id).expect("a name")
}

pub(crate) fn json(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).expect("JSON")
}

/// The exchange of an API key at this node.
pub(crate) fn exchange(access: &Access, key: &str) -> TokenExchange {
    TokenExchange::new(
        format!("http://{}/api/token", access.address()),
        Credential::api_key(Secret::new(key)),
    )
}

/// A token of the test's own, then those of an exchange, if there is one.
pub(crate) struct Tokens {
    first: Token,
    others: Option<TokenExchange>,
    /// How often a token was asked for.
    pub(crate) asked: Arc<AtomicUsize>,
}

impl Tokens {
    pub(crate) fn new(first: &str, of: &str, others: Option<TokenExchange>) -> Self {
        let first =
            Token { text: Arc::new(Secret::new(first)), peer: peer(of), good_for: Duration::from_mins(5) };
        Self { first, others, asked: Arc::default() }
    }
}

#[async_trait]
impl TokenSource for Tokens {
    async fn token(&self) -> Result<Token, TokenError> {
        match (self.asked.fetch_add(1, Ordering::SeqCst), &self.others) {
            (0, _) => Ok(self.first.clone()),
            (_, Some(exchange)) => exchange.token().await,
            (_, None) => Err(TokenError::Refused("there is one token only".to_owned())),
        }
    }
}
