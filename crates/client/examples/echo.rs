//! Answers every application message with its own payload, as type `echo`.
//!
//! ```text
//! cargo run                                              # starts a service and prints an admin key
//! HELIOGRAPH_KEY=ak_… cargo run -p heliograph-client --example echo
//! ```
//!
//! `HELIOGRAPH_SERVER` names another service than the one on this machine.

#![expect(clippy::print_stdout, reason = "it prints")]

use heliograph_auth::secret::Secret;
use heliograph_client::{Client, Config, Credential, Event, State};

/// The types of WebRTC negotiation, and our own: two echoes would never end.
const NOT_ANSWERED: [&str; 4] = ["offer", "answer", "ice_candidate", "echo"];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let server = variable("HELIOGRAPH_SERVER").unwrap_or_else(|| "http://127.0.0.1:8080".to_owned());
    let Some(key) = variable("HELIOGRAPH_KEY") else {
        eprintln!("set HELIOGRAPH_KEY to an API key: `cargo run` prints one");
        std::process::exit(2);
    };
    let config = Config::for_server(&server, Credential::api_key(Secret::new(key)));
    let (client, mut events) = Client::start(config);
    while let Some(event) = events.next().await {
        match event {
            Event::State(State::Online) => {
                println!("online as {}", client.peer_id().map(|me| me.to_string()).unwrap_or_default());
            }
            Event::State(State::Stopped(stop)) => eprintln!("stopped: {stop}"),
            Event::Message { from, kind, payload, .. } if !NOT_ANSWERED.contains(&&*kind) => {
                println!("{kind} from {from}");
                // `post` rather than `send`: this loop must not wait for an outcome, which comes behind other events.
                if let Err(error) = client.post("echo", &from, &payload).await {
                    eprintln!("not answered: {error}");
                }
            }
            Event::Undeliverable { reason, .. } => eprintln!("the answer was not delivered: {reason}"),
            _ => {}
        }
    }
}
