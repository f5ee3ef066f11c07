//! Kinds of requests whose answers are cut, and what makes an answer valid.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::answer::Answer;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Text, always the likeliest token.
    Plain,
    /// Text, sampled with a seed of the caller's.
    Seeded,
    /// An object that follows a schema.
    Json,
    /// A call of a tool.
    Tools,
    /// Lines that follow a grammar of the caller's.
    Grammar,
}

/// Lines of an answer that follows the grammar.
const LINES: usize = 12;
/// Token ids of the model that is made here.
const END_OF_TURN: &str = "508";
const TOOL_CALL: &str = "509";
const STATES: [&str; 3] = [
    "sleeping soundly in the cellar",
    "awake and ready for work",
    "busy with many other jobs",
];
const ZONES: [&str; 2] = [
    "the first floor of the house",
    "the garden behind the house",
];

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Plain,
        Self::Seeded,
        Self::Json,
        Self::Tools,
        Self::Grammar,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain, greedy",
            Self::Seeded => "seeded",
            Self::Json => "JSON schema",
            Self::Tools => "tools",
            Self::Grammar => "grammar",
        }
    }

    /// A task for `model`; another `run` has another prompt.
    pub(crate) fn body(self, model: &str, run: u32) -> Value {
        let prompt = format!("Tell me about machine number {run} and its queue.");
        let mut body = json!({
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 160,
            "temperature": 0,
        });
        match self {
            Self::Plain => body["logit_bias"] = json!({END_OF_TURN: -100}),
            Self::Seeded => {
                body["logit_bias"] = json!({END_OF_TURN: -100});
                body["temperature"] = 0.8.into();
                body["seed"] = (1000 + run).into();
            }
            Self::Json => {
                body["max_tokens"] = 400.into();
                body["response_format"] = json!({
                    "type": "json_schema",
                    "json_schema": {"name": "machine", "schema": schema()},
                });
            }
            Self::Tools => {
                body["max_tokens"] = 400.into();
                body["tools"] = json!([{"type": "function", "function": {
                    "name": "get_state", "description": "The state of a machine", "parameters": parameters(),
                }}]);
                body["tool_choice"] = "required".into();
                // The model begins a call only when it is made to.
                body["logit_bias"] = json!({TOOL_CALL: 12});
            }
            Self::Grammar => {
                body["max_tokens"] = 400.into();
                body["grammar"] = grammar().into();
            }
        }
        body
    }

    /// Whether an answer is what was asked for.
    pub(crate) fn is_valid(self, answer: &Answer) -> bool {
        match self {
            Self::Plain | Self::Seeded => !answer.text.is_empty(),
            Self::Json => follows_schema(&answer.text),
            Self::Tools => {
                let is_call = |call: &crate::answer::Call| {
                    call.name == "get_state" && !call.id.is_empty() && follows(&call.arguments)
                };
                !answer.calls.is_empty() && answer.calls.iter().all(is_call)
            }
            Self::Grammar => {
                let lines: Vec<&str> = answer.text.lines().collect();
                lines.len() == LINES && lines.into_iter().all(is_line)
            }
        }
    }
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "slots": {"type": "integer", "minimum": 0, "maximum": 9999},
            "name": {"type": "string", "maxLength": 60},
            "state": {"type": "string", "maxLength": 60},
        },
        "required": ["slots", "name", "state"],
        "additionalProperties": false,
    })
}

fn follows_schema(text: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return false;
    };
    let is_text = |name: &str| {
        let text = fields.get(name).and_then(Value::as_str);
        text.is_some_and(|text| text.chars().count() <= 60)
    };
    fields.len() == 3
        && fields.get("slots").is_some_and(Value::is_u64)
        && is_text("name")
        && is_text("state")
}

fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {
            "slots": {"type": "integer", "minimum": 0, "maximum": 9999},
            "state": {"enum": STATES},
            "zone": {"enum": ZONES},
        },
        "required": ["slots", "state", "zone"],
        "additionalProperties": false,
    })
}

fn follows(arguments: &str) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_str(arguments) else {
        return false;
    };
    let is_one_of = |name: &str, all: &[&str]| {
        let text = fields.get(name).and_then(Value::as_str);
        text.is_some_and(|text| all.contains(&text))
    };
    fields.len() == 3
        && fields.get("slots").is_some_and(Value::is_u64)
        && is_one_of("state", &STATES)
        && is_one_of("zone", &ZONES)
}

fn grammar() -> String {
    format!("root ::= line{{{LINES}}}\nline ::= [a-z]{{3,9}} \": \" [0-9]{{1,4}} \"\\n\"")
}

fn is_line(line: &str) -> bool {
    let Some((word, number)) = line.split_once(": ") else {
        return false;
    };
    let is_word = (3..=9).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_lowercase());
    let is_number = (1..=4).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    is_word && is_number
}
