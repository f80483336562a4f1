//! Everything together: who gets which event.

use std::time::Duration;

use heliograph_core::id::PeerId;
use heliograph_core::session::Mail;
use heliograph_testkit::history::{Expectations, History, Introduced, Peer};

use crate::Switches;
use crate::client::{Client, Mood};
use crate::net::{Event, LineNo, Net, NodeNo, Reply};
use crate::node::{Job, Node, RESUME_WINDOW};
use crate::plan::{Fault, plan};

/// Clients and nodes of a run.
const CLIENTS: usize = 5;
const NODES: usize = 3;
/// Messages that are sent when the trouble is over.
pub const MESSAGES_AFTER: usize = CLIENTS * (CLIENTS - 1);
/// Until when things go wrong and clients send.
const TROUBLE: Duration = Duration::from_secs(10);
/// Until when everything has an answer: the longest wait for one, and the longest fault.
const QUIET: Duration = Duration::from_secs(40);
/// When each client has sent one message to each other, and all have arrived.
const END: Duration = Duration::from_secs(45);
/// After this presence gives up a node that it does not hear of.
const GIVE_UP_NODE: Duration = Duration::from_millis(1_500);

/// What must hold of a run.
pub fn expectations() -> Expectations {
    Expectations {
        answer_within: RESUME_WINDOW + heliograph_core::limits::ANSWER_GRACE + Duration::from_secs(6),
        settle: Duration::from_secs(6),
        introduced: Introduced::Everyone,
        ..Expectations::default()
    }
}

/// What a run leaves.
pub struct Outcome {
    /// All of it.
    pub history: History,
    /// The time after the trouble, when each client sends one message to each other.
    pub calm: History,
    /// Over how many servers the channels of the bus were spread.
    pub servers: usize,
}

