//! What nodes and clients share: time, chance, the connections between them, the backend, and the history.

use std::collections::VecDeque;
use std::time::Duration;

use heliograph_bus::{BusError, Lost, Parcel, Place, Placement, Seat, Witness};
use heliograph_core::close::CloseCode;
use heliograph_core::id::{Epoch, PeerId};
use heliograph_core::message::ServerMessage;
use heliograph_testkit::history::{self, History, What};

use crate::Switches;
use crate::bus::{Bus, Channel};
use crate::plan::Fault;
use crate::presence::{Claim, Presence, Reseating};
use crate::time::{Clock, Dice};

pub(crate) type NodeNo = usize;
pub(crate) type ClientNo = usize;
pub(crate) type LineNo = usize;
pub(crate) type HandleNo = usize;

/// What a client writes.
#[derive(Debug, Clone)]
pub(crate) enum Up {
    Resume { token: Box<str>, received: u64 },
    Register,
    Send { id: Box<str>, to: Box<str>, payload: Box<str> },
    Ask(u64),
    Pong(u64),
}

/// What a node writes.
#[derive(Debug, Clone)]
pub(crate) enum Down {
    Message(Box<ServerMessage>),
    Answered(u64),
    Ping(u64),
    Close(CloseCode),
    /// The connection broke.
    Broken,
}

/// A call to presence.
#[derive(Debug, Clone)]
pub(crate) enum Call {
    Claim { peer: PeerId, line: LineNo },
    Place { handle: HandleNo, peer: PeerId, epoch: Epoch, which: Place },
    Hide { peer: PeerId, epoch: Epoch },
    Release { handle: HandleNo, peer: PeerId, epoch: Epoch },
    Reseat { seats: Vec<Seat>, up_to: Epoch, handles: Vec<HandleNo> },
}

/// The answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Claim { line: LineNo, claim: Result<Claim, BusError> },
    Place { handle: HandleNo, placement: Result<Placement, BusError> },
    Release { handle: HandleNo },
    Reseat { handles: Vec<HandleNo>, outcomes: Result<Vec<Reseating>, BusError> },
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// For a client.
    Down {
        line: LineNo,
        frame: Down,
    },
    Dial(ClientNo),
    Send(ClientNo),
    Ask(ClientNo),
    Move {
        client: ClientNo,
        line: LineNo,
    },
    Register {
        client: ClientNo,
        line: LineNo,
    },
    /// For a node.
    Accepted {
        line: LineNo,
    },
    Up {
        line: LineNo,
        frame: Up,
    },
    /// The node learns that a connection is gone.
    Cut {
        line: LineNo,
    },
    Reply {
        node: NodeNo,
        reply: Reply,
    },
    Subscribed {
        node: NodeNo,
        handle: HandleNo,
        era: u32,
    },
    Unsubscribed {
        node: NodeNo,
        handle: HandleNo,
    },
    Turn {
        node: NodeNo,
        handle: HandleNo,
    },
    Tick {
        node: NodeNo,
    },
    Arrived {
        to: NodeNo,
        channel: Channel,
        parcel: Parcel,
        era: u32,
    },
    Returned {
        node: NodeNo,
        peer: PeerId,
        witness: Witness,
        why: Lost,
    },
    /// A heir has waited long enough for what its former self left.
    Impatient {
        node: NodeNo,
        heir: HandleNo,
    },
    Upheaval {
        node: NodeNo,
    },
    /// For the backend.
    Published {
        node: NodeNo,
        channel: Channel,
        parcel: Parcel,
        era: u32,
    },
    Call {
        node: NodeNo,
        call: Call,
        era: u32,
    },
    Unsubscribe {
        node: NodeNo,
        channel: Channel,
        handle: HandleNo,
    },
    /// For the world.
    Fault(Fault),
    Resume {
        node: NodeNo,
    },
    GiveUp {
        node: NodeNo,
    },
    Start,
    OutageKnown {
        era: u32,
    },
    OutageOver {
        emptied: bool,
    },
}

/// A connection.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that may be wrong with it")]
pub(crate) struct Line {
    pub(crate) client: ClientNo,
    /// Which of its client's sockets it is.
    pub(crate) number: u32,
    pub(crate) node: NodeNo,
    pub(crate) handle: Option<HandleNo>,
    /// Frames that came before the session stood.
    pub(crate) early: VecDeque<Up>,
    /// Whether the client still has it.
    pub(crate) client_open: bool,
    /// Whether the node still has it.
    pub(crate) node_open: bool,
    /// What the client sent and would arrive after this does not.
    cut_at: Duration,
    /// Nothing passes, and nobody is told.
    pub(crate) mute: bool,
    /// The next write of the node breaks in the middle.
    pub(crate) fragile: bool,
    up_at: Duration,
    down_at: Duration,
}

/// All of it.
pub(crate) struct Net {
    pub(crate) clock: Clock<Event>,
    pub(crate) dice: Dice,
    pub(crate) lines: Vec<Line>,
    pub(crate) bus: Bus,
    pub(crate) presence: Presence,
    pub(crate) switches: Switches,
    pub(crate) history: History,
}

