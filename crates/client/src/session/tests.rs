use heliograph_core::id::SERVICE;
use serde_json::json;
use serde_json::value::RawValue;

use super::*;
use crate::close::End;
use crate::event::Listed;
use crate::outcome::{Reason, Refused};

mod any_order;

const MINUTE: Duration = Duration::from_mins(1);

/// A session, its clock, and what it wanted since it was last asked.
struct Scene {
    session: Session,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let settings = Settings { max_frame_bytes: 1000, feedback_within: Duration::from_secs(10) };
        let mut session = Session::new(settings, Box::new(|| 0.5));
        let now = Instant::now();
        session.start(now);
        Self { session, now }
    }

    /// One that is registered, over link 0, and may resume.
    fn online() -> Self {
        let mut scene = Self::new();
        scene.token();
        scene.open(0);
        scene.list(0, 1, "rs_1");
        scene.wants();
        scene
    }

    fn wants(&mut self) -> Vec<String> {
        self.session.effects().iter().map(show).collect()
    }

    fn token(&mut self) {
        let token = Token {
            text: Arc::new(Secret::new("jwt")),
            peer: PeerId::parse("me").unwrap(),
            good_for: 5 * MINUTE,
        };
        self.session.on_token(self.now, Ok(token));
    }

    fn open(&mut self, link: u64) {
        self.session.on_open(self.now, LinkId(link));
    }

    fn end(&mut self, link: u64, end: &End) {
        self.session.on_end(self.now, LinkId(link), end);
    }

    fn after(&mut self, time: Duration) {
        self.now += time;
        self.session.on_time(self.now);
    }

    fn frame(&mut self, link: u64, frame: &serde_json::Value) {
        self.session.on_frame(self.now, LinkId(link), &frame.to_string());
    }

    fn service(&mut self, link: u64, kind: &str, payload: &serde_json::Value) {
        self.frame(link, &json!({ "type": kind, "peer_id": SERVICE, "payload": payload }));
    }

    fn peer(&mut self, link: u64, seq: u64, payload: u64) {
        self.frame(link, &json!({ "type": "hello", "peer_id": "you", "payload": payload, "seq": seq }));
    }

    fn list(&mut self, link: u64, epoch: u64, token: &str) {
        let capabilities = ["feedback", "resume", "roles"];
        let session = json!({ "epoch": epoch, "resume_token": token, "resume_window_ms": 60_000 });
        let roles = json!({ "you": "polite" });
        let list = json!({ "peers": ["you", "me"], "capabilities": capabilities, "session": session, "roles": roles });
        self.service(link, "peer_list", &list);
    }

    fn send(&mut self, number: u64) -> Result<u64, Outcome> {
        let (you, payload) = (PeerId::parse("you").unwrap(), RawValue::from_string("1".to_owned()).unwrap());
        let sent = self.session.send(self.now, number, ("hello", &you, &payload));
        sent.map(|(outgoing, _)| outgoing.link.0)
    }

    fn id(&self, number: u64) -> String {
        self.session.pending.id(number)
    }
}

/// An effect in a few words.
fn show(effect: &Effect) -> String {
    match effect {
        Effect::FetchToken => "token?".to_owned(),
        Effect::Dial { link, token } => format!("dial {} {}", link.0, token.expose()),
        Effect::Write { link, text } => {
            let frame: serde_json::Value = serde_json::from_str(text).unwrap();
            let payload = &frame["payload"];
            match frame["type"].as_str().unwrap() {
                "resume" => format!("{}: resume {} {}", link.0, payload["resume_token"], payload["received"]),
                kind => format!("{}: {kind}", link.0),
            }
        }
        Effect::HangUp { link, code } => format!("hang up {} {code}", link.0),
        Effect::Emit(Event::Message { payload, .. }) => format!("message {}", payload.get()),
        Effect::Emit(Event::PeerList { peers, again }) => format!("list of {} {again}", peers.len()),
        Effect::Emit(event) => format!("{event:?}"),
        Effect::Settle { number, outcome } => format!("{number}: {outcome:?}"),
    }
}

#[test]
fn it_gets_a_token_then_a_socket_then_registers() {
    let mut scene = Scene::new();
    assert_eq!(scene.wants(), ["State(Connecting)", "token?"]);
    scene.token();
    assert_eq!(scene.wants(), ["dial 0 jwt"]);
    scene.open(0);
    assert_eq!(scene.wants(), ["0: register"]);
    scene.list(0, 1, "rs_1");
    assert_eq!(scene.wants(), ["State(Online)", "list of 1 false"]);
    scene.list(0, 1, "rs_2");
    assert_eq!(scene.wants(), ["list of 1 true"]);
}

