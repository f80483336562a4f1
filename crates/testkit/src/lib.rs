//! For tests: nodes in process and as processes, and a client of the mesh dialect.
