//! What an agent is told: by flags, or by the variables of the original sidecar.
