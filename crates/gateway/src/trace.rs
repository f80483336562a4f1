//! Spans of messages on their way: what this node did with one, and when.
//!
//! A message is traced or not from the moment its sender's node accepts it; what is traced carries its context over the
//! bus (W3C trace context), so that the spans of all nodes make one trace. While nobody has called [`install`], a
//! message costs one load and one branch here, and nothing is allocated; a message that the sampler passes over costs
//! its decision on top.
//!
//! Spans name kinds and outcomes; no peer, no payload.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use heliograph_core::message::TraceContext;

/// What a node does with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leg {
    /// The sender's node checks it and sends it on its way. The root of the trace.
    Relay,
    /// The target's node takes it from the bus into the queue of the target's socket.
    Receive,
    /// The target's node checks it again and writes it to the target's socket.
    Write,
}

impl Leg {
    /// The name of its span.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Receive => "receive",
            Self::Write => "write",
        }
    }
}

/// Decides which messages are traced, and keeps their spans.
pub trait Tracer: Send + Sync {
    /// Begins the span of a leg. Without `parent` it begins a trace, if this message is one to be traced.
    fn begin(&self, leg: Leg, parent: Option<TraceContext>, start: SystemTime) -> Option<Box<dyn Span>>;
}

/// A span that is recorded.
pub trait Span {
    /// What the legs that follow are told.
    fn context(&self) -> TraceContext;
    /// Adds a word that is one of few.
    fn note(&mut self, name: &'static str, value: String);
    /// Ends it now; `failure` says why the message goes no further.
    fn end(self: Box<Self>, failure: Option<&'static str>);
}

static TRACER: OnceLock<Box<dyn Tracer>> = OnceLock::new();

/// Traces messages of every gateway of this process from now on, as logging is set up once for a process. Answers
/// whether it was the first call: later ones change nothing.
pub fn install(tracer: Box<dyn Tracer>) -> bool {
    TRACER.set(tracer).is_ok()
}

/// Begins a trace, perhaps.
pub(crate) fn begin() -> Option<Box<dyn Span>> {
    TRACER.get()?.begin(Leg::Relay, None, SystemTime::now())
}

/// Goes on with the trace of a message, if it has one. `since`: when the leg began.
pub(crate) fn go_on(leg: Leg, trace: Option<TraceContext>, since: Instant) -> Option<Box<dyn Span>> {
    let parent = trace?;
    let start = SystemTime::now().checked_sub(since.elapsed());
    TRACER.get()?.begin(leg, Some(parent), start.unwrap_or_else(SystemTime::now))
}
