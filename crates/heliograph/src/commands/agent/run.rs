//! `agent run`: until a signal comes.

use anyhow::Context;
use heliograph_agent::Config;
use heliograph_agent::config::{Flags, Surroundings};
use heliograph_auth::secret::Secret;
use heliograph_server::config::value::{Ratio, Scalar};
use heliograph_server::config::{LogFilter, LogFormat, LoggingConfig};
use heliograph_server::telemetry;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::{LocalArgs, RunArgs};
use crate::failure::Failure;

pub(crate) fn run(args: RunArgs) -> Result<(), Failure> {
    let around = Surroundings::of_process();
    let log = logging(&args.local, &around)?;
    let flags = Flags {
        server: args.server,
        key: args.key.map(Secret::new),
        key_file: args.key_file,
        device_token_file: args.device_token_file,
        socket: args.local.socket,
        relay_only: args.local.relay_only,
    };
    until_signal(Config::load(flags, &around)?, &log)
}

/// Runs the agent until SIGTERM or SIGINT. A second one ends the process at once.
pub(super) fn until_signal(config: Config, logging: &LoggingConfig) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let guard = {
        let _entered = runtime.enter();
        telemetry::init(logging)?
    };
    let result = runtime.block_on(serve(config));
    runtime.shutdown_background();
    guard.shutdown();
    Ok(result?)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut stop = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tracing::info!(
        token_url = %config.token_url,
        // Not called after what it names, which no log shows.
        identified_by = %config.credential_source,
        socket = %config.bridge_socket.display(),
        relay_only = config.relay_only,
        "starting"
    );
    let end = CancellationToken::new();
    let agent = heliograph_agent::run(config, end.clone());
    tokio::pin!(agent);
    tokio::select! {
        result = &mut agent => return result,
        () = stop() => end.cancel(),
    }
    tracing::info!("stopping; once more to stop at once");
    tokio::select! {
        result = agent => result?,
        () = stop() => tracing::warn!("stopped at once"),
    }
    Ok(())
}

/// What is logged, and how: flags, our variables, the original's.
pub(super) fn logging(args: &LocalArgs, around: &Surroundings) -> Result<LoggingConfig, Failure> {
    fn read<T: Scalar>(given: &[(&str, Option<&str>)]) -> Result<Option<T>, Failure> {
        let Some((name, text)) = given.iter().find_map(|(name, text)| Some((name, (*text)?))) else {
            return Ok(None);
        };
        let wrong = |why| Failure::usage(format!("{name} {text:?} {why}"));
        T::parse(text).map(Some).map_err(wrong)
    }
    let log: Option<LogFilter> = read(&[
        ("--log", args.log.as_deref()),
        ("HELIOGRAPH_LOG", around.variable("HELIOGRAPH_LOG")?),
        ("RUST_LOG", around.variable("RUST_LOG")?),
        ("", Some("info")),
    ])?;
    let format = [
        ("--log-format", args.log_format.as_deref()),
        ("HELIOGRAPH_LOG_FORMAT", around.variable("HELIOGRAPH_LOG_FORMAT")?),
    ];
    Ok(LoggingConfig {
        log: log.context("there is no log filter")?,
        log_format: read(&format)?.unwrap_or(LogFormat::Auto),
        // Spans are the server's.
        trace_sample_ratio: Ratio(0.0),
    })
}
