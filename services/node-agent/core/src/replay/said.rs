//! What was said of one choice, whatever the pieces it came in.

use orchion_contract::transcript::Piece;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::VecDeque;

/// Where a text belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Text,
    Reasoning,
    /// The name of the function of a call.
    Name(u32),
    /// The arguments of a call.
    Arguments(u32),
}

/// It is not what was said.
#[derive(Debug)]
pub(super) struct Other;

/// Texts in the order in which they were said; neighbours belong to different
/// parts and none is empty.
#[derive(Debug, Clone, Default)]
pub(super) struct Said(VecDeque<(Part, String)>);

/// A delta of a tool call, in OpenAI's form.
#[derive(Debug, Clone, Default, Deserialize)]
struct Call<'a> {
    index: Option<u32>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    arguments: Option<Cow<'a, str>>,
}

/// What is left of a delta whose head was shown: no id, no name.
#[derive(Debug, Serialize)]
struct Rest<'a> {
    index: u32,
    function: Arguments<'a>,
}

#[derive(Debug, Serialize)]
struct Arguments<'a> {
    arguments: &'a str,
}

impl Said {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// This was said next.
    pub(super) fn add(&mut self, piece: &Piece) {
        self.push(Part::Reasoning, piece.reasoning.as_deref());
        self.push(Part::Text, piece.text.as_deref());
        for (place, call) in (0..).zip(calls(piece.tool_calls.as_deref())) {
            let index = call.index.unwrap_or(place);
            let function = call.function.unwrap_or_default();
            self.push(Part::Name(index), function.name.as_deref());
            self.push(Part::Arguments(index), function.arguments.as_deref());
        }
    }

    fn push(&mut self, part: Part, text: Option<&str>) {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return;
        };
        match self.0.back_mut() {
            Some((last, said)) if *last == part => said.push_str(text),
            Some(_) | None => self.0.push_back((part, text.to_owned())),
        }
    }

    /// Takes away what `piece` repeats, and returns what is left of it.
    pub(super) fn swallow(&mut self, piece: &Piece) -> Result<Option<Piece>, Other> {
        let reasoning = self.eat(Part::Reasoning, piece.reasoning.as_deref())?;
        let text = self.eat(Part::Text, piece.text.as_deref())?;
        let tool_calls = match &piece.tool_calls {
            Some(raw) => self.eat_calls(raw)?,
            None => None,
        };
        let (reasoning, text) = (reasoning.map(str::to_owned), text.map(str::to_owned));
        let is_rest = reasoning.is_some() || text.is_some() || tool_calls.is_some();
        Ok(is_rest.then_some(Piece {
            choice: piece.choice,
            text,
            reasoning,
            tool_calls,
            ..Piece::default()
        }))
    }

    fn eat_calls(&mut self, raw: &RawValue) -> Result<Option<Box<RawValue>>, Other> {
        let mut left = Vec::new();
        let deltas: Vec<&RawValue> = read(raw)?;
        for (place, delta) in (0..).zip(deltas) {
            let call: Call<'_> = read(delta)?;
            let index = call.index.unwrap_or(place);
            let function = call.function.unwrap_or_default();
            if self.is_empty() {
                left.push(delta.to_owned());
                continue;
            }
            if self
                .eat(Part::Name(index), function.name.as_deref())?
                .is_some()
            {
                return Err(Other);
            }
            let arguments = self.eat(Part::Arguments(index), function.arguments.as_deref())?;
            if let Some(arguments) = arguments {
                let function = Arguments { arguments };
                left.push(written(&Rest { index, function })?);
            }
        }
        match left.is_empty() {
            true => Ok(None),
            false => written(&left).map(Some),
        }
    }

    /// Takes `text` away from what is expected next; what goes beyond is left.
    fn eat<'a>(&mut self, part: Part, text: Option<&'a str>) -> Result<Option<&'a str>, Other> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let Some((expected, said)) = self.0.front_mut() else {
            return Ok(Some(text));
        };
        if *expected != part {
            return Err(Other);
        }
        if let Some(rest) = text.strip_prefix(said.as_str()) {
            self.0.pop_front();
            // Before the end, another part must follow.
            return match (rest.is_empty(), self.0.is_empty()) {
                (true, _) => Ok(None),
                (false, true) => Ok(Some(rest)),
                (false, false) => Err(Other),
            };
        }
        if !said.starts_with(text) {
            return Err(Other);
        }
        said.drain(..text.len());
        Ok(None)
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Other> {
    serde_json::from_str(raw.get()).map_err(|_| Other)
}

fn written(value: &impl Serialize) -> Result<Box<RawValue>, Other> {
    serde_json::value::to_raw_value(value).map_err(|_| Other)
}

fn calls(raw: Option<&RawValue>) -> Vec<Call<'_>> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}