#[test]
fn a_list_names_others_with_their_roles() {
    let mut scene = Scene::new();
    scene.token();
    scene.open(0);
    scene.wants();
    scene.list(0, 1, "rs_1");
    let Some(Effect::Emit(Event::PeerList { peers, .. })) = scene.session.effects().pop() else {
        panic!("a list")
    };
    let you = Listed { peer: PeerId::parse("you").unwrap(), role: Some(crate::event::Role::Polite) };
    assert_eq!(peers, [you]);
}

#[test]
fn a_lost_session_goes_on_from_the_last_number() {
    let mut scene = Scene::online();
    scene.peer(0, 1, 10);
    scene.peer(0, 2, 20);
    scene.end(0, &End::Lost);
    assert_eq!(scene.wants(), ["message 10", "message 20", "State(Waiting { retry_in: 500ms })"]);
    scene.after(Duration::from_millis(500));
    assert_eq!(scene.wants(), ["State(Connecting)", "dial 1 jwt"], "the token is good still");
    scene.open(1);
    assert_eq!(scene.wants(), ["1: resume \"rs_1\" 2", "1: register"]);
    scene.service(1, "resumed", &json!({ "recovered": 2, "lost": 0, "resume_token": "rs_2" }));
    // What came before, and what waited.
    scene.peer(1, 2, 20);
    scene.peer(1, 3, 30);
    scene.list(1, 2, "rs_2");
    let expect = ["Resumed { recovered: 2, lost: Some(0) }", "message 30", "State(Online)", "list of 1 true"];
    assert_eq!(scene.wants(), expect);
}

#[test]
fn a_session_that_is_over_begins_anew() {
    let mut scene = Scene::online();
    scene.peer(0, 9, 10);
    assert_eq!(scene.send(0), Ok(0));
    scene.end(0, &End::Lost);
    scene.after(Duration::from_secs(1));
    scene.open(1);
    scene.wants();
    scene.service(1, "resumed", &json!({ "fresh": true, "recovered": 0, "lost": null }));
    scene.list(1, 2, "rs_2");
    scene.peer(1, 1, 20);
    let expect = [
        "0: Unknown(ConnectionLost)",
        "Resumed { recovered: 0, lost: None }",
        "State(Online)",
        "list of 1 false",
        "message 20",
    ];
    assert_eq!(scene.wants(), expect);
}

#[test]
fn nothing_is_resumed_after_the_window_or_after_the_service_ended_the_session() {
    let check = |end: &End, pause: Duration, expect: &str| {
        let mut scene = Scene::online();
        scene.end(0, end);
        scene.wants();
        scene.after(pause);
        scene.token();
        scene.wants();
        scene.open(1);
        assert_eq!(scene.wants()[0], expect, "{end:?} {pause:?}");
    };
    check(&End::Lost, Duration::from_millis(59_999), "1: resume \"rs_1\" 0");
    check(&End::Lost, MINUTE, "1: register");
    check(&End::Closed(1012), Duration::from_secs(2), "1: resume \"rs_1\" 0");
    check(&End::Closed(4413), Duration::from_secs(2), "1: resume \"rs_1\" 0");
    check(&End::Closed(4429), Duration::from_secs(3), "1: register");
    check(&End::Closed(4401), Duration::ZERO, "1: register");
}

#[test]
fn it_moves_without_a_gap() {
    let mut scene = Scene::online();
    scene.service(0, "goaway", &json!({ "reconnect_after_ms": 200, "deadline_ms": 5000 }));
    scene.after(Duration::from_millis(199));
    assert_eq!(scene.wants(), ["GoAway { reconnect_after: 200ms, deadline: Some(5s) }"]);
    scene.after(Duration::from_millis(1));
    assert_eq!(scene.wants(), ["dial 1 jwt"], "and it stays online");
    assert_eq!(scene.send(0), Ok(0));
    scene.open(1);
    assert_eq!(scene.send(1), Ok(1), "from now on over the new one");
    scene.peer(0, 1, 10);
    scene.service(1, "resumed", &json!({ "recovered": 1, "lost": 0 }));
    // The old one brings what was on its way, the new one the same and more.
    scene.peer(0, 2, 20);
    scene.peer(1, 2, 20);
    scene.service(0, "peer_left", &json!({ "peer": "you" }));
    let delivered = json!({ "id": scene.id(0) });
    scene.service(0, "delivered", &delivered);
    scene.list(1, 2, "rs_2");
    scene.end(0, &End::Closed(4409));
    let expect = [
        "1: resume \"rs_1\" 0",
        "1: register",
        "message 10",
        "Resumed { recovered: 1, lost: Some(0) }",
        "message 20",
        "0: Delivered",
        "list of 1 true",
    ];
    assert_eq!(scene.wants(), expect);
    let delivered = json!({ "id": scene.id(1) });
    scene.service(1, "delivered", &delivered);
    assert_eq!(scene.wants(), ["1: Delivered"]);
}

