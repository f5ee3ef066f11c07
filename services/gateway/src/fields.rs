//! Reading a JSON body: one object, each field checked by name.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use orchion_contract::ErrorCode;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::sync::SemaphorePermit;

use crate::error::{Error, Result};
use crate::large::{self, LARGE};
use crate::state::Gateway;

/// How long a body may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of the name of an unknown field is said back, in characters.
const LONGEST_NAME: usize = 120;
/// How much of a body that is too large is read and thrown away, so that its
/// sender gets to read the answer: this many times the limit.
const DRAINED: usize = 4;

/// The fields of a request. Fields are taken out as they are checked; `null`
/// counts as absent.
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Reads a body, and makes of its fields what `make` does.
    ///
    /// # Errors
    /// Too large, not JSON, not an object, or what `make` says.
    pub(crate) async fn read<T, F>(
        gateway: &Gateway,
        headers: &HeaderMap,
        body: Body,
        make: F,
    ) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Self) -> Result<T> + Send + 'static,
    {
        let read = tokio::time::timeout(PATIENCE, read(gateway, headers, body)).await;
        let (bytes, turn) = read.map_err(|_| {
            let message = "the body did not come in time; send it at once";
            Error::new(ErrorCode::InvalidParams, message)
        })??;
        if turn.is_none() {
            return Self::parse(&bytes).and_then(make);
        }
        large::aside(move || Self::parse(&bytes).and_then(make)).await
    }

    /// Reads the fields of a text.
    ///
    /// # Errors
    /// Not JSON, or not an object.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        if text.trim_ascii().is_empty() {
            let message = "the body is empty; send one JSON object";
            return Err(Error::new(ErrorCode::InvalidParams, message));
        }
        let parsed = serde_json::from_slice::<Value>(text);
        let value = parsed.map_err(|error| {
            // Place and kind only: the body may hold a prompt.
            let what = match error.classify() {
                serde_json::error::Category::Eof => "ends too early",
                // The library names this by its text only.
                _ if error.to_string().starts_with("recursion limit") => "is nested too deeply",
                serde_json::error::Category::Syntax
                | serde_json::error::Category::Data
                | serde_json::error::Category::Io => "is no valid JSON",
            };
            let (line, column) = (error.line(), error.column());
            Error::new(
                ErrorCode::InvalidParams,
                format!("the body {what} at line {line}, column {column}; send one JSON object"),
            )
        })?;
        let Value::Object(mut fields) = value else {
            return Err(Error::new(
                ErrorCode::InvalidParams,
                format!("the body is {}; send one JSON object", kind(&value)),
            ));
        };
        fields.retain(|_, value| !value.is_null());
        Ok(Self(fields))
    }

    /// Fields that were read as part of others.
    pub(crate) fn of(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    pub(crate) fn insert(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// Keeps the fields of these names only.
    pub(crate) fn keep(&mut self, names: &[&str]) {
        self.0.retain(|name, _| names.contains(&name.as_str()));
    }

    /// Refuses a field that has none of the names which a `noun` has.
    ///
    /// # Errors
    /// The first such field.
    pub(crate) fn check_names(&self, noun: &str, known: &[&str]) -> Result<()> {
        let mut names = self.0.keys();
        match names.find(|name| !known.contains(&name.as_str())) {
            None => Ok(()),
            Some(name) => Err(unknown(noun, name, known)),
        }
    }

    /// A text that is not empty.
    ///
    /// # Errors
    /// Another type, or empty.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(Some(text)),
            Some(Value::String(_)) => Err(Error::invalid(name, format!("`{name}` is empty"))),
            Some(other) => Err(wrong(name, "a text", &other)),
        }
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// Another type.
    pub(crate) fn switch(&mut self, name: &str) -> Result<Option<bool>> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Bool(on)) => Ok(Some(on)),
            Some(other) => Err(wrong(name, "true or false", &other)),
        }
    }

    /// A whole number from `least` to `most`; `55.0` is one, as in JSON Schema.
    ///
    /// # Errors
    /// Another type, or out of range.
    pub(crate) fn whole(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        let number = value.as_u64().or_else(|| whole_float(&value));
        match number.filter(|number| (least..=most).contains(number)) {
            Some(number) => Ok(Some(number)),
            None => {
                let expected = format!("a whole number from {least} to {most}");
                Err(wrong(name, &expected, &value))
            }
        }
    }

    /// Checks a number that is passed on as it is.
    ///
    /// # Errors
    /// Another type, or out of range.
    pub(crate) fn check_number(&self, name: &str, least: f64, most: f64) -> Result<()> {
        let Some(value) = self.0.get(name) else {
            return Ok(());
        };
        match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => Ok(()),
            Some(_) | None => {
                let expected = format!("a number from {least} to {most}");
                Err(wrong(name, &expected, value))
            }
        }
    }

    /// Checks the type of a field that is passed on as it is.
    ///
    /// # Errors
    /// Another type.
    pub(crate) fn check(
        &self,
        name: &str,
        expected: &str,
        is_right: impl FnOnce(&Value) -> bool,
    ) -> Result<()> {
        match self.0.get(name) {
            Some(value) if !is_right(value) => Err(wrong(name, expected, value)),
            Some(_) | None => Ok(()),
        }
    }

    /// All that is left, keys sorted: equal requests are equal texts.
    ///
    /// # Errors
    /// Never in practice: what was read as JSON can be written as JSON.
    pub(crate) fn into_body(mut self) -> Result<Box<RawValue>> {
        self.0.values_mut().for_each(Value::sort_all_objects);
        self.0.sort_keys();
        serde_json::value::to_raw_value(&self.0).map_err(|_| {
            Error::new(
                ErrorCode::Internal,
                "the request could not be written as JSON",
            )
        })
    }
}

