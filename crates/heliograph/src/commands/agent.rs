//! `agent`: the sidecar.

use heliograph_agent::config::ConfigError;
use heliograph_agent::enrol::KeepError;

use crate::cli::Agent;
use crate::failure::Failure;

mod join;
mod run;
mod status;

pub(crate) fn run(agent: Agent) -> Result<(), Failure> {
    match agent {
        Agent::Run(args) => run::run(args),
        Agent::Join(args) => join::run(&args),
        Agent::Status(args) => status::run(args),
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<KeepError> for Failure {
    fn from(error: KeepError) -> Self {
        Self::Failed(error.into())
    }
}