#[test]
fn that_we_have_superseded_ourselves_is_no_end() {
    let mut scene = Scene::online();
    scene.service(0, "goaway", &json!({ "reconnect_after_ms": 0 }));
    scene.after(Duration::ZERO);
    scene.open(1);
    scene.end(0, &End::Closed(4409));
    scene.wants();
    scene.service(1, "resumed", &json!({ "recovered": 0, "lost": 0 }));
    scene.list(1, 2, "rs_2");
    assert_eq!(scene.wants(), ["Resumed { recovered: 0, lost: Some(0) }", "list of 1 true"]);

    // And if that one fails too, it comes back.
    let mut scene = Scene::online();
    scene.service(0, "goaway", &json!({ "reconnect_after_ms": 0 }));
    scene.after(Duration::ZERO);
    scene.open(1);
    scene.end(0, &End::Closed(4409));
    scene.end(1, &End::Lost);
    assert_eq!(scene.wants().pop().unwrap(), "State(Waiting { retry_in: 500ms })");

    let mut scene = Scene::online();
    scene.end(0, &End::Closed(4409));
    assert_eq!(scene.wants(), ["State(Stopped(Superseded))"]);
}

#[test]
fn the_numbers_of_a_former_session_are_its_own() {
    let mut scene = Scene::online();
    scene.peer(0, 7, 10);
    scene.service(0, "goaway", &json!({ "reconnect_after_ms": 0 }));
    scene.after(Duration::ZERO);
    scene.open(1);
    scene.service(1, "resumed", &json!({ "fresh": true }));
    scene.wants();
    scene.peer(1, 1, 20);
    scene.peer(0, 7, 10);
    scene.peer(0, 8, 30);
    scene.peer(1, 2, 40);
    assert_eq!(scene.wants(), ["message 20", "message 30", "message 40"]);
}

