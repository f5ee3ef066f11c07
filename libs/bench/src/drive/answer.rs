//! An answer as it comes over the wire, and what can be wrong with it.

use std::borrow::Cow;

use orchion_testkit::wire::Ask;
use serde::Deserialize;
use serde_json::Value;

/// Why a request failed.
pub(super) struct Fault {
    pub(super) class: String,
    pub(super) detail: String,
}

impl Fault {
    pub(super) fn new(class: impl Into<String>, detail: impl ToString) -> Self {
        Self {
            class: class.into(),
            detail: detail.to_string().chars().take(300).collect(),
        }
    }
}

/// What one request leaves behind, filled as it goes, so that a request that
/// times out still tells how far it came.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) tokens: u32,
    pub(super) last_token: u64,
    pub(super) engine: String,
}

#[derive(Deserialize)]
pub(super) struct Piece<'a> {
    #[serde(borrow, default)]
    pub(super) choices: Vec<Choice<'a>>,
    #[serde(default)]
    pub(super) usage: Option<UsageField>,
    #[serde(default)]
    pub(super) error: Option<Value>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(borrow, default)]
    pub(super) delta: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) message: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) finish_reason: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct Text<'a> {
    #[serde(borrow, default)]
    pub(super) content: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(super) struct UsageField {
    #[serde(default)]
    pub(super) completion_tokens: Option<u32>,
}

/// The engine that answers now, of those that did in turn.
pub(super) fn last_of(engines: &str) -> &str {
    engines.rsplit('>').next().unwrap_or("")
}

pub(super) fn check_usage(claimed: Option<u32>, ask: &Ask) -> Result<(), Fault> {
    match claimed {
        Some(tokens) if tokens != ask.tokens => Err(Fault::new("content:wrong_usage", tokens)),
        _ => Ok(()),
    }
}
