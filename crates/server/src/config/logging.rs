//! Logs and traces.

use tracing_subscriber::EnvFilter;

use super::setting::Preset::Is;
use super::setting::section;
use super::value::{Ratio, Scalar, words};

section! {
    "Logs and traces";
    /// Logs and traces.
    pub struct LoggingConfig {
        /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`), or levels by module
        /// (`info,heliograph_gateway=debug`).
        log: LogFilter = Is("info");
        /// `text` for people, `json` for programs, `auto`: `text` on a terminal and `json` elsewhere.
        log_format: LogFormat = Is("auto");
        /// Share of new traces that are recorded, where a collector is set. `OTEL_TRACES_SAMPLER` overrides it.
        trace_sample_ratio: Ratio = Is("0.1");
    }
}

/// A filter that is known to be readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Scalar for LogFilter {
    const KIND: &'static str = "filter";

    fn parse(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => Err("is not a log filter; write it like info or info,heliograph_gateway=debug".into()),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Self::Text`] on a terminal, [`Self::Json`] elsewhere.
    Auto,
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

words!(LogFormat: "`auto`, `text`, `json`", "auto" => Self::Auto, "text" => Self::Text, "json" => Self::Json);
