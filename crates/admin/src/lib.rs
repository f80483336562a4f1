//! HTTP for pairing and administration, the console and the pages, health and metrics.
