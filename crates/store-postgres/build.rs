//! A new migration is compiled in, also when no Rust file changed.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations/postgres");
}