#[test]
fn only_the_service_speaks_about_others() {
    let mut scene = Scene::online();
    for kind in
        ["peer_left", "peer_revoked", "goaway", "resumed", "delivered", "peer_list", "approved", "error"]
    {
        scene.frame(0, &json!({ "type": kind, "peer_id": "you", "payload": { "peer": "me" } }));
        assert_eq!(scene.wants(), [r#"message {"peer":"me"}"#], "{kind}");
    }
    for text in ["", "null", "[]", "{}", r#"{"type":"x"}"#, r#"{"type":1,"peer_id":"registry"}"#] {
        scene.session.on_frame(scene.now, LinkId(0), text);
    }
    scene.service(0, "something new", &json!(1));
    assert_eq!(scene.wants(), [""; 0]);
}

#[test]
fn a_credential_is_tried_again_once_after_a_401() {
    let refused = || End::Refused { status: 401, retry_after: None };
    let mut scene = Scene::new();
    scene.token();
    scene.wants();
    scene.end(0, &refused());
    assert_eq!(scene.wants(), ["token?"]);
    scene.token();
    scene.end(1, &refused());
    assert_eq!(scene.wants(), ["dial 1 jwt", "State(Waiting { retry_in: 500ms })"]);
    scene.session.on_token(scene.now, Err(TokenError::Refused("no".to_owned())));
    assert_eq!(scene.wants(), [""; 0], "nobody asked");
    scene.after(Duration::from_millis(500));
    scene.session.on_token(scene.now, Err(TokenError::Refused("no".to_owned())));
    assert_eq!(scene.wants(), ["State(Connecting)", "token?", "State(Stopped(CredentialRefused))"]);
    assert_eq!(scene.session.deadline(), None);
}

#[test]
fn a_pause_that_is_asked_for_comes_on_top_of_the_jitter() {
    let mut scene = Scene::new();
    let retry_after = Some(Duration::from_secs(7));
    scene.session.on_token(scene.now, Err(TokenError::Unavailable { retry_after, message: String::new() }));
    assert_eq!(scene.wants()[2..], ["State(Waiting { retry_in: 7.5s })"]);
    scene.after(Duration::from_millis(7500));
    scene.token();
    scene.wants();
    scene.end(1, &End::Refused { status: 503, retry_after });
    assert_eq!(scene.wants(), ["State(Waiting { retry_in: 8s })"]);
}

#[test]
fn what_takes_too_long_is_given_up() {
    let mut scene = Scene::new();
    scene.token();
    scene.open(0);
    scene.wants();
    scene.after(limits::HANDSHAKE);
    assert_eq!(scene.wants(), ["hang up 0 4408", "State(Waiting { retry_in: 500ms })"]);
    // A message whose outcome does not come.
    let mut scene = Scene::online();
    assert_eq!(scene.send(5), Ok(0));
    assert_eq!(scene.session.patience(), Some(scene.now + Duration::from_secs(10)));
    scene.after(Duration::from_secs(10));
    assert_eq!(scene.wants(), ["5: Unknown(Timeout)"]);
    // A former socket that the service leaves open.
    let mut scene = Scene::online();
    scene.service(0, "goaway", &json!({ "reconnect_after_ms": 0 }));
    scene.after(Duration::ZERO);
    scene.open(1);
    scene.service(1, "resumed", &json!({ "recovered": 0, "lost": 0 }));
    scene.list(1, 2, "rs_2");
    scene.wants();
    scene.after(limits::HANDSHAKE);
    assert_eq!(scene.wants(), ["hang up 0 4408"]);
}

#[test]
fn a_list_that_cannot_be_had_is_asked_for_again() {
    let mut scene = Scene::online();
    scene.service(0, "error", &json!({ "code": "bus_unavailable", "message": "m" }));
    scene.wants();
    scene.after(Duration::from_secs(2));
    assert_eq!(scene.wants(), ["0: register"]);
}

#[test]
fn messages_that_cannot_be_sent_say_why() {
    let mut scene = Scene::new();
    // Before there is a list nobody knows whether there are receipts; and there is no socket either.
    assert_eq!(scene.send(0), Err(Outcome::Undeliverable(Reason::Offline)));
    let mut scene = Scene::online();
    let you = PeerId::parse("you").unwrap();
    let long = RawValue::from_string(format!("\"{}\"", "x".repeat(1000))).unwrap();
    assert_eq!(scene.session.post("hello", &you, &long).map(|_| ()), Err(Refused::TooLarge));
    assert_eq!(scene.session.post("resume", &you, &long).map(|_| ()), Err(Refused::Malformed));
    for number in 0..256 {
        assert_eq!(scene.send(number), Ok(0));
    }
    assert_eq!(scene.send(256), Err(Outcome::Undeliverable(Reason::TooManyPending)));
    scene.session.not_written(7);
    assert_eq!(scene.send(257), Ok(0));
}

#[test]
fn an_answer_to_another_run_of_the_program_settles_nothing() {
    let mut scene = Scene::online();
    assert_eq!(scene.send(0), Ok(0));
    for id in ["m-0-0", "0", "", "m-80000000-1", "m-80000000-x"] {
        scene.service(0, "delivered", &json!({ "id": id }));
    }
    assert_eq!(scene.wants(), [""; 0]);
    let undeliverable = json!({ "id": scene.id(0), "reason": "queue_full" });
    scene.service(0, "undeliverable", &undeliverable);
    assert_eq!(scene.wants(), ["0: Undeliverable(QueueFull)"]);
}

#[test]
fn a_short_session_does_not_reset_the_pauses_and_a_long_one_does() {
    let waits = |lasts: Duration| {
        let mut scene = Scene::online();
        scene.end(0, &End::Lost);
        scene.after(Duration::from_secs(1));
        scene.open(1);
        scene.service(1, "resumed", &json!({ "recovered": 0, "lost": 0 }));
        scene.list(1, 2, "rs_2");
        scene.now += lasts;
        scene.wants();
        scene.end(1, &End::Lost);
        scene.wants().pop().unwrap()
    };
    assert_eq!(waits(Duration::from_secs(1)), "State(Waiting { retry_in: 1s })");
    assert_eq!(waits(Duration::from_secs(10)), "State(Waiting { retry_in: 500ms })");
}
