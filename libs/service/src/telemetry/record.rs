//! One log record: what it holds and how it is written.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use serde_json::{Map, Value};

/// A log record. Written as JSON it is one line of the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Record<'a> {
    /// Unique among all records of all services.
    pub id: String,
    /// When it was made, in milliseconds since 1970.
    pub ts_ms: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// The service it comes from.
    pub source: &'a str,
    /// The run of that service.
    pub instance: &'a str,
    /// A sentence that reads alone.
    pub message: String,
    /// The fields of the record and of the spans around it, by dotted name.
    pub fields: Map<String, Value>,
}

impl Record<'_> {
    /// The record as one line for people, without a line end.
    pub fn to_text(&self, colour: bool) -> String {
        let paint = |style: Style| if colour { style } else { Style::new() };
        let dim = paint(Style::new().dimmed());
        let level = paint(level_style(self.level));
        let mut line = format!(
            "{dim}{}{dim:#} {level}{:<5}{level:#} {}{}{:#} {}",
            time_of_day(self.ts_ms),
            self.level.to_uppercase(),
            paint(Style::new().bold()),
            self.source,
            paint(Style::new().bold()),
            self.message,
        );
        for (name, value) in &self.fields {
            // Writing to a string cannot fail.
            let _ = match value.as_str() {
                Some(text) if !text.contains(char::is_whitespace) => {
                    write!(line, " {dim}{name}={dim:#}{text}")
                }
                Some(_) | None => write!(line, " {dim}{name}={dim:#}{value}"),
            };
        }
        line
    }
}

fn level_style(level: &str) -> Style {
    match level {
        "error" => AnsiColor::Red.on_default().bold(),
        "warn" => AnsiColor::Yellow.on_default(),
        "info" => AnsiColor::Green.on_default(),
        _ => AnsiColor::Blue.on_default(),
    }
}

/// The time of day in UTC, to the millisecond.
fn time_of_day(ts_ms: u64) -> String {
    let (seconds, millis) = (ts_ms / 1000, ts_ms % 1000);
    format!(
        "{:02}:{:02}:{:02}.{millis:03}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    )
}
