//! Prints comings and goings.
//!
//! ```text
//! cargo run                                              # starts a service and prints an admin key
//! HELIOGRAPH_KEY=ak_… cargo run -p heliograph-client --example presence
//! ```
//!
//! `HELIOGRAPH_SERVER` names another service than the one on this machine.

#![expect(clippy::print_stdout, reason = "it prints")]

use heliograph_auth::secret::Secret;
use heliograph_client::{Client, Config, Credential, Event, State};

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
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => {
                // So that the others hear at once that we left.
                client.close().await;
                return;
            }
        };
        match event {
            Some(Event::State(State::Stopped(stop))) => {
                eprintln!("stopped: {stop}");
                std::process::exit(1);
            }
            Some(Event::State(state)) => println!("{state:?}"),
            Some(Event::PeerList { peers, .. }) => {
                let names: Vec<_> = peers.iter().map(|listed| listed.peer.as_str()).collect();
                println!("{} peers are there: {}", names.len(), names.join(", "));
            }
            Some(Event::PeerJoined(listed)) => println!("+ {}", listed.peer),
            Some(Event::PeerLeft(peer)) => println!("- {peer}"),
            Some(Event::PeerRevoked(peer)) => println!("x {peer} lost its right"),
            Some(_) => {}
            None => return,
        }
    }
}
