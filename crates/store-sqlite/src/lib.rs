//! The store over one SQLite file: the durable default of a single node.
