//! Credential to claims: who is asking, and may the secret be believed.
//!
//! Everything here is a plain function of its arguments: the time is handed in as seconds since the Unix epoch,
//! randomness as a generator, key files as their text. Nothing waits, reads or logs, and no error or `Debug`
//! output holds a secret.
//!
//! - [`token`]: session tokens (JWT), the keys that sign them and their rotation.
//! - [`secret`]: secrets as a type, their keyed hashes, and generators of keys, tokens, codes and ids.
//! - [`assertion`]: devices that enrolled with a public key, and the JWTs by which they prove it.
//! - [`room_key`]: members of rooms that name themselves by a public key, and how they prove that it is theirs.
//! - [`turn`]: credentials for TURN servers.
//! - [`keyfile`]: the original's `api_keys.json`.
//!
//! To add a signature algorithm: a variant of [`token::Algorithm`] and, for devices, a key type in
//! [`assertion`]; the compiler names the places. To add a kind of secret: a [`secret::Purpose`] and a generator.

use heliograph_core::id::{InvalidName, MeshName};

pub mod assertion;
mod jwk;
mod jws;
mod key;
pub mod keyfile;
pub mod room_key;
pub mod secret;
#[cfg(test)]
mod testing;
pub mod token;
pub mod turn;

/// Issuer and audience of everything that is signed for this service.
pub const SERVICE: &str = "heliograph";

/// Roles, key ids and token ids obey the rule of names, so that they are safe in JSON and in log lines.
fn check_name(text: &str) -> Result<(), InvalidName> {
    MeshName::parse(text).map(drop)
}
