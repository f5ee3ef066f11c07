//! Reads a request into what the engine needs, with an error for each thing wrong.
//!
//! Fields are read one by one instead of by a derived reader, because its messages
//! quote what they stumble over, and a prompt must not get into an error.

mod fields;

use serde_json::Value;

use super::error::Error;
use crate::sampler::Sampling;
use crate::template::Extras;
pub(super) use fields::random;
use fields::{Fields, token_ids, wrong};

/// A well-formed request, not yet checked against the model.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) model: Option<String>,
    pub(super) input: Input,
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
    pub(super) max_tokens: Option<usize>,
    pub(super) ignore_end: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    pub(super) prefix: Option<Prefix>,
}

/// What is to be answered.
#[derive(Debug)]
pub(super) enum Input {
    Chat {
        messages: Vec<Value>,
        extras: Extras,
    },
    Text(String),
    Ids(Vec<u32>),
}

/// The answer so far, to go on behind.
#[derive(Debug)]
pub(super) enum Prefix {
    /// The ids that came with the answer: continues exactly. The text, if given, must be theirs.
    Ids(Vec<u32>, Option<String>),
    /// Text alone, from an engine that tells no ids: cut into tokens anew.
    Text(String),
}

/// Reads a chat request.
pub(super) fn chat(body: &[u8]) -> Result<Request, Error> {
    let fields = Fields::parse(body)?;
    if let Some(choice) = fields.get("tool_choice")
        && choice != "auto"
        && choice != "none"
    {
        return Err(Error::unsupported("tool_choice", "a forced tool call"));
    }
    let messages = fields.get("messages").ok_or_else(|| {
        Error::invalid("messages", "`messages` is missing: send a list of messages")
    })?;
    let messages = messages
        .as_array()
        .ok_or_else(|| wrong("messages", "a list of messages"))?;
    if messages.is_empty() {
        return Err(Error::invalid(
            "messages",
            "`messages` is empty: send at least one message",
        ));
    }
    let messages = messages.iter().map(message).collect::<Result<_, _>>()?;
    let variables = fields
        .object("chat_template_kwargs")?
        .cloned()
        .unwrap_or_default();
    let tools = fields
        .get("tools")
        .filter(|tools| tools.as_array().is_some_and(|t| !t.is_empty()));
    let extras = Extras {
        tools: tools.cloned(),
        variables,
    };
    fields.request(Input::Chat { messages, extras })
}

/// Reads a completion request.
pub(super) fn completion(body: &[u8]) -> Result<Request, Error> {
    let fields = Fields::parse(body)?;
    if fields.truth("echo")? {
        return Err(Error::unsupported("echo", "echo"));
    }
    if fields.get("suffix").is_some() {
        return Err(Error::unsupported("suffix", "a suffix"));
    }
    let prompt = fields.get("prompt").ok_or_else(|| {
        Error::invalid(
            "prompt",
            "`prompt` is missing: send a text or a list of token ids",
        )
    })?;
    let input = match prompt {
        Value::String(text) => Input::Text(text.clone()),
        Value::Array(list) => match list.as_slice() {
            [Value::String(text)] => Input::Text(text.clone()),
            [Value::String(_), ..] => {
                return Err(Error::unsupported("prompt", "a list of prompts"));
            }
            ids => Input::Ids(token_ids("prompt", ids)?),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return Err(wrong("prompt", "a text or a list of token ids"));
        }
    };
    fields.request(input)
}

/// A message with its content as one text, as templates expect it.
fn message(message: &Value) -> Result<Value, Error> {
    let fields = message
        .as_object()
        .ok_or_else(|| wrong("messages", "a list of objects"))?;
    if !fields.get("role").is_some_and(Value::is_string) {
        return Err(Error::invalid("messages", "a message has no `role`"));
    }
    let content = match fields.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(part).collect::<Result<String, _>>()?,
        None | Some(Value::Null) if fields.contains_key("tool_calls") => String::new(),
        None | Some(_) => {
            return Err(Error::invalid(
                "messages",
                "the `content` of a message must be a text",
            ));
        }
    };
    let mut fields = fields.clone();
    fields.insert("content".into(), content.into());
    Ok(Value::Object(fields))
}

