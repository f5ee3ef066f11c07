//! What of a request decides how its answer can be taken up.

use orchion_contract::job::JobSpec;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The parts of a request that matter for a cut answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// More than one answer is wanted.
    pub(super) has_choices: bool,
    /// The sampler has a state of its own, which no text holds.
    pub(super) has_mirostat: bool,
    /// The caller brings a grammar.
    pub(super) has_grammar: bool,
    /// The answer must be JSON.
    pub(super) has_format: bool,
    /// The sampler always takes the likeliest token.
    pub(super) is_greedy: bool,
}

impl Request {
    /// Reads what `spec` asks for; what cannot be read is not there.
    pub(super) fn of(spec: &JobSpec) -> Self {
        let fields: Fields<'_> = serde_json::from_str(spec.body.get()).unwrap_or_default();
        let field = |name: &str| fields.get(name).filter(|value| value.get() != "null");
        let number = |name: &str| {
            let value = field(name)?;
            serde_json::from_str::<f64>(value.get()).ok()
        };
        Self {
            has_choices: number("n").is_some_and(|n| n > 1.0),
            has_mirostat: number("mirostat").is_some_and(|mode| mode > 0.0),
            has_grammar: field("grammar").is_some_and(|grammar| grammar.get() != r#""""#),
            has_format: field("json_schema").is_some()
                || field("response_format").is_some_and(|format| is_forced(format)),
            is_greedy: number("temperature").is_some_and(|heat| heat <= 0.0)
                || number("top_k").is_some_and(|k| k == 1.0),
        }
    }
}

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn is_forced(format: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Format<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
    }
    serde_json::from_str::<Format<'_>>(format.get()).is_ok_and(|format| format.r#type != "text")
}
