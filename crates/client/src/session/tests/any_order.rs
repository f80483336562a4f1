//! Whatever happens, in whatever order.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Token(u8),
    Open(u64),
    End(u64, u16),
    Peer(u64, u64),
    List(u64, bool),
    Resumed(u64, bool),
    Goaway(u64),
    Error(u64),
    Answer(u64, u64),
    Send,
    Wait(u32),
}

fn step() -> impl Strategy<Value = Step> {
    // Few links, so that most steps are about one that lives.
    let link = 0..6_u64;
    let code = prop_oneof![
        4 => Just(1006_u16), 2 => Just(1012), 2 => Just(4409), 1 => Just(4401), 1 => Just(4429), 1 => Just(4413),
    ];
    prop_oneof![
        3 => any::<u8>().prop_map(Step::Token),
        5 => link.clone().prop_map(Step::Open),
        2 => (link.clone(), code).prop_map(|(link, code)| Step::End(link, code)),
        4 => (link.clone(), 0..20_u64).prop_map(|(link, seq)| Step::Peer(link, seq)),
        5 => (link.clone(), any::<bool>()).prop_map(|(link, resumable)| Step::List(link, resumable)),
        3 => (link.clone(), any::<bool>()).prop_map(|(link, fresh)| Step::Resumed(link, fresh)),
        1 => link.clone().prop_map(Step::Goaway),
        1 => link.clone().prop_map(Step::Error),
        2 => (link, 0..30_u64).prop_map(|(link, number)| Step::Answer(link, number)),
        4 => Just(Step::Send),
        3 => (0..20_000_u32).prop_map(Step::Wait),
    ]
}

/// What must hold for all that it wants.
#[derive(Default)]
struct Watch {
    dialed: HashSet<u64>,
    opened: HashSet<u64>,
    hung_up: HashSet<u64>,
    waits: HashSet<u64>,
    is_over: bool,
}

impl Watch {
    fn look(&mut self, scene: &mut Scene) {
        for effect in scene.session.effects() {
            assert!(!self.is_over, "{} after the end", show(&effect));
            match effect {
                Effect::Dial { link, .. } => assert!(self.dialed.insert(link.0), "dialed twice"),
                Effect::Write { link, .. } => {
                    assert!(self.opened.contains(&link.0) && !self.hung_up.contains(&link.0), "{}", link.0);
                }
                Effect::HangUp { link, .. } => {
                    assert!(self.dialed.contains(&link.0) && self.hung_up.insert(link.0), "{}", link.0);
                }
                Effect::Settle { number, .. } => {
                    assert!(self.waits.remove(&number), "{number} settled twice");
                }
                Effect::Emit(Event::State(State::Stopped(_))) => self.is_over = true,
                Effect::Emit(_) | Effect::FetchToken => {}
            }
        }
        assert!(self.dialed.len() - self.hung_up.len() <= 64);
    }

    fn apply(&mut self, scene: &mut Scene, step: &Step) {
        match *step {
            Step::Token(0..=200) => scene.token(),
            Step::Token(_) => {
                let error = TokenError::Unavailable { retry_after: None, message: String::new() };
                scene.session.on_token(scene.now, Err(error));
            }
            Step::Open(link) if self.dialed.contains(&link) && !self.hung_up.contains(&link) => {
                self.opened.insert(link);
                scene.open(link);
            }
            Step::End(link, code) if self.dialed.contains(&link) => {
                scene.end(link, &End::Closed(code));
                // Nobody hears anything of it again.
                self.opened.remove(&link);
            }
            Step::Peer(link, seq) => scene.peer(link, seq, seq),
            Step::List(link, true) => scene.list(link, link + 1, "rs"),
            Step::List(link, false) => scene.service(link, "peer_list", &json!({ "peers": ["you"] })),
            Step::Resumed(link, fresh) => {
                scene.service(link, "resumed", &json!({ "fresh": fresh, "recovered": 1, "lost": 0 }));
            }
            Step::Goaway(link) => scene.service(link, "goaway", &json!({ "reconnect_after_ms": 10 })),
            Step::Error(link) => scene.service(link, "error", &json!({ "code": "bus_unavailable" })),
            Step::Answer(link, number) => {
                let id = json!({ "id": scene.id(number) });
                scene.service(link, "delivered", &id);
            }
            Step::Send => {
                let number = self.waits.len() as u64 + 1000 * self.dialed.len() as u64;
                if self.waits.contains(&number) || self.is_over {
                    return;
                }
                let is_granted = scene.session.grants_feedback;
                if let Ok(link) = scene.send(number) {
                    assert!(self.opened.contains(&link), "{link} is not open");
                    if is_granted {
                        self.waits.insert(number);
                    }
                }
            }
            Step::Wait(milliseconds) => scene.after(Duration::from_millis(milliseconds.into())),
            Step::Open(_) | Step::End(..) => {}
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_dialed_written_or_settled_that_should_not_be(steps in prop::collection::vec(step(), 1..120)) {
        let mut scene = Scene::new();
        let mut watch = Watch::default();
        watch.look(&mut scene);
        for step in steps {
            watch.apply(&mut scene, &step);
            watch.look(&mut scene);
            let alive = [&scene.session.current, &scene.session.dialing, &scene.session.former];
            let ids: HashSet<_> = alive.iter().filter_map(|link| link.as_ref().map(|link| link.id)).collect();
            prop_assert_eq!(ids.len(), alive.iter().flat_map(|link| link.iter()).count());
            // It never just stands there: it is online, waits for a token, or for a time.
            let stands = scene.session.current.is_none() && scene.session.dialing.is_none();
            prop_assert!(!stands || watch.is_over || scene.session.redial_at.is_some());
        }
        scene.session.stop(Stop::Closed);
        watch.look(&mut scene);
        prop_assert!(watch.waits.is_empty(), "never settled: {:?}", watch.waits);
        prop_assert_eq!(scene.session.deadline(), None);
    }

    #[test]
    fn each_number_comes_once_over_whichever_socket(numbers in prop::collection::vec((1..60_u64, any::<bool>()), 0..100)) {
        let mut scene = Scene::online();
        scene.service(0, "goaway", &json!({ "reconnect_after_ms": 0 }));
        scene.after(Duration::ZERO);
        scene.open(1);
        scene.service(1, "resumed", &json!({ "recovered": 0, "lost": 0 }));
        scene.wants();
        let mut last = 0;
        for (number, over_former) in numbers {
            scene.peer(u64::from(!over_former), number, number);
            let heard = scene.wants();
            prop_assert_eq!(!heard.is_empty(), number > last);
            last = last.max(number);
        }
    }
}

proptest! {
    #[test]
    fn no_frame_is_too_odd(text in "\\PC{0,200}", cut in 0..400_usize) {
        let mut scene = Scene::online();
        scene.session.on_frame(scene.now, LinkId(0), &text);
        let list = json!({ "type": "peer_list", "peer_id": "registry", "payload": {
            "peers": ["a", 1, text], "session": { "epoch": 1 }, "ice_servers": [{ "urls": text }] } }).to_string();
        let cut = list.char_indices().map(|(at, _)| at).nth(cut).unwrap_or(list.len());
        scene.session.on_frame(scene.now, LinkId(0), &list[..cut]);
    }
}
