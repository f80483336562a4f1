//! How a device becomes a peer and stops being one:
//!
//! ```text
//! (invite redeemed) ─▶ pending_approval ─▶ approved ─▶ revoked
//!                              └─▶ rejected
//! ```
//!
//! A transition names the one state that it expects. Stores put that state into the `WHERE` of their update, and
//! read "no row" as *someone else was first*.

use crate::authority::Standing;

/// Where a pairing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PairingState {
    /// An invite was redeemed; an administrator has to decide.
    PendingApproval,
    /// The device is a peer.
    Approved,
    /// The device was turned down.
    Rejected,
    /// The peer lost its right, for good.
    Revoked,
}

impl PairingState {
    /// The word in HTTP answers and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PendingApproval => "pending_approval",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Revoked => "revoked",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::PendingApproval, Self::Approved, Self::Rejected, Self::Revoked]
            .into_iter()
            .find(|state| state.as_str() == text)
    }

    /// What it means for the peer's right.
    pub fn standing(self) -> Standing {
        match self {
            Self::PendingApproval => Standing::Pending,
            Self::Approved => Standing::Approved,
            Self::Rejected => Standing::Rejected,
            Self::Revoked => Standing::Revoked,
        }
    }
}

/// What an administrator may do to a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// Let the device in.
    Approve,
    /// Turn the device down.
    Reject,
    /// Take the right away.
    Revoke,
}

impl Transition {
    /// The state that has to be there for the transition to happen.
    pub fn expects(self) -> PairingState {
        match self {
            Self::Approve | Self::Reject => PairingState::PendingApproval,
            Self::Revoke => PairingState::Approved,
        }
    }

    /// The state afterwards.
    pub fn leads_to(self) -> PairingState {
        match self {
            Self::Approve => PairingState::Approved,
            Self::Reject => PairingState::Rejected,
            Self::Revoke => PairingState::Revoked,
        }
    }

    /// The word in the audit log and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Revoke => "revoke",
        }
    }

    /// The state after this transition, or the one that stood in its way.
    pub fn apply(self, state: PairingState) -> Result<PairingState, NotAllowed> {
        if state == self.expects() { Ok(self.leads_to()) } else { Err(NotAllowed { current: state }) }
    }
}

/// The pairing is not in the state that the transition expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the pairing is {}", current.as_str())]
pub struct NotAllowed {
    /// The state it is in.
    pub current: PairingState,
}

#[cfg(test)]
mod tests {
    use super::*;
    use PairingState::{Approved, PendingApproval, Rejected, Revoked};
    use proptest::prelude::*;

    #[test]
    fn exactly_three_transitions_exist() {
        let states = [PendingApproval, Approved, Rejected, Revoked];
        let transitions = [Transition::Approve, Transition::Reject, Transition::Revoke];
        let allowed: Vec<_> = states
            .iter()
            .flat_map(|&s| transitions.iter().filter_map(move |t| t.apply(s).ok().map(|to| (s, to))))
            .collect();
        assert_eq!(allowed, [(PendingApproval, Approved), (PendingApproval, Rejected), (Approved, Revoked)]);
    }

    #[test]
    fn words_read_back() {
        for state in [PendingApproval, Approved, Rejected, Revoked] {
            assert_eq!(PairingState::parse(state.as_str()), Some(state));
        }
        assert_eq!(PairingState::parse("pending"), None);
    }

    proptest! {
        /// However many administrators act in whatever order: once out, never in again.
        #[test]
        fn nothing_leads_out_of_rejected_or_revoked(actions in prop::collection::vec(0usize..3, 0..20)) {
            let transitions = [Transition::Approve, Transition::Reject, Transition::Revoke];
            let mut state = PendingApproval;
            let mut ended = false;
            for action in actions {
                if let Ok(next) = transitions[action].apply(state) {
                    prop_assert!(!ended);
                    state = next;
                }
                ended = matches!(state, Rejected | Revoked);
            }
        }
    }
}
