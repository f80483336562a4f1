//! Logs and traces: one subscriber for the process.
//!
//! Log lines go to stderr, as text or JSON. Spans go to a collector by OTLP when the standard variables name one.
//! Both ways pass the same rule of what must not be seen (`redact.rs`); its place is here and not with those who
//! log, so that a slip of theirs stays one.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogFormat, LoggingConfig};
use lines::{Fields, Lines, Style};
use messages::Messages;

mod lines;
mod messages;
mod otlp;
mod redact;

/// Name of the service in traces, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "heliograph";

/// Keeps the exporter alive. Its end, by [`Guard::shutdown`] or by drop, sends what has not been sent; that blocks
/// for at most 5 seconds.
#[derive(Debug)]
#[must_use = "dropping it ends the export of traces"]
pub struct Guard {
    traces: Option<SdkTracerProvider>,
}

impl Guard {
    /// Sends what has not been sent and ends the export. Blocks; call it when the runtime has ended.
    pub fn shutdown(self) {
        drop(self);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.traces.take().map(|traces| traces.shutdown()) {
            tracing::warn!(%error, "the last traces were not delivered");
        }
    }
}

/// Installs the process's subscriber. Fails when there is one already, or when the OpenTelemetry variables cannot be
/// used.
pub fn init(config: &LoggingConfig) -> Result<Guard> {
    let traces = otlp::provider(config)?;
    let style = style(config.log_format);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(stderr)
        .with_ansi(style == Style::Colour)
        .fmt_fields(Fields::new(style))
        .event_format(Lines::new(style))
        .with_filter(EnvFilter::new(config.log.as_str()));
    let spans = traces.as_ref().map(|traces| {
        // What is traced is no matter of what is logged: spans are ours alone, at any level.
        let ours = filter_fn(|metadata| {
            let wanted = metadata.is_span() || *metadata.level() <= LevelFilter::INFO;
            wanted && metadata.target().starts_with(SERVICE)
        });
        tracing_opentelemetry::layer().with_tracer(traces.tracer(SERVICE)).with_filter(ours)
    });
    // Lines come after spans, so that a line's trace is already known when it is written.
    tracing_subscriber::registry().with(spans).with(lines).try_init().context("logging is set up already")?;
    if let Some(traces) = &traces {
        let _set_up_once = heliograph_gateway::trace::install(Box::new(Messages(traces.tracer(SERVICE))));
    }
    Ok(Guard { traces })
}

fn style(format: LogFormat) -> Style {
    let terminal = stderr().is_terminal();
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match format {
        LogFormat::Json => Style::Json,
        LogFormat::Auto if !terminal => Style::Json,
        LogFormat::Auto | LogFormat::Text if colour => Style::Colour,
        LogFormat::Auto | LogFormat::Text => Style::Plain,
    }
}
