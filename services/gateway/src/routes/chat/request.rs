//! What a chat request must look like, and the job it becomes.

use orchion_contract::ModelName;
use orchion_contract::job::{DEFAULT_DEADLINE_MS, JobSpec, Priority, Timeouts, Workload};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::fields::{Fields, wrong};

const ROLES: [&str; 6] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
];

/// Longest name of a model, in bytes.
const LONGEST_MODEL: usize = 256;

/// A chat request, checked.
pub(crate) struct ChatRequest {
    pub(crate) spec: JobSpec,
    /// Whether the answer comes piece by piece.
    pub(crate) streams: bool,
    /// Whether a stream ends with the counts of tokens.
    pub(crate) includes_usage: bool,
}

impl ChatRequest {
    /// Checks every field that the gateway or an engine relies on.
    ///
    /// # Errors
    /// The first field that is not as it must be.
    pub(crate) fn parse(mut fields: Fields) -> Result<Self> {
        let streams = fields.switch("stream")?.unwrap_or(false);
        let includes_usage = usage_wanted(fields.take("stream_options"))?;
        let model = model(&mut fields, "model")?;
        let max_tokens = max_tokens(&mut fields)?;
        let seed = fields.whole("seed", 0, i64::MAX.unsigned_abs())?;
        check_messages(&fields)?;
        check_sampling(&fields)?;
        let spec = JobSpec {
            workload: Workload::Chat,
            model,
            body: fields.into_body()?,
            body_ref: None,
            max_tokens,
            seed,
            priority: Priority::Interactive,
            seed_drawn: false,
            deadline_ms: DEFAULT_DEADLINE_MS,
            whole: !streams,
            timeouts: Timeouts::default(),
            expected_tokens: None,
            placement: None,
        };
        Ok(Self {
            spec,
            streams,
            includes_usage,
        })
    }
}

/// The model, which must be there.
///
/// # Errors
/// Absent, empty or no text.
pub(crate) fn model(fields: &mut Fields, name: &str) -> Result<ModelName> {
    match fields.text(name)? {
        Some(model) if model.len() > LONGEST_MODEL => Err(Error::invalid(
            name,
            format!(
                "`{name}` is longer than {LONGEST_MODEL} bytes; GET /v1/models lists the models"
            ),
        )),
        Some(model) => Ok(ModelName::from(model)),
        None => Err(Error::invalid(
            name,
            format!("`{name}` is missing; GET /v1/models lists the models"),
        )),
    }
}

/// Both names of the limit; the newer one wins.
///
/// # Errors
/// Not a positive whole number.
pub(crate) fn max_tokens(fields: &mut Fields) -> Result<Option<u32>> {
    let most = u64::from(u32::MAX);
    let old = fields.whole("max_tokens", 1, most)?;
    let new = fields.whole("max_completion_tokens", 1, most)?;
    Ok(new.or(old).and_then(|limit| u32::try_from(limit).ok()))
}

/// The list of messages, which must be there.
///
/// # Errors
/// The first place that is not as it must be.
pub(crate) fn check_messages(fields: &Fields) -> Result<()> {
    let messages = match fields.get("messages") {
        None => {
            return Err(Error::invalid(
                "messages",
                "`messages` is missing; send a list of messages with role and content",
            ));
        }
        Some(Value::Array(messages)) => messages,
        Some(other) => return Err(wrong("messages", "a list", other)),
    };
    if messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "`messages` is empty; send at least one message with role and content",
        ));
    }
    for (n, message) in messages.iter().enumerate() {
        check_message(&format!("messages[{n}]"), message)?;
    }
    Ok(())
}

fn check_message(at: &str, message: &Value) -> Result<()> {
    let Value::Object(message) = message else {
        return Err(wrong(at, "an object with role and content", message));
    };
    let place = format!("{at}.role");
    match message.get("role") {
        Some(Value::String(role)) if ROLES.contains(&role.as_str()) => {}
        Some(Value::String(_)) => {
            return Err(Error::invalid(
                &place,
                format!("`{place}` must be one of {}", ROLES.join(", ")),
            ));
        }
        Some(other) => return Err(wrong(&place, "a text", other)),
        None => {
            return Err(Error::invalid(
                &place,
                format!("`{place}` is missing; use one of {}", ROLES.join(", ")),
            ));
        }
    }
    let place = format!("{at}.content");
    match message.get("content") {
        Some(Value::String(_)) => Ok(()),
        Some(Value::Array(parts)) => check_parts(&place, parts),
        None | Some(Value::Null) if message.get("role").is_some_and(|role| role == "assistant") => {
            Ok(())
        }
        None | Some(Value::Null) => Err(Error::invalid(
            &place,
            format!("`{place}` is missing; send a text or a list of parts"),
        )),
        Some(other) => Err(wrong(&place, "a text or a list of parts", other)),
    }
}

