//! A connection that there is, with the channels on it.

use std::future::pending;

use tokio::sync::mpsc;

use crate::rtc::{Channel, ChannelEvent, Connection, Event, Refused, Settings};

/// From which side a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Mine,
    Theirs,
}

/// One channel, and whether it has opened.
struct Slot {
    channel: Channel,
    open: bool,
}

/// A connection and at most one channel from each side.
pub(super) struct Live {
    pub(super) connection: Connection,
    events: mpsc::Receiver<Event>,
    mine: Option<Slot>,
    theirs: Option<Slot>,
    /// Whether its opening was told.
    pub(super) announced: bool,
}

/// What happens on a connection.
pub(super) enum Happening {
    Connection(Event),
    Channel(Side, ChannelEvent),
}

impl Live {
    pub(super) async fn open(settings: &Settings) -> Result<Self, Refused> {
        let (connection, events) = Connection::open(settings).await?;
        Ok(Self { connection, events, mine: None, theirs: None, announced: false })
    }

    pub(super) async fn create_channel(&mut self) -> Result<(), Refused> {
        let channel = self.connection.create_channel().await?;
        self.mine = Some(Slot { channel, open: false });
        Ok(())
    }

    /// The channel of the other side; `false` if there is one already.
    pub(super) fn adopt(&mut self, channel: Channel) -> bool {
        if self.theirs.is_some() {
            return false;
        }
        self.theirs = Some(Slot { channel, open: false });
        true
    }

    /// The next event. Texts are read only if they can be taken.
    pub(super) async fn next(&mut self, read: bool) -> Happening {
        let Self { events, mine, theirs, .. } = self;
        tokio::select! {
            // The library's task is gone, and with it everything else; the channels say so.
            Some(event) = events.recv() => Happening::Connection(event),
            event = next(mine.as_ref()), if read => Happening::Channel(Side::Mine, event),
            event = next(theirs.as_ref()), if read => Happening::Channel(Side::Theirs, event),
            else => pending().await,
        }
    }

    pub(super) fn opened(&mut self, side: Side) {
        let slot = match side {
            Side::Mine => &mut self.mine,
            Side::Theirs => &mut self.theirs,
        };
        if let Some(slot) = slot {
            slot.open = true;
        }
    }

    /// The channel to use, if it is open. With one from each side, both take the one that the impolite side made.
    pub(super) fn chosen(&self, polite: bool) -> Option<Channel> {
        self.slot(self.choice(polite)).filter(|slot| slot.open).map(|slot| slot.channel.clone())
    }

    /// A channel is gone; whether it was the one in use.
    pub(super) fn closed(&mut self, side: Side, polite: bool) -> bool {
        let in_use = self.choice(polite) == side;
        match side {
            Side::Mine => self.mine = None,
            Side::Theirs => self.theirs = None,
        }
        in_use
    }

    fn choice(&self, polite: bool) -> Side {
        match (&self.mine, &self.theirs) {
            (None, _) => Side::Theirs,
            (Some(_), Some(_)) if polite => Side::Theirs,
            (Some(_), _) => Side::Mine,
        }
    }

    fn slot(&self, side: Side) -> Option<&Slot> {
        match side {
            Side::Mine => self.mine.as_ref(),
            Side::Theirs => self.theirs.as_ref(),
        }
    }

    /// Ends it, with a goodbye where somebody hears it.
    pub(super) async fn close(self) {
        for slot in [self.mine, self.theirs].into_iter().flatten() {
            slot.channel.close().await;
        }
        self.connection.close().await;
    }
}

async fn next(slot: Option<&Slot>) -> ChannelEvent {
    match slot {
        Some(slot) => slot.channel.next().await,
        None => pending().await,
    }
}
