//! What the mock engine does wrong when it is told to.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FaultKind {
    /// HTTP 500 with an OpenAI error object.
    Error,
    /// HTTP 503 with `Retry-After`.
    Overloaded,
    /// The connection closes before any answer.
    Drop,
    /// A part of the answer, then the connection breaks.
    Truncate,
    /// A part of the answer, then an orderly end without finish reason or `[DONE]`.
    EndEarly,
    /// A part of the answer, then silence on an open connection.
    Hang,
    /// The whole answer with its finish reason, then an end without `[DONE]`.
    NoDone,
    /// A part of the answer, then an error object in the stream.
    ErrorEvent,
    /// A chunk that is no JSON among good ones.
    Malformed,
    /// A first token that comes late.
    Slow,
    /// No usage, although it was asked for.
    NoUsage,
}

/// What becomes of a request that ends with the beginning of its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Continuation {
    /// The answer goes on with the next token when the request says so
    /// explicitly; a bare last message is repeated first, as llama-server does.
    #[default]
    Continue,
    /// HTTP 400.
    Refuse,
    /// The answer starts anew.
    Ignore,
    /// The first piece repeats what the request held.
    Repeat,
}

/// A failure, and when it happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The way to fail.
    pub kind: FaultKind,
    /// The index of the first token that is not sent in order; half of the
    /// answer when absent.
    pub at: Option<u32>,
    /// How late a slow first token is, in milliseconds; 5 s when absent.
    pub late_ms: Option<u64>,
    /// Only the first so many requests of one nonce fail at one engine.
    pub times: Option<u32>,
    /// Only the engine of this name fails.
    pub engine: Option<String>,
}

impl Fault {
    /// A fault without conditions.
    pub fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            at: None,
            late_ms: None,
            times: None,
            engine: None,
        }
    }

    /// Puts the failure before the token with this index.
    #[must_use]
    pub fn at(mut self, index: u32) -> Self {
        self.at = Some(index);
        self
    }

    /// Lets only the first `times` requests of one nonce fail at one engine.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Lets only the engine of this name fail.
    #[must_use]
    pub fn on(mut self, engine: &str) -> Self {
        self.engine = Some(engine.to_owned());
        self
    }

    /// Makes a slow first token so late.
    #[must_use]
    pub fn late_ms(mut self, late_ms: u64) -> Self {
        self.late_ms = Some(late_ms);
        self
    }
}

impl fmt::Display for Fault {
    /// Writes the fields as they stand in a marker.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fault={}", name(self.kind))?;
        if let Some(at) = self.at {
            write!(f, " fault_at={at}")?;
        }
        if let Some(late_ms) = self.late_ms {
            write!(f, " fault_ms={late_ms}")?;
        }
        if let Some(times) = self.times {
            write!(f, " fault_times={times}")?;
        }
        if let Some(engine) = &self.engine {
            write!(f, " fault_engine={engine}")?;
        }
        Ok(())
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(*self))
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ValueEnum::from_str(text, false)
    }
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&name(*self))
    }
}

impl FromStr for Continuation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        ValueEnum::from_str(text, false)
    }
}

fn name(value: impl ValueEnum) -> String {
    let named = value.to_possible_value();
    named.map_or_else(String::new, |value| value.get_name().to_owned())
}
