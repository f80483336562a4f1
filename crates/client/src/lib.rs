//! A client of the mesh dialect for programs in Rust.
