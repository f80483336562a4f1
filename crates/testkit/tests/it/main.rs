//! The product through its sockets: one binary of tests, a node in this process for each.

mod mesh;
