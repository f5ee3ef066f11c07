//! Turns events into records, writes them to stdout and gives them to the feed.

use std::error::Error;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::feed::{LogLine, Queue};
use super::record::Record;
use super::source::Source;

/// The last part of a field's name, when its value must not be logged.
const SECRET_FIELDS: &[&str] = &[
    "authorization",
    "completion",
    "content",
    "messages",
    "password",
    "prompt",
    "secret",
    "text",
    "token",
];

/// How records are written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Render {
    Json,
    Text { colour: bool },
}

/// Is shown each record.
pub(super) type Witness = Box<dyn Fn(&Record<'_>) + Send + Sync>;

pub(super) struct RecordLayer<W> {
    source: Arc<Source>,
    render: Render,
    writer: W,
    witness: Option<Witness>,
}

impl<W> RecordLayer<W> {
    pub(super) fn new(source: Arc<Source>, render: Render, writer: W) -> Self {
        Self {
            source,
            render,
            writer,
            witness: None,
        }
    }

    /// Shows each record to `witness`, too.
    pub(super) fn with_witness(mut self, witness: Option<Witness>) -> Self {
        self.witness = witness;
        self
    }
}

impl<S, W> Layer<S> for RecordLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                fields.named.extend(of_span.named.clone());
            }
        }
        event.record(&mut fields);
        let target = event.metadata().target();
        if !target.starts_with("orchion") {
            fields.named.insert("target".to_owned(), target.into());
        }
        let source = Source::current_or(&self.source);
        let level = event.metadata().level();
        let record = Record {
            id: uuid::Uuid::now_v7().to_string(),
            ts_ms: now_ms(),
            level: level_name(*level),
            source: source.service(),
            instance: source.instance(),
            message: fields.message,
            fields: fields.named,
        };
        let feed = (*level != Level::TRACE && source.feed().wants(target)).then(|| source.feed());
        self.emit(&source, &record, feed);
    }
}

impl<W> RecordLayer<W>
where
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn emit(&self, source: &Source, record: &Record<'_>, feed: Option<&Arc<Queue>>) {
        if let Some(witness) = &self.witness {
            witness(record);
        }
        // A record is text, numbers and maps with text keys: it can be written.
        let json = || serde_json::to_vec(record).unwrap_or_default();
        let json = match self.render {
            Render::Json => self.write(json()),
            Render::Text { colour } => {
                self.write(record.to_text(colour).into_bytes());
                if feed.is_some() { json() } else { Vec::new() }
            }
        };
        if let Some(feed) = feed {
            let (service, instance) = source.shared_names();
            feed.push(LogLine {
                service,
                instance,
                level: record.level,
                json,
            });
        }
    }

    /// Writes a line and gives it back. A stdout that nobody reads any more is
    /// no reason to fail.
    fn write(&self, mut line: Vec<u8>) -> Vec<u8> {
        line.push(b'\n');
        let _ = self.writer.make_writer().write_all(&line);
        line.pop();
        line
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The fields of a span or an event; the message of an event apart.
#[derive(Default)]
struct Fields {
    message: String,
    named: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = field.name();
        let last = name.rsplit('.').next().unwrap_or(name);
        let value = if SECRET_FIELDS.contains(&last) {
            "***".into()
        } else {
            value.into()
        };
        self.named.insert(name.to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        self.put(field, text);
    }
}

/// Filters events by level and target, but lets spans of level info and above
/// pass, so that a warning keeps its context when only warnings are logged.
pub(super) struct SpansAlways(pub(super) Targets);

impl SpansAlways {
    fn is_context(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && *metadata.level() <= Level::INFO
    }
}

impl<S: Subscriber> Filter<S> for SpansAlways {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        Self::is_context(metadata) || Filter::<S>::enabled(&self.0, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::is_context(metadata) {
            return Interest::always();
        }
        Filter::<S>::callsite_enabled(&self.0, metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.0).map(|level| level.max(LevelFilter::INFO))
    }
}