/// One run, from beginning to end.
pub struct World {
    net: Net,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    talks: bool,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, switches: Switches) -> Self {
        let mut net = Net::new(seed, switches);
        net.bus.servers = if net.dice.chance(70) { 1 } else { 3 };
        let names: Vec<Peer> = (0..CLIENTS).map(|i| Peer::from(format!("p{i}"))).collect();
        let nodes = (0..NODES).map(|number| Node::new(number, &mut net)).collect();
        let clients = (0..CLIENTS).map(|number| Client::new(number, &names)).collect();
        for client in 0..CLIENTS {
            let at = net.dice.micros(0, 20_000);
            net.clock.at(at, Event::Dial(client));
            net.clock.at(at, Event::Send(client));
            net.clock.at(at, Event::Ask(client));
        }
        plan(&mut net, CLIENTS, TROUBLE);
        Self { net, nodes, clients, talks: false }
    }

    /// Says on standard error what happens, for a person who looks at one seed.
    #[must_use]
    pub fn talking(self) -> Self {
        Self { talks: true, ..self }
    }

    /// Lets it happen.
    pub fn run(mut self) -> Outcome {
        self.set_mood(Mood::Busy);
        self.go_on_until(TROUBLE);
        self.set_mood(Mood::Quiet);
        self.go_on_until(QUIET);
        let trouble = self.net.history.0.len();
        for client in 0..CLIENTS {
            for other in 0..CLIENTS - 1 {
                self.clients[client].send(Some(other), &mut self.net);
            }
        }
        self.go_on_until(END);
        for client in &mut self.clients {
            client.finish(&mut self.net);
        }
        let calm = History(self.net.history.0[trouble..].to_vec());
        Outcome { history: self.net.history, calm, servers: self.net.bus.servers }
    }

    fn set_mood(&mut self, mood: Mood) {
        for client in &mut self.clients {
            client.mood = mood;
        }
    }

    fn go_on_until(&mut self, end: Duration) {
        while let Some(event) = self.net.clock.next(end) {
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        if self.talks {
            eprintln!("{:>10.6} {event:?}", self.net.clock.now().as_secs_f64());
        }
        match node_of(&event, &self.net) {
            Some(no) if !self.nodes[no].alive => {}
            Some(no) if self.nodes[no].paused => self.nodes[no].stalled.push_back(event),
            Some(no) => self.for_node(no, event),
            None => self.for_others(event),
        }
    }

    fn for_node(&mut self, no: NodeNo, event: Event) {
        let (node, net) = (&mut self.nodes[no], &mut self.net);
        match event {
            Event::Accepted { line } => {
                let peer = self.clients[net.lines[line].client].name.clone();
                if net.lines[line].mute || !net.lines[line].client_open {
                    return; // the reset came before the upgrade was read
                }
                node.enqueue(&peer_id(&peer), Job::Open(line), net);
            }
            Event::Up { line, frame } if net.arrives_up(line) => node.heard(line, frame, net),
            Event::Cut { line } => node.cut(line, net),
            Event::Reply { reply, .. } => match reply {
                Reply::Claim { line, claim } => {
                    let peer = self.clients[net.lines[line].client].name.clone();
                    node.claimed(&peer_id(&peer), line, claim.ok(), net);
                }
                Reply::Place { handle, placement } => node.placed(handle, placement, net),
                Reply::Release { handle } => node.departed(handle, net),
                Reply::Reseat { handles, outcomes: Ok(outcomes) } => node.reseated(&handles, outcomes, net),
                Reply::Reseat { .. } => {
                    net.clock.after(Duration::from_millis(100), Event::Upheaval { node: no });
                }
            },
            Event::Subscribed { handle, era, .. } => node.subscribed(handle, era, net),
            Event::Unsubscribed { handle, .. } => node.gone(handle, net),
            Event::Turn { handle, .. } => node.turn(handle, net),
            Event::Tick { .. } => node.tick(net),
            Event::Arrived { channel, parcel, era, .. } if era == net.bus.era => {
                node.arrived(&channel, parcel, net);
            }
            Event::Returned { peer, witness, why, .. } => node.returned(&peer, witness, why, net),
            Event::Impatient { heir, .. } => node.impatient(heir, net),
            Event::Upheaval { .. } if !net.bus.down => node.upheaval(net),
            _ => {}
        }
    }

    fn for_others(&mut self, event: Event) {
        match event {
            Event::Down { line, frame } => {
                let state = &self.net.lines[line];
                if state.client_open && !state.mute {
                    let client = state.client;
                    self.clients[client].heard(line, frame, &mut self.net);
                }
            }
            Event::Dial(client) => self.dial(client, None),
            Event::Send(client) => self.clients[client].next_send(&mut self.net),
            Event::Ask(client) => self.clients[client].next_ask(&mut self.net),
            Event::Move { client, line } => self.go_elsewhere(client, line),
            Event::Register { client, line } => self.clients[client].register_again(line, &mut self.net),
            Event::Published { node, channel, parcel, era } => {
                self.net.published(node, &channel, &parcel, era);
            }
            Event::Call { node, call, era } => self.net.called(node, call, era),
            Event::Unsubscribe { node, channel, handle } => self.net.unsubscribe(node, &channel, handle),
            Event::Fault(fault) => self.fault(fault),
            Event::Resume { node } => self.resume(node),
            Event::GiveUp { node } => {
                let node = &self.nodes[node];
                if !node.alive || node.paused {
                    self.net.presence.gone(node.number);
                }
            }
            Event::Start => self.nodes.push(Node::new(self.nodes.len(), &mut self.net)),
            Event::OutageKnown { era } => {
                self.net.bus.known_down = self.net.bus.down && era == self.net.bus.era;
            }
            Event::OutageOver { emptied } => self.outage_over(emptied),
            _ => {}
        }
    }

    /// Opens a connection to any node that lives, to another one than `but` if there is one.
    fn dial(&mut self, client: usize, but: Option<NodeNo>) {
        if but.is_none() && self.clients[client].newest.is_some() {
            return;
        }
        let mut there: Vec<_> = self.living();
        if there.len() > 1 {
            there.retain(|node| Some(*node) != but);
        }
        let node = there[self.net.dice.below(there.len())];
        self.clients[client].dial(node, &mut self.net);
    }

    /// There is always one: the last one never dies.
    fn living(&self) -> Vec<NodeNo> {
        self.nodes.iter().filter(|node| node.alive).map(|node| node.number).collect()
    }

    fn go_elsewhere(&mut self, client: usize, line: LineNo) {
        if self.clients[client].may_move(line, self.net.clock.now()) {
            let node = self.net.lines[line].node;
            self.dial(client, Some(node));
        } else {
            self.clients[client].begin_to_move(line, &mut self.net);
        }
    }

    fn fault(&mut self, fault: Fault) {
        let net = &mut self.net;
        match fault {
            Fault::Reset(client) => self.clients[client].reset(net),
            Fault::Abandon(client) => self.clients[client].abandon(net),
            Fault::Forget(client) => self.clients[client].forget(net),
            Fault::Fragile(client) => {
                if let Some(line) = self.clients[client].newest {
                    net.lines[line].fragile = true;
                }
            }
            Fault::Wander(client) => {
                if let Some(line) = self.clients[client].newest {
                    self.go_elsewhere(client, line);
                }
            }
            Fault::Crash { node, back_after } => self.crash(node, back_after),
            Fault::Pause { node, lasts } => self.pause(node, lasts),
            Fault::Drain { node } => self.drain(node),
            Fault::Outage { lasts, emptied } => self.outage(lasts, emptied),
        }
    }

    fn crash(&mut self, which: usize, back_after: Duration) {
        let living = self.living();
        if living.len() < 2 {
            return;
        }
        let no = living[which % living.len()];
        self.nodes[no].alive = false;
        self.net.bus.forget(Some(no));
        for line in 0..self.net.lines.len() {
            if self.net.lines[line].node == no {
                self.net.hang_up(line, None);
            }
        }
        self.net.clock.after(GIVE_UP_NODE, Event::GiveUp { node: no });
        self.net.clock.after(back_after, Event::Start);
    }

    fn pause(&mut self, which: usize, lasts: Duration) {
        let living = self.living();
        let no = living[which % living.len()];
        if !self.nodes[no].paused {
            self.nodes[no].paused = true;
            self.net.clock.after(lasts, Event::Resume { node: no });
            self.net.clock.after(GIVE_UP_NODE, Event::GiveUp { node: no });
        }
    }

    fn resume(&mut self, no: NodeNo) {
        self.nodes[no].paused = false;
        if !self.nodes[no].alive {
            return;
        }
        if !self.net.presence.is_alive(no) {
            let delay = self.net.dice.delay();
            self.net.clock.after(delay, Event::Upheaval { node: no });
        }
        for event in std::mem::take(&mut self.nodes[no].stalled) {
            self.happen(event);
        }
    }

    fn drain(&mut self, which: usize) {
        let living = self.living();
        let no = living[which % living.len()];
        let node = &mut self.nodes[no];
        if node.paused {
            return;
        }
        for handle in node.sessions.values().copied().collect::<Vec<_>>() {
            let reconnect_after_ms = self.net.dice.below(500) as u64;
            let mail = Mail::GoAway { reconnect_after_ms, deadline_ms: 5_000 };
            node.push(handle, mail, &mut self.net);
        }
    }

    fn outage(&mut self, lasts: Duration, emptied: bool) {
        if self.net.bus.down {
            return;
        }
        self.net.bus.down = true;
        self.net.bus.era += 1;
        self.net.bus.forget(None);
        let (noticed, era) = (self.net.dice.micros(0, 300_000), self.net.bus.era);
        self.net.clock.after(noticed, Event::OutageKnown { era });
        self.net.clock.after(lasts, Event::OutageOver { emptied });
    }

    fn outage_over(&mut self, emptied: bool) {
        self.net.bus.down = false;
        self.net.bus.known_down = false;
        self.net.bus.era += 1;
        self.net.presence.shaken(emptied);
        for no in self.living() {
            let delay = self.net.dice.micros(1_000, 150_000);
            self.net.clock.after(delay, Event::Upheaval { node: no });
        }
    }
}

fn peer_id(name: &str) -> PeerId {
    PeerId::parse(name).unwrap_or_else(|error| panic!("{error}"))
}

/// Which node an event is for.
fn node_of(event: &Event, net: &Net) -> Option<NodeNo> {
    match event {
        Event::Accepted { line } | Event::Up { line, .. } | Event::Cut { line } => {
            Some(net.lines[*line].node)
        }
        Event::Reply { node, .. }
        | Event::Subscribed { node, .. }
        | Event::Unsubscribed { node, .. }
        | Event::Turn { node, .. }
        | Event::Tick { node }
        | Event::Returned { node, .. }
        | Event::Impatient { node, .. }
        | Event::Upheaval { node } => Some(*node),
        Event::Arrived { to, .. } => Some(*to),
        _ => None,
    }
}
