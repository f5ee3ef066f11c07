//! The fields of a request body, one by one, and the settings both kinds of request share.

use serde_json::{Map, Value};

use super::{Input, Prefix, Request};
use crate::http::error::Error;
use crate::sampler::Sampling;

/// The fields of a request; `null` counts as missing.
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Error> {
        let parsed: Value = serde_json::from_slice(body).map_err(|error| {
            let place = format!("line {} column {}", error.line(), error.column());
            Error::invalid("body", format!("the body is not valid JSON: {place}"))
                .code("invalid_json")
        })?;
        match parsed {
            Value::Object(fields) => Ok(Self(fields)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                Err(Error::invalid("body", "the body must be a JSON object").code("invalid_json"))
            }
        }
    }

    pub(super) fn request(&self, input: Input) -> Result<Request, Error> {
        self.refuse_unsupported()?;
        let usage = self
            .object("stream_options")?
            .and_then(|options| options.get("include_usage"));
        let max_tokens = match self.whole("max_completion_tokens")? {
            Some(most) => Some(most),
            None => self.whole("max_tokens")?,
        };
        Ok(Request {
            model: self.text("model")?,
            input,
            sampling: self.sampling()?,
            stops: self.stops()?,
            max_tokens: max_tokens.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            ignore_end: self.truth("ignore_eos")?,
            stream: self.truth("stream")?,
            include_usage: usage.and_then(Value::as_bool).unwrap_or(false),
            prefix: self.prefix()?,
        })
    }

    fn refuse_unsupported(&self) -> Result<(), Error> {
        if self.whole("n")?.unwrap_or(1) != 1 || self.whole("best_of")?.unwrap_or(1) != 1 {
            return Err(Error::unsupported("n", "more than one answer"));
        }
        if self
            .get("logprobs")
            .is_some_and(|value| value != &Value::Bool(false))
        {
            return Err(Error::unsupported("logprobs", "logprobs"));
        }
        let format = self.object("response_format")?;
        if format.is_some_and(|format| format.get("type").is_none_or(|kind| kind != "text")) {
            return Err(Error::unsupported(
                "response_format",
                "a forced output format",
            ));
        }
        for field in ["grammar", "json_schema"] {
            if self.get(field).is_some() {
                return Err(Error::unsupported(field, "a forced output format"));
            }
        }
        Ok(())
    }

    fn sampling(&self) -> Result<Sampling, Error> {
        let usual = Sampling::default();
        let number = |name: &str, usual: f32, least: f32, most: f32| {
            let number = self.number(name)?.unwrap_or(f64::from(usual)) as f32;
            let fits = (least..=most).contains(&number);
            fits.then_some(number)
                .ok_or_else(|| wrong(name, &format!("from {least} to {most}")))
        };
        Ok(Sampling {
            temperature: number("temperature", usual.temperature, 0.0, 100.0)?,
            top_k: self
                .whole("top_k")?
                .map_or(usual.top_k, |k| usize::try_from(k).unwrap_or(0)),
            top_p: number("top_p", usual.top_p, 0.0, 1.0)?,
            min_p: number("min_p", usual.min_p, 0.0, 1.0)?,
            seed: self.seed()?.unwrap_or_else(random),
            repeat_penalty: number("repeat_penalty", usual.repeat_penalty, 0.01, 100.0)?,
            presence_penalty: number("presence_penalty", 0.0, -100.0, 100.0)?,
            frequency_penalty: number("frequency_penalty", 0.0, -100.0, 100.0)?,
            bias: self.bias()?,
        })
    }

    fn seed(&self) -> Result<Option<u64>, Error> {
        let Some(seed) = self.get("seed") else {
            return Ok(None);
        };
        let negative = || seed.as_i64().map(i64::cast_unsigned);
        seed.as_u64()
            .or_else(negative)
            .map(Some)
            .ok_or_else(|| wrong("seed", "a whole number"))
    }

    fn bias(&self) -> Result<Vec<(u32, f32)>, Error> {
        let Some(biases) = self.object("logit_bias")? else {
            return Ok(Vec::new());
        };
        let biases = biases
            .iter()
            .map(|(id, bias)| Some((id.parse().ok()?, bias.as_f64()? as f32)));
        biases
            .collect::<Option<_>>()
            .ok_or_else(|| wrong("logit_bias", "an object of numbers by token id"))
    }

    fn stops(&self) -> Result<Vec<String>, Error> {
        let expected = || wrong("stop", "a text or a list of texts");
        match self.get("stop") {
            None => Ok(Vec::new()),
            Some(Value::String(stop)) => Ok(vec![stop.clone()]),
            Some(Value::Array(stops)) => {
                let stops = stops.iter().map(|stop| stop.as_str().map(str::to_owned));
                stops.collect::<Option<_>>().ok_or_else(expected)
            }
            Some(_) => Err(expected()),
        }
    }

    fn prefix(&self) -> Result<Option<Prefix>, Error> {
        const NAME: &str = "orchion_continue";
        let Some(prefix) = self.object(NAME)? else {
            return Ok(None);
        };
        let text = match prefix.get("text") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => return Err(wrong(NAME, "an object whose `text` is a text")),
        };
        match (prefix.get("ids"), text) {
            (Some(Value::Array(ids)), text) => Ok(Some(Prefix::Ids(token_ids(NAME, ids)?, text))),
            (None | Some(Value::Null), Some(text)) => Ok(Some(Prefix::Text(text))),
            _ => Err(wrong(NAME, "an object with a list `ids` or a `text`")),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        self.get(name)
            .map(|value| text(value).ok_or_else(|| wrong(name, "a text")))
            .transpose()
    }

    pub(super) fn truth(&self, name: &str) -> Result<bool, Error> {
        let truth = |value: &Value| value.as_bool().ok_or_else(|| wrong(name, "true or false"));
        self.get(name).map_or(Ok(false), truth)
    }

    fn number(&self, name: &str) -> Result<Option<f64>, Error> {
        let number = |value: &Value| value.as_f64().ok_or_else(|| wrong(name, "a number"));
        self.get(name).map(number).transpose()
    }

    fn whole(&self, name: &str) -> Result<Option<u64>, Error> {
        let whole = |value: &Value| {
            value
                .as_u64()
                .ok_or_else(|| wrong(name, "a whole number that is not negative"))
        };
        self.get(name).map(whole).transpose()
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&Map<String, Value>>, Error> {
        let object = |value: &'_ Value| value.is_object();
        match self.get(name) {
            Some(value) if !object(value) => Err(wrong(name, "an object")),
            value => Ok(value.and_then(Value::as_object)),
        }
    }
}

/// A number nobody can foresee.
pub(in crate::http) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Each state has fresh keys; some clients keep seeds in 53 bits.
    RandomState::new().hash_one(std::process::id()) >> 11
}

pub(super) fn token_ids(param: &str, ids: &[Value]) -> Result<Vec<u32>, Error> {
    let ids = ids
        .iter()
        .map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok()));
    ids.collect::<Option<_>>()
        .ok_or_else(|| wrong(param, "a list of token ids"))
}

pub(super) fn wrong(param: &str, expected: &str) -> Error {
    Error::invalid(param, format!("`{param}` must be {expected}"))
}