fn part(part: &Value) -> Result<&str, Error> {
    let text = part.get("text").and_then(Value::as_str);
    text.filter(|_| part.get("type").is_none_or(|kind| kind == "text"))
        .ok_or_else(|| Error::unsupported("messages", "content other than text"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_chat(fields: Value) -> Result<Request, Error> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        let Value::Object(fields) = fields else {
            panic!("fields")
        };
        body.as_object_mut().unwrap().extend(fields);
        chat(body.to_string().as_bytes())
    }

    fn refusal(fields: Value) -> (String, String) {
        let error = read_chat(fields).unwrap_err().body()["error"].take();
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        (text("code"), text("param"))
    }

    #[test]
    fn settings_are_read() {
        let request = read_chat(json!({
            "temperature": 0, "top_k": 5, "seed": -1, "stop": ["a", "b"], "max_tokens": 9,
            "max_completion_tokens": 7, "logit_bias": {"12": -3.5}, "stream": true,
            "stream_options": {"include_usage": true}, "user": null,
            "orchion_continue": {"ids": [1, 2], "text": "x"},
        }))
        .unwrap();
        assert_eq!(request.sampling.temperature, 0.0);
        assert_eq!(
            (request.sampling.top_k, request.sampling.seed),
            (5, u64::MAX)
        );
        assert_eq!(request.sampling.bias, [(12, -3.5)]);
        assert_eq!((request.max_tokens, request.stops.len()), (Some(7), 2));
        assert!(request.stream && request.include_usage && !request.ignore_end);
        let Some(Prefix::Ids(ids, text)) = request.prefix else {
            panic!("no ids")
        };
        assert_eq!((ids, text.as_deref()), (vec![1, 2], Some("x")));
    }

    #[test]
    fn content_in_parts_is_one_text() {
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let request = read_chat(json!({"messages": [{"role": "user", "content": parts}]})).unwrap();
        let Input::Chat { messages, .. } = request.input else {
            panic!("no chat")
        };
        assert_eq!(messages[0]["content"], "ab");
    }

    #[test]
    fn each_wrong_field_is_named() {
        for (fields, code, param) in [
            (json!({"messages": []}), "invalid_value", "messages"),
            (json!({"messages": null}), "invalid_value", "messages"),
            (json!({"messages": "hi"}), "invalid_value", "messages"),
            (
                json!({"messages": [{"content": "x"}]}),
                "invalid_value",
                "messages",
            ),
            (
                json!({"messages": [{"role": "user"}]}),
                "invalid_value",
                "messages",
            ),
            (
                json!({"temperature": "hot"}),
                "invalid_value",
                "temperature",
            ),
            (json!({"temperature": -1}), "invalid_value", "temperature"),
            (json!({"top_p": 1.5}), "invalid_value", "top_p"),
            (json!({"max_tokens": -1}), "invalid_value", "max_tokens"),
            (json!({"seed": 1.5}), "invalid_value", "seed"),
            (json!({"stop": 1}), "invalid_value", "stop"),
            (
                json!({"logit_bias": {"x": 1}}),
                "invalid_value",
                "logit_bias",
            ),
            (json!({"stream": "yes"}), "invalid_value", "stream"),
            (
                json!({"orchion_continue": {}}),
                "invalid_value",
                "orchion_continue",
            ),
            (
                json!({"orchion_continue": {"ids": ["x"]}}),
                "invalid_value",
                "orchion_continue",
            ),
            (json!({"n": 2}), "unsupported_value", "n"),
            (json!({"logprobs": true}), "unsupported_value", "logprobs"),
            (
                json!({"tool_choice": "required"}),
                "unsupported_value",
                "tool_choice",
            ),
            (
                json!({"response_format": {"type": "json_object"}}),
                "unsupported_value",
                "response_format",
            ),
        ] {
            assert_eq!(refusal(fields), (code.into(), param.into()));
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_request() {
        for body in [
            r#"{"messages": "my secret"}"#,
            r#"{"prompt": "my secret" "#,
            r#""my secret""#,
        ] {
            let error = chat(body.as_bytes()).unwrap_err();
            assert!(!error.body().to_string().contains("secret"));
        }
    }

    #[test]
    fn a_prompt_is_a_text_or_ids() {
        let read = |prompt: Value| completion(json!({ "prompt": prompt }).to_string().as_bytes());
        assert!(matches!(read(json!("a")).unwrap().input, Input::Text(text) if text == "a"));
        assert!(matches!(read(json!(["a"])).unwrap().input, Input::Text(text) if text == "a"));
        assert!(matches!(read(json!([1, 2])).unwrap().input, Input::Ids(ids) if ids == [1, 2]));
        assert!(read(json!(["a", "b"])).is_err());
        assert!(read(json!(7)).is_err());
    }
}
