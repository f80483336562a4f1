//! Traces to a collector: OTLP over HTTP, set up by the standard variables.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider, SpanData};

use super::SERVICE;
use super::redact::{HIDDEN, is_secret};
use crate::config::LoggingConfig;

/// Longest answer of a collector that is read, in bytes. A right one has a few.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;
/// The specification's default for an export.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The provider, when the variables name a collector.
pub(super) fn provider(config: &LoggingConfig) -> Result<Option<SdkTracerProvider>> {
    let named = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if disabled || named.iter().all(|name| variable(name).is_none()) {
        return Ok(None);
    }
    check_protocol()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Client::new(timeout()?))
        .build()
        .context("cannot export traces: look at the variables OTEL_EXPORTER_OTLP_…")?;
    let exporter = Redacting { inner: exporter, is_failing: AtomicBool::new(false) };
    let mut provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource());
    if variable("OTEL_TRACES_SAMPLER").is_none() {
        // A caller's decision counts; only new traces are thinned out.
        let ratio = Sampler::TraceIdRatioBased(config.trace_sample_ratio.0);
        provider = provider.with_sampler(Sampler::ParentBased(Box::new(ratio)));
    }
    Ok(Some(provider.build()))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The first of two variables that is set: the one for traces before the one for all signals.
fn signal_variable(end: &str) -> Option<(String, String)> {
    let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{end}"), format!("OTEL_EXPORTER_OTLP_{end}")];
    names.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
}

fn check_protocol() -> Result<()> {
    match signal_variable("PROTOCOL") {
        Some((name, protocol)) if protocol != "http/protobuf" => {
            bail!(
                "{name} is {protocol:?}, and only http/protobuf is spoken here (collectors take it on port 4318)"
            )
        }
        _ => Ok(()),
    }
}

fn timeout() -> Result<Duration> {
    let Some((name, text)) = signal_variable("TIMEOUT") else { return Ok(DEFAULT_TIMEOUT) };
    let millis = text.parse().with_context(|| format!("{name} is {text:?}, not a number of milliseconds"))?;
    Ok(Duration::from_millis(millis))
}

fn resource() -> Resource {
    let named = variable("OTEL_SERVICE_NAME").is_some()
        || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|text| text.contains("service.name="));
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name(SERVICE) };
    resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

/// Hides in traces what is hidden in log lines, and tells when a collector goes away and comes back.
#[derive(Debug)]
struct Redacting {
    inner: SpanExporter,
    is_failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Redacting {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        for span in &mut batch {
            redact(&mut span.attributes);
            for event in &mut span.events.events {
                redact(&mut event.attributes);
            }
        }
        let result = self.inner.export(batch).await;
        // Once per change: a collector that is away for a night should not fill the log.
        match (&result, self.is_failing.swap(result.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(%error, "traces cannot be delivered and are lost"),
            (Ok(()), true) => tracing::info!("traces are delivered again"),
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

fn redact(attributes: &mut [KeyValue]) {
    for attribute in attributes {
        if is_secret(attribute.key.as_str()) {
            attribute.value = HIDDEN.into();
        }
    }
}

/// The command line's HTTP client in the exporter's terms.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn new(timeout: Duration) -> Self {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ureq::tls::TlsConfig::builder().unversioned_rustls_crypto_provider(provider).build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .build();
        Self(config.new_agent())
    }
}

#[async_trait]
impl HttpClient for Client {
    /// Blocks: batches are exported by a thread of their own that does nothing else.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let response = self.0.run(request.map(|body| body.to_vec()))?;
        let (head, body) = response.into_parts();
        let bytes = body.into_with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(head, bytes.into()))
    }
}
