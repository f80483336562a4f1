//! Which of a peer's sessions a message is for, while a newer one takes over from an older one on another node.
//!
//! Both nodes receive the peer's channel in one order, and the newer session puts a fence into it
//! (`Parcel::Superseded`): what comes before the fence is for the older session, what comes after it for the newer one.
//! Each message is so taken by exactly one of them, and what the older one does not write any more is handed over.
//!
//! ```text
//! Awaiting ────────own fence──▶ Live
//!    │ connection lost           │ connection lost
//!    ▼                           ▼
//! ParkedAwaiting ──own fence──▶ Parked       any ──newer fence──▶ Passed       any but Passed ──end──▶ Over
//! ```

use std::sync::atomic::{AtomicU8, Ordering};

/// Where a session of this node stands between its older and its newer self.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It took over from a session on another node, and its fence has not come by yet.
    Awaiting,
    /// It is the one.
    Live,
    /// It is the one, and waits for its client to come back.
    Parked,
    /// As [`Self::Awaiting`], and waits for its client to come back.
    ParkedAwaiting,
    /// A newer one took over.
    Passed,
    /// It ended.
    Over,
}

/// What to do with a message that arrived by the peer's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is for this session.
    Take,
    /// It is for another session of the peer, which has it too.
    Leave,
    /// Nobody has it.
    Refuse,
}

/// Which way a message of a sender on the same node goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Into this session's queue.
    Here,
    /// To where the newer session is.
    Bus,
    /// Nowhere.
    None,
}

impl Stage {
    /// What a message is that arrived by the peer's channel.
    pub fn arrival(self) -> Arrival {
        match self {
            Self::Live | Self::Parked => Arrival::Take,
            Self::Awaiting | Self::ParkedAwaiting | Self::Passed => Arrival::Leave,
            Self::Over => Arrival::Refuse,
        }
    }

    /// Which way a message of a sender on the same node goes. Before the fence it goes into the newer session's queue
    /// already: what the same sender sent earlier went through the channel before the fence.
    pub fn way(self) -> Way {
        match self {
            Self::Awaiting | Self::Live | Self::Parked | Self::ParkedAwaiting => Way::Here,
            Self::Passed => Way::Bus,
            Self::Over => Way::None,
        }
    }

    /// Whether its own fence has not come by yet.
    pub fn awaits_fence(self) -> bool {
        matches!(self, Self::Awaiting | Self::ParkedAwaiting)
    }

    /// Whether it waits for its client to come back.
    pub fn is_parked(self) -> bool {
        matches!(self, Self::Parked | Self::ParkedAwaiting)
    }

    /// Whether presence should know of it: neither ended nor superseded.
    pub fn is_seated(self) -> bool {
        !matches!(self, Self::Passed | Self::Over)
    }

    /// The stage after the session's own fence came by.
    #[must_use]
    pub fn after_own_fence(self) -> Self {
        match self {
            Self::Awaiting => Self::Live,
            Self::ParkedAwaiting => Self::Parked,
            other => other,
        }
    }

    /// The stage after a newer session's fence came by: also one that ended has nothing to say of what comes next.
    #[must_use]
    pub fn after_newer_fence(self) -> Self {
        Self::Passed
    }

    /// The stage after the connection was lost, for a session that may be resumed.
    #[must_use]
    pub fn after_loss(self) -> Self {
        match self {
            Self::Awaiting => Self::ParkedAwaiting,
            Self::Live => Self::Parked,
            other => other,
        }
    }
}

/// A stage that several threads look at.
#[derive(Debug)]
pub struct AtomicStage(AtomicU8);

impl AtomicStage {
    /// Begins at `stage`.
    pub fn new(stage: Stage) -> Self {
        Self(AtomicU8::new(stage as u8))
    }

    /// Where it stands.
    pub fn get(&self) -> Stage {
        Self::of(self.0.load(Ordering::SeqCst))
    }

    /// Goes on by one of the transitions; answers the stage that it left.
    pub fn change(&self, transition: impl Fn(Stage) -> Stage) -> Stage {
        let next = |stage| Some(transition(Self::of(stage)) as u8);
        let before = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        Self::of(before.unwrap_or_else(|stage| stage))
    }

    fn of(value: u8) -> Stage {
        const ALL: [Stage; 6] =
            [Stage::Awaiting, Stage::Live, Stage::Parked, Stage::ParkedAwaiting, Stage::Passed, Stage::Over];
        ALL.into_iter().find(|stage| *stage as u8 == value).unwrap_or(Stage::Over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_fence_the_older_session_takes_after_it_the_newer() {
        let (older, newer) = (AtomicStage::new(Stage::Live), AtomicStage::new(Stage::Awaiting));
        assert_eq!((older.get().arrival(), newer.get().arrival()), (Arrival::Take, Arrival::Leave));
        older.change(Stage::after_newer_fence);
        newer.change(Stage::after_own_fence);
        assert_eq!((older.get().arrival(), newer.get().arrival()), (Arrival::Leave, Arrival::Take));
        assert_eq!((older.get().way(), newer.get().way()), (Way::Bus, Way::Here));
    }

    #[test]
    fn a_lost_connection_changes_nothing_for_who_was_passed() {
        assert_eq!(Stage::Passed.after_loss(), Stage::Passed);
        assert_eq!(Stage::Over.after_loss(), Stage::Over);
        assert_eq!(Stage::Live.after_loss(), Stage::Parked);
        assert_eq!(Stage::Parked.after_newer_fence(), Stage::Passed);
    }

    #[test]
    fn who_is_parked_before_its_fence_leaves_what_comes_before_it() {
        let parked = Stage::Awaiting.after_loss();
        assert!(parked.is_parked() && parked.awaits_fence());
        assert_eq!((parked.arrival(), parked.way()), (Arrival::Leave, Way::Here));
        assert_eq!(parked.after_own_fence(), Stage::Parked);
        assert_eq!(Stage::Parked.arrival(), Arrival::Take);
    }

    #[test]
    fn every_stage_survives_the_atomic() {
        let parked = [Stage::Parked, Stage::ParkedAwaiting];
        for stage in [Stage::Awaiting, Stage::Live, Stage::Passed, Stage::Over].into_iter().chain(parked) {
            assert_eq!(AtomicStage::new(stage).get(), stage);
        }
    }
}
