//! Revocations while the peers in question send as fast as they can: once one is answered as enforced, nothing is written
//! to the peer or from it, whatever node was slow, paused or cut off (DESIGN G2).
//!
//! The nodes log when each write begins, on the clock that they share with the test; the checker holds that against
//! the moment of each answer.

mod calm;
mod faults;
mod fire;