/// The failure for a field that nobody knows; names the nearest one that is known.
fn unknown(noun: &str, name: &str, known: &[&str]) -> Error {
    let name: String = name.chars().take(LONGEST_NAME).collect();
    let nearest = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| {
            *distance < name.len() && *distance <= candidate.len().div_ceil(3)
        });
    let hint = match nearest {
        Some((_, candidate)) => format!("did you mean `{candidate}`?"),
        None => "GET /openapi.json lists the fields".to_owned(),
    };
    let message = format!("a {noun} has no field `{name}`; {hint}");
    Error::invalid(name, message)
}

/// The failure for a field of a wrong type; shows small values, never texts.
pub(crate) fn wrong(name: &str, expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Bool(_) | Value::Number(_) => found.to_string(),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            kind(found).to_owned()
        }
    };
    Error::invalid(name, format!("`{name}` must be {expected}, not {found}"))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be whole and within 2^53"
)]
fn whole_float(value: &Value) -> Option<u64> {
    let number = value.as_f64()?;
    let fits = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
    fits.then_some(number as u64)
}

/// Takes a body in; a large one waits for its turn, which it keeps.
async fn read<'a>(
    gateway: &'a Gateway,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<(Bytes, Option<SemaphorePermit<'a>>)> {
    let limit = gateway.config.body_limit;
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let capacity = announced.unwrap_or_default().min(LARGE);
    let mut whole = BytesMut::with_capacity(capacity);
    let (mut length, mut turn) = (0, None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Error::new(
                ErrorCode::InvalidParams,
                "the body broke off; send it whole",
            )
        })?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        length += data.len();
        if length > LARGE && turn.is_none() {
            turn = gateway.large.acquire().await.ok();
        }
        if length <= limit {
            whole.extend_from_slice(data);
        } else if length > limit.saturating_mul(DRAINED) {
            break;
        }
    }
    if length > limit {
        return Err(Error::new(
            ErrorCode::PayloadTooLarge,
            format!(
                "the body is larger than {limit} bytes; send less, or raise gateway.body_limit"
            ),
        ));
    }
    Ok((whole.freeze(), turn))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::parse(text.as_bytes()).unwrap()
    }

    fn message(error: Error) -> String {
        error.0.message
    }

    #[test]
    fn a_body_that_is_no_object_is_refused_without_quoting_it() {
        for text in ["", "secret", "{\"a\":", "[1]", "\"secret\""] {
            let error = Fields::parse(text.as_bytes()).err().unwrap();
            assert!(!message(error).contains("secret"));
        }
    }

    #[test]
    fn equal_requests_are_equal_texts() {
        let one = fields(r#"{"b": {"y": 1, "x": 2}, "a": null, "c": [ 1.50 ]}"#);
        let other = fields(r#"{"c":[1.5],"b":{"x":2,"y":1}}"#);
        let body = one.into_body().unwrap();
        assert_eq!(body.get(), r#"{"b":{"x":2,"y":1},"c":[1.5]}"#);
        assert_eq!(body.get(), other.into_body().unwrap().get());
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        assert_eq!(
            fields(r#"{"n":55.0}"#).whole("n", 1, 100).unwrap(),
            Some(55)
        );
        for bad in ["55.5", "-1", "0", "101", "\"5\"", "true"] {
            let mut bad = fields(&format!("{{\"n\":{bad}}}"));
            assert!(bad.whole("n", 1, 100).is_err());
        }
    }

    #[test]
    fn a_wrong_type_names_the_field() {
        let error = fields(r#"{"model":["x"]}"#).text("model").unwrap_err();
        assert_eq!(error.0.param.as_deref(), Some("model"));
        assert_eq!(message(error), "`model` must be a text, not a list");
    }
}