impl Net {
    pub(crate) fn new(seed: u64, switches: Switches) -> Self {
        Self {
            clock: Clock::new(),
            dice: Dice::new(seed),
            lines: vec![],
            bus: Bus::default(),
            presence: Presence::default(),
            switches,
            history: History::default(),
        }
    }

    /// A client writes something down.
    pub(crate) fn record(&mut self, peer: &history::Peer, socket: u32, what: What) {
        let at = self.clock.now();
        self.history.0.push(history::Event { at, peer: history::Peer::clone(peer), socket, what });
    }

    /// A client opens a connection.
    pub(crate) fn connect(&mut self, client: ClientNo, number: u32, node: NodeNo) -> LineNo {
        let line = self.lines.len();
        self.lines.push(Line {
            client,
            number,
            node,
            handle: None,
            early: VecDeque::new(),
            client_open: true,
            node_open: true,
            cut_at: Duration::MAX,
            mute: false,
            fragile: false,
            up_at: Duration::ZERO,
            down_at: Duration::ZERO,
        });
        let at = self.next_up(line);
        self.clock.at(at, Event::Accepted { line });
        line
    }

    fn next_up(&mut self, line: LineNo) -> Duration {
        let at = self.clock.now() + self.dice.delay();
        let line = &mut self.lines[line];
        line.up_at = at.max(line.up_at);
        line.up_at
    }

    /// A client writes.
    pub(crate) fn write_up(&mut self, line: LineNo, frame: Up) {
        if self.lines[line].client_open {
            let at = self.next_up(line);
            self.clock.at(at, Event::Up { line, frame });
        }
    }

    /// Whether what a client wrote arrives: it may have been under way when the connection broke.
    pub(crate) fn arrives_up(&self, line: LineNo) -> bool {
        let (now, line) = (self.clock.now(), &self.lines[line]);
        line.node_open && !line.mute && now <= line.cut_at
    }

    /// A client breaks its connection: some of what is under way arrives, and the node hears of the break, if ever.
    pub(crate) fn reset(&mut self, line: LineNo) {
        let cut_at = self.clock.now() + self.dice.micros(0, 3_000);
        let found_at = self.lines[line].up_at.max(cut_at) + self.dice.delay();
        self.lines[line].client_open = false;
        self.lines[line].cut_at = cut_at;
        if !self.lines[line].mute {
            self.clock.at(found_at, Event::Cut { line });
        }
    }

    /// A node writes; whether the operating system took it all, which says nothing of the client.
    pub(crate) fn write_down(&mut self, line: LineNo, frames: Vec<Down>) -> bool {
        if !self.lines[line].node_open {
            return false;
        }
        if !self.lines[line].client_open && !self.lines[line].mute && self.dice.chance(30) {
            return false;
        }
        let breaks = std::mem::take(&mut self.lines[line].fragile);
        let whole = if breaks { self.dice.below(frames.len() + 1) } else { frames.len() };
        for frame in frames.into_iter().take(whole) {
            self.one_down(line, frame);
        }
        if breaks {
            self.one_down(line, Down::Broken);
            self.lines[line].node_open = false;
        }
        !breaks
    }

    fn one_down(&mut self, line: LineNo, frame: Down) {
        let at = self.clock.now() + self.dice.delay();
        let state = &mut self.lines[line];
        state.down_at = at.max(state.down_at);
        if !state.mute {
            self.clock.at(state.down_at, Event::Down { line, frame });
        }
    }

    /// The node lets go of a connection, with a code or without.
    pub(crate) fn hang_up(&mut self, line: LineNo, code: Option<CloseCode>) {
        if !self.lines[line].node_open {
            return;
        }
        self.one_down(line, code.map_or(Down::Broken, Down::Close));
        self.lines[line].node_open = false;
    }

    /// A node asks presence.
    pub(crate) fn call(&mut self, node: NodeNo, call: Call) {
        let (delay, era) = (self.dice.delay(), self.bus.era);
        self.clock.after(delay, Event::Call { node, call, era });
    }

    /// Presence does what it was asked.
    pub(crate) fn called(&mut self, node: NodeNo, call: Call, era: u32) {
        let up = !self.bus.down && era == self.bus.era;
        let away = || BusError::Unavailable("away".to_owned());
        let reply = match call {
            Call::Claim { peer, line } => {
                let claim = if up { self.presence.claim(&peer, node) } else { Err(away()) };
                Reply::Claim { line, claim }
            }
            Call::Place { handle, peer, epoch, which } => {
                let placement = if up { self.presence.place(&peer, epoch, which) } else { Err(away()) };
                Reply::Place { handle, placement }
            }
            Call::Hide { peer, epoch } => {
                if up {
                    self.presence.hide(&peer, epoch);
                }
                return;
            }
            Call::Release { handle, peer, epoch } => {
                // If the backend is away, it is done later; by then a seat that nobody says is gone anyway.
                if up {
                    self.presence.release(&peer, epoch);
                }
                Reply::Release { handle }
            }
            Call::Reseat { seats, up_to, handles } => {
                let outcomes = if up { Ok(self.presence.reseat(node, &seats, up_to)) } else { Err(away()) };
                Reply::Reseat { handles, outcomes }
            }
        };
        let delay = self.dice.delay();
        self.clock.after(delay, Event::Reply { node, reply });
    }
}
