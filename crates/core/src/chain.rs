//! The hash chain of the audit log: each row's hash covers the row and the hash before it, so that a changed,
//! removed or inserted row shows.

use sha2::{Digest, Sha256};

use crate::id::Version;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// What stands before the first row.
pub const GENESIS: Hash = [0; 32];

/// One row of the audit log, as far as the chain covers it.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// The row's number, from 1, without gaps.
    pub version: Version,
    /// When, in milliseconds since the Unix epoch.
    pub at_unix_ms: i64,
    /// Who did it: a key id, or `system`.
    pub actor: &'a str,
    /// What was done.
    pub action: &'a str,
    /// In which mesh.
    pub mesh: &'a str,
    /// To what: a peer, key or invite id.
    pub subject: &'a str,
    /// More about it, as JSON text.
    pub detail: &'a str,
}

/// The hash of a row that follows `previous`.
///
/// SHA-256 over `previous`, then the version and the time as big-endian 64-bit numbers, then each text preceded
/// by its length as a big-endian 64-bit number (so that no two rows have the same bytes).
pub fn link(previous: &Hash, row: &Link<'_>) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    hasher.update(row.version.0.to_be_bytes());
    hasher.update(row.at_unix_ms.to_be_bytes());
    for text in [row.actor, row.action, row.mesh, row.subject, row.detail] {
        hasher.update((text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

/// Follows a chain row by row.
#[derive(Debug, Clone)]
pub struct Verifier {
    next: Version,
    previous: Hash,
}

impl Default for Verifier {
    fn default() -> Self {
        Self { next: Version(1), previous: GENESIS }
    }
}

impl Verifier {
    /// Takes the next row with the hash that is stored for it; the error names the first row that does not fit.
    pub fn check(&mut self, row: &Link<'_>, stored: &Hash) -> Result<(), BrokenChain> {
        if row.version != self.next || link(&self.previous, row) != *stored {
            return Err(BrokenChain { at: self.next });
        }
        self.next = Version(row.version.0 + 1);
        self.previous = *stored;
        Ok(())
    }

    /// How many rows were found in order.
    pub fn checked(&self) -> u64 {
        self.next.0 - 1
    }
}

/// The log was changed outside the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log does not fit together at row {at}")]
pub struct BrokenChain {
    /// The first row that does not fit.
    pub at: Version,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(version: u64, detail: &str) -> Link<'_> {
        Link {
            version: Version(version),
            at_unix_ms: 7,
            actor: "ak_1",
            action: "approve",
            mesh: "default",
            subject: "a",
            detail,
        }
    }

    proptest! {
        #[test]
        fn a_changed_row_shows(details in prop::collection::vec("[a-z]{0,8}", 1..12), at in any::<prop::sample::Index>()) {
            let mut hashes = vec![];
            let mut previous = GENESIS;
            for (i, detail) in details.iter().enumerate() {
                previous = link(&previous, &row(i as u64 + 1, detail));
                hashes.push(previous);
            }
            let changed = at.index(details.len());
            let mut verifier = Verifier::default();
            for (i, detail) in details.iter().enumerate() {
                let detail = if i == changed { format!("{detail}!") } else { detail.clone() };
                let result = verifier.check(&row(i as u64 + 1, &detail), &hashes[i]);
                if i == changed {
                    prop_assert_eq!(result, Err(BrokenChain { at: Version(i as u64 + 1) }));
                    break;
                }
                prop_assert_eq!(result, Ok(()));
            }
        }
    }

    #[test]
    fn moving_a_letter_between_fields_changes_the_hash() {
        let (mut a, mut b) = (row(1, ""), row(1, ""));
        (a.actor, a.action) = ("ab", "c");
        (b.actor, b.action) = ("a", "bc");
        assert_ne!(link(&GENESIS, &a), link(&GENESIS, &b));
    }
}
