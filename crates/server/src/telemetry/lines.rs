//! Log lines: text for people, JSON for programs.

use std::fmt::{self, Debug, Display, Write};

use opentelemetry::trace::TraceContextExt;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::redact::{HIDDEN, Json, Plain, is_secret};

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Text.
    Plain,
    /// Text on a terminal that knows colours.
    Colour,
    /// One object a line.
    Json,
}

/// Formats the fields of spans: once, when they are recorded.
#[derive(Debug)]
pub(super) struct Fields(Style);

impl Fields {
    pub(super) fn new(style: Style) -> Self {
        Self(style)
    }
}

impl<'w> FormatFields<'w> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter::new(&mut writer, self.0, Part::All);
        fields.record(&mut visitor);
        visitor.result
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let is_first = current.fields.is_empty();
        let mut writer = current.as_writer();
        let mut visitor = FieldWriter::new(&mut writer, self.0, Part::All);
        visitor.is_first = is_first;
        fields.record(&mut visitor);
        visitor.result
    }
}

/// Formats whole lines.
#[derive(Debug)]
pub(super) struct Lines(Style);

impl Lines {
    pub(super) fn new(style: Style) -> Self {
        Self(style)
    }
}

impl<S> FormatEvent<S, Fields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self.0 {
            Style::Json => json(context, writer, event),
            style => text(style, context, writer, event),
        }
    }
}

/// `2026-11-21T09:00:00.000000Z  INFO heliograph_server::node: serving listen=127.0.0.1:8080 in upgrade{peer=a}`
fn text<S>(
    style: Style,
    context: &FmtContext<'_, S, Fields>,
    mut out: Writer<'_>,
    event: &Event<'_>,
) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let (dim, level, reset) = colours(style, *event.metadata().level());
    out.write_str(dim)?;
    SystemTime.format_time(&mut out)?;
    write!(
        out,
        "{reset} {level}{:>5}{reset} {dim}{}:{reset} ",
        event.metadata().level(),
        event.metadata().target()
    )?;
    write_fields(&mut out, style, Part::Message, event)?;
    write_fields(&mut out, style, Part::Others, event)?;
    for span in context.event_scope().into_iter().flatten() {
        write!(out, " {dim}in{reset} {}", span.name())?;
        match span.extensions().get::<FormattedFields<Fields>>() {
            Some(fields) if !fields.is_empty() => write!(out, "{{{}}}", fields.fields.trim_start())?,
            _ => {}
        }
    }
    writeln!(out)
}

/// The codes for dim text, for the level and for the end of both.
fn colours(style: Style, level: Level) -> (&'static str, &'static str, &'static str) {
    if style != Style::Colour {
        return ("", "", "");
    }
    let level = match level {
        Level::ERROR => "\u{1b}[31m",
        Level::WARN => "\u{1b}[33m",
        Level::INFO => "\u{1b}[32m",
        _ => "\u{1b}[34m",
    };
    ("\u{1b}[2m", level, "\u{1b}[0m")
}

/// `{"timestamp":…,"level":…,"target":…,"message":…,"fields":{…},"spans":[{"name":…,…}],"trace_id":…,"span_id":…}`
fn json<S>(context: &FmtContext<'_, S, Fields>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    out.write_str("{\"timestamp\":\"")?;
    SystemTime.format_time(&mut out)?;
    write!(
        out,
        "\",\"level\":\"{}\",\"target\":\"{}\"",
        event.metadata().level(),
        event.metadata().target()
    )?;
    write_fields(&mut out, Style::Json, Part::Message, event)?;
    out.write_str(",\"fields\":{")?;
    write_fields(&mut out, Style::Json, Part::Others, event)?;
    out.write_str("}")?;
    json_spans(context, &mut out)?;
    // Entered spans are OpenTelemetry's context as well, when traces are on.
    let trace = opentelemetry::Context::current();
    let trace = trace.span().span_context().clone();
    if trace.is_valid() {
        write!(out, ",\"trace_id\":\"{}\",\"span_id\":\"{}\"", trace.trace_id(), trace.span_id())?;
    }
    out.write_str("}\n")
}

/// The spans from the outermost in.
fn json_spans<S>(context: &FmtContext<'_, S, Fields>, out: &mut Writer<'_>) -> fmt::Result
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(scope) = context.event_scope() else { return Ok(()) };
    out.write_str(",\"spans\":[")?;
    for (index, span) in scope.from_root().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        write!(out, "{separator}{{\"name\":\"{}\"", span.name())?;
        match span.extensions().get::<FormattedFields<Fields>>() {
            Some(fields) if !fields.is_empty() => write!(out, ",{}", fields.fields)?,
            _ => {}
        }
        out.write_str("}")?;
    }
    out.write_str("]")
}

/// Which fields are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    All,
    Message,
    Others,
}

fn write_fields(out: &mut Writer<'_>, style: Style, part: Part, event: &Event<'_>) -> fmt::Result {
    let mut visitor = FieldWriter::new(out, style, part);
    event.record(&mut visitor);
    visitor.result
}

/// Writes fields one after the other, and hides those that must not be seen.
struct FieldWriter<'a, 'w> {
    out: &'a mut Writer<'w>,
    style: Style,
    part: Part,
    is_first: bool,
    result: fmt::Result,
}

impl<'a, 'w> FieldWriter<'a, 'w> {
    fn new(out: &'a mut Writer<'w>, style: Style, part: Part) -> Self {
        Self { out, style, part, is_first: true, result: Ok(()) }
    }

    /// `quoted` values are text; others are numbers and truth values, which JSON has too.
    fn write(&mut self, field: &Field, value: &dyn Display, quoted: bool) {
        let name = field.name();
        let is_message = name == "message";
        let wanted = match self.part {
            Part::All => true,
            Part::Message => is_message,
            Part::Others => !is_message,
        };
        if !wanted || self.result.is_err() {
            return;
        }
        self.result = match (self.style, is_secret(name)) {
            (Style::Json, true) => self.write_json(name, &HIDDEN, true),
            (Style::Json, false) => self.write_json(name, value, quoted),
            (_, true) => self.write_text(name, &HIDDEN),
            (_, false) => self.write_text(name, value),
        };
        self.is_first = false;
    }

    fn write_json(&mut self, name: &str, value: &dyn Display, quoted: bool) -> fmt::Result {
        // A message follows members that are always there.
        let separator = if self.is_first && self.part != Part::Message { "" } else { "," };
        let quote = if quoted { "\"" } else { "" };
        write!(self.out, "{separator}\"{name}\":{quote}")?;
        write!(Json(self.out), "{value}")?;
        self.out.write_str(quote)
    }

    fn write_text(&mut self, name: &str, value: &dyn Display) -> fmt::Result {
        if self.part == Part::Message {
            return write!(Plain(self.out), "{value}");
        }
        let separator = if self.is_first && self.part == Part::All { "" } else { " " };
        write!(self.out, "{separator}{name}=")?;
        write!(Plain(self.out), "{value}")
    }
}

impl Visit for FieldWriter<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.write(field, &format_args!("{value:?}"), true);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match self.style {
            Style::Json => self.write(field, &value, true),
            _ if field.name() == "message" => self.write(field, &value, true),
            // In quotes, so that a value with blanks is still one value.
            _ => self.write(field, &format_args!("{value:?}"), true),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, &value, false);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, &value, false);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, &value, false);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has neither NaN nor infinity.
        self.write(field, &value, !value.is_finite());
    }
}

#[cfg(test)]
mod tests;
