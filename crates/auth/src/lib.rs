//! Credential to claims: tokens, key sets and their rotation, hashes of secrets.
