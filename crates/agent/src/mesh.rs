//! The peers of the mesh, and what the service says of them.
