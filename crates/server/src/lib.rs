//! Assembles a node: configuration, lifecycle, telemetry; serve(listeners, parts).