fn check_parts(at: &str, parts: &[Value]) -> Result<()> {
    for (n, part) in parts.iter().enumerate() {
        let kind = match part.get("type") {
            Some(Value::String(kind)) => kind,
            Some(other) => return Err(wrong(&format!("{at}[{n}].type"), "a text", other)),
            None => return Err(wrong(&format!("{at}[{n}]"), "an object with a type", part)),
        };
        if kind == "text" && !part.get("text").is_some_and(Value::is_string) {
            let place = format!("{at}[{n}].text");
            return Err(Error::invalid(&place, format!("`{place}` must be a text")));
        }
    }
    Ok(())
}

/// Settings of the sampler, passed on as they are.
///
/// # Errors
/// The first one of a wrong type or out of its range.
pub(crate) fn check_sampling(fields: &Fields) -> Result<()> {
    match fields.get("n") {
        None => {}
        Some(n) if n.as_f64() == Some(1.0) => {}
        Some(n) if n.is_number() => {
            return Err(Error::invalid(
                "n",
                "`n` must be 1: ask once for each answer you want",
            ));
        }
        Some(other) => return Err(wrong("n", "1", other)),
    }
    fields.check_number("temperature", 0.0, 100.0)?;
    fields.check_number("top_p", 0.0, 1.0)?;
    fields.check_number("min_p", 0.0, 1.0)?;
    fields.check_number("presence_penalty", -2.0, 2.0)?;
    fields.check_number("frequency_penalty", -2.0, 2.0)?;
    fields.check("stop", "a text or a list of texts", |stop| match stop {
        Value::String(_) => true,
        Value::Array(texts) => texts.iter().all(Value::is_string),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    })?;
    fields.check("tools", "a list of objects", |tools| {
        tools
            .as_array()
            .is_some_and(|tools| tools.iter().all(Value::is_object))
    })?;
    fields.check("tool_choice", "a text or an object", |choice| {
        choice.is_string() || choice.is_object()
    })?;
    fields.check("response_format", "an object", Value::is_object)?;
    fields.check("logprobs", "true or false", |on| {
        on.is_boolean() || on.is_u64()
    })?;
    fields.check("top_logprobs", "a whole number", Value::is_u64)
}

fn usage_wanted(options: Option<Value>) -> Result<bool> {
    match options {
        None => Ok(false),
        Some(Value::Object(options)) => match options.get("include_usage") {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(wanted)) => Ok(*wanted),
            Some(other) => Err(wrong(
                "stream_options.include_usage",
                "true or false",
                other,
            )),
        },
        Some(other) => Err(wrong("stream_options", "an object", &other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(value: Value) -> Result<ChatRequest> {
        ChatRequest::parse(Fields::parse(value.to_string().as_bytes())?)
    }

    fn refused(field: &str, value: Value) -> (String, String) {
        let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        request[field] = value;
        let error = *parse(request).err().unwrap().0;
        (error.param.unwrap_or_default(), error.message)
    }

    #[test]
    fn what_stands_beside_the_body_is_not_in_it() {
        let request = parse(json!({
            "model": "m", "stream": true, "stream_options": {"include_usage": true}, "seed": 7,
            "max_tokens": 5, "max_completion_tokens": 6, "temperature": 0,
            "messages": [{"role": "developer", "content": [{"type": "text", "text": "hi"}]}],
        }))
        .unwrap();
        let expected = r#"{"messages":[{"content":[{"text":"hi","type":"text"}],"role":"developer"}],"temperature":0}"#;
        assert_eq!(request.spec.body.get(), expected);
        assert_eq!(
            (request.spec.max_tokens, request.spec.seed),
            (Some(6), Some(7))
        );
        assert!(request.streams && request.includes_usage);
    }

    #[test]
    fn each_bad_field_is_named() {
        let cases = [
            ("model", json!("")),
            ("model", json!(5)),
            ("model", json!("m".repeat(257))),
            ("model", Value::Null),
            ("messages", json!([])),
            ("messages", json!("hi")),
            ("messages", Value::Null),
            ("n", json!(2)),
            ("stream", json!("yes")),
            ("max_tokens", json!(0)),
            ("seed", json!("x")),
            ("temperature", json!("hot")),
            ("top_p", json!(2)),
            ("stop", json!([1])),
            ("tools", json!({})),
            ("stream_options", json!(true)),
        ];
        for (field, value) in cases {
            assert_eq!(refused(field, value.clone()).0, field, "{value}");
        }
    }

    #[test]
    fn a_bad_message_is_named_with_its_place() {
        let place = |message: Value| refused("messages", json!([message])).0;
        assert_eq!(place(json!("hi")), "messages[0]");
        assert_eq!(place(json!({"content": "x"})), "messages[0].role");
        assert_eq!(
            place(json!({"role": "robot", "content": "x"})),
            "messages[0].role"
        );
        assert_eq!(place(json!({"role": "user"})), "messages[0].content");
        assert_eq!(
            place(json!({"role": "user", "content": [{"text": "x"}]})),
            "messages[0].content[0]"
        );
        assert_eq!(
            place(json!({"role": "user", "content": [{"type": "text"}]})),
            "messages[0].content[0].text"
        );
    }

    #[test]
    fn an_assistant_that_only_called_tools_has_no_content() {
        let assistant = json!({"role": "assistant", "tool_calls": []});
        assert!(parse(json!({"model": "m", "messages": [assistant]})).is_ok());
    }
}
