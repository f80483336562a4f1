//! Spans of messages, by OpenTelemetry.
//!
//! Not by way of `tracing`: a subscriber makes a span, with allocations, before anybody decides whether it is sampled,
//! and messages are the one thing here of which there are very many.

use std::time::SystemTime;

use heliograph_core::message::TraceContext;
use heliograph_gateway::trace::{Leg, Span, Tracer};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, TraceFlags, TraceState,
    Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

/// Makes spans of messages, as the provider's sampler decides.
pub(super) struct Messages(pub(super) SdkTracer);

impl Tracer for Messages {
    fn begin(&self, leg: Leg, parent: Option<TraceContext>, start: SystemTime) -> Option<Box<dyn Span>> {
        let (kind, remote) = match leg {
            Leg::Relay => (SpanKind::Producer, false),
            Leg::Receive => (SpanKind::Consumer, true),
            Leg::Write => (SpanKind::Internal, false),
        };
        let mut context = Context::new();
        if let Some(TraceContext { trace_id, span_id }) = parent {
            let parent = SpanContext::new(
                trace_id.into(),
                span_id.into(),
                TraceFlags::SAMPLED,
                remote,
                TraceState::NONE,
            );
            context = context.with_remote_span_context(parent);
        }
        let builder = SpanBuilder::from_name(leg.as_str()).with_kind(kind).with_start_time(start);
        let span = self.0.build_with_context(builder, &context);
        // What is recorded here and not sampled is seen by nobody else: the other nodes are not told of it.
        span.span_context().is_sampled().then(|| Box::new(Open(span)) as Box<dyn Span>)
    }
}

struct Open(opentelemetry_sdk::trace::Span);

impl Span for Open {
    fn context(&self) -> TraceContext {
        let context = self.0.span_context();
        TraceContext {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
        }
    }

    fn note(&mut self, name: &'static str, value: String) {
        self.0.set_attribute(KeyValue::new(name, value));
    }

    fn end(mut self: Box<Self>, failure: Option<&'static str>) {
        if let Some(reason) = failure {
            self.0.set_status(Status::error(reason));
        }
        self.0.end();
    }
}
