//! The request as an engine gets it: the caller's own fields, untouched, and
//! what the agent adds.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use orchion_contract::job::Workload;
use serde_json::value::RawValue;

use super::{Ask, Delivery, Error, Rest};

/// What is written behind the opening brace.
pub(super) struct BodyWriter {
    out: Vec<u8>,
}

impl BodyWriter {
    /// Begins with nothing.
    pub(super) fn bare() -> Self {
        Self { out: vec![b'{'] }
    }

    /// Begins with what every request has: model, stream, seed, limit. The seed
    /// is cut to what the engine takes.
    pub(super) fn new(ask: &Ask<'_>, largest_seed: u64) -> Self {
        let mut out = Vec::with_capacity(ask.spec.body.get().len() + 512);
        out.push(b'{');
        let mut writer = Self { out };
        writer.field("model", &ask.spec.model);
        if ask.delivery == Delivery::Stream {
            writer.raw("stream", "true");
            writer.raw("stream_options", r#"{"include_usage":true}"#);
        }
        if let Some(seed) = ask.seed() {
            writer.field("seed", &(seed % largest_seed));
        }
        if let Some(most) = ask.max_tokens() {
            writer.field("max_tokens", &most);
        }
        writer
    }

    /// Adds a field.
    pub(super) fn field(&mut self, name: &str, value: &impl serde::Serialize) {
        self.name(name);
        // Plain values and texts always serialize.
        let _ = serde_json::to_writer(&mut self.out, value);
    }

    /// Adds a field whose value is JSON already.
    pub(super) fn raw(&mut self, name: &str, json: &str) {
        self.name(name);
        self.out.extend_from_slice(json.as_bytes());
    }

    /// Adds all fields of the caller and ends.
    pub(super) fn with_body(mut self, body: &RawValue) -> Result<Bytes, Error> {
        let inner = body.get().trim();
        let inner = inner
            .strip_prefix('{')
            .and_then(|inner| inner.strip_suffix('}'))
            .ok_or_else(|| Error::Unfit("the request is not a JSON object".to_owned()))?
            .trim();
        if !inner.is_empty() {
            if self.out.len() > 1 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(inner.as_bytes());
        }
        Ok(self.end())
    }

    /// Ends.
    pub(super) fn end(mut self) -> Bytes {
        self.out.push(b'}');
        self.out.into()
    }

    fn name(&mut self, name: &str) {
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        let _ = serde_json::to_writer(&mut self.out, name);
        self.out.push(b':');
    }
}

/// The caller's fields, each as it was written.
pub(super) fn fields(body: &RawValue) -> Result<BTreeMap<Cow<'_, str>, &RawValue>, Error> {
    serde_json::from_str(body.get())
        .map_err(|_| Error::Unfit("the request is not a JSON object".to_owned()))
}

/// Adds the caller's fields with the beginning of the answer behind the
/// conversation or the prompt, and says that it is to be continued.
pub(super) fn with_beginning(
    mut writer: BodyWriter,
    workload: Workload,
    body: &RawValue,
    rest: Rest<'_>,
) -> Result<Bytes, Error> {
    let input = match workload {
        Workload::Chat => "messages",
        Workload::Completion => "prompt",
        Workload::Unknown => return Err(unknown_workload()),
    };
    for (name, value) in fields(body)? {
        match (name.as_ref(), workload) {
            (name, Workload::Chat) if name == input => {
                writer.raw(name, &messages_with(value.get(), rest)?);
            }
            (name, _) if name == input => {
                let prompt: String = serde_json::from_str(value.get()).map_err(|_| {
                    Error::CannotGoOn("only a prompt that is one text can be continued".to_owned())
                })?;
                writer.field(name, &(prompt + &rest.prefix.text));
            }
            (name, _) => writer.raw(name, value.get()),
        }
    }
    if workload == Workload::Chat {
        writer.raw("continue_final_message", "true");
        writer.raw("add_generation_prompt", "false");
    }
    Ok(writer.end())
}

pub(super) fn unknown_workload() -> Error {
    Error::Unfit("this agent does not know this kind of work; update it".to_owned())
}

/// The conversation with the beginning as its last message.
pub(super) fn messages_with(messages: &str, rest: Rest<'_>) -> Result<String, Error> {
    let open = messages.trim().strip_suffix(']');
    let open = open.ok_or_else(|| Error::Unfit("messages is not a list".to_owned()))?;
    let mut message = serde_json::json!({"role": "assistant", "content": rest.prefix.text});
    if !rest.prefix.reasoning.is_empty() {
        message["reasoning_content"] = rest.prefix.reasoning.clone().into();
    }
    let comma = if open.trim_end().ends_with('[') {
        ""
    } else {
        ","
    };
    Ok(format!("{open}{comma}{message}]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_contract::job::{JobSpec, Priority};
    use orchion_contract::transcript::{Entry, Frame, Piece};
    use orchion_node_agent_core::Way;
    use orchion_transcript::Prefix;
    use serde_json::{Value, json};

    fn spec(workload: Workload, body: &str) -> JobSpec {
        JobSpec {
            workload,
            model: "m\"x".into(),
            body: RawValue::from_string(body.to_owned()).unwrap(),
            body_ref: None,
            max_tokens: Some(9),
            seed: Some(4),
            priority: Priority::Interactive,
            seed_drawn: false,
            deadline_ms: 1,
            whole: false,
            timeouts: Default::default(),
            expected_tokens: None,
            placement: None,
        }
    }

    fn prefix() -> Prefix {
        let piece = Piece {
            text: Some("Once \"upon\"".to_owned()),
            tokens: 2,
            ..Piece::default()
        };
        let mut prefix = Prefix::new();
        let frame = Frame {
            attempt: 1,
            index: 0,
            pieces: vec![piece],
        };
        prefix.apply(1, Entry::Frame(frame)).unwrap();
        prefix
    }

    fn read(bytes: &Bytes) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    fn continued(spec: &JobSpec) -> Value {
        let prefix = prefix();
        let rest = Rest {
            prefix: &prefix,
            behind: Way::Text,
            max_tokens: Some(7),
            seed: Some(5),
        };
        let ask = Ask::rest(spec, rest);
        let writer = BodyWriter::new(&ask, u64::MAX);
        read(&with_beginning(writer, spec.workload, &spec.body, rest).unwrap())
    }

    #[test]
    fn the_callers_fields_are_kept() {
        let spec = spec(Workload::Chat, r#"{"messages":[],"top_p":0.5}"#);
        let ask = Ask::whole(&spec);
        let body = read(
            &BodyWriter::new(&ask, u64::MAX)
                .with_body(&spec.body)
                .unwrap(),
        );
        assert_eq!(
            body,
            json!({"model": "m\"x", "stream": true, "stream_options": {"include_usage": true},
                   "seed": 4, "max_tokens": 9, "messages": [], "top_p": 0.5})
        );
    }

    #[test]
    fn a_chat_goes_on_behind_its_last_message() {
        let spec = spec(
            Workload::Chat,
            r#"{"messages":[{"content":"hi","role":"user"}],"top_p":0.5}"#,
        );
        let body = continued(&spec);
        assert_eq!(
            body["messages"],
            json!([{"content": "hi", "role": "user"},
                   {"content": "Once \"upon\"", "role": "assistant"}])
        );
        assert_eq!(body["continue_final_message"], true);
        assert_eq!(body["add_generation_prompt"], false);
        assert_eq!((&body["max_tokens"], &body["seed"]), (&json!(7), &json!(5)));
    }

    #[test]
    fn a_completion_goes_on_behind_its_prompt() {
        let body = continued(&spec(Workload::Completion, r#"{"prompt":"A. "}"#));
        assert_eq!(body["prompt"], "A. Once \"upon\"");
        assert!(body.get("continue_final_message").is_none());
    }

    #[test]
    fn a_seed_is_cut_to_what_the_engine_takes() {
        let spec = JobSpec {
            seed: Some(u64::MAX),
            ..spec(Workload::Chat, "{}")
        };
        let ask = Ask::whole(&spec);
        let body = BodyWriter::new(&ask, u64::from(u32::MAX)).with_body(&spec.body);
        let seed = read(&body.unwrap())["seed"].as_u64().unwrap();
        assert!(seed < u64::from(u32::MAX), "{seed} stands for random");
    }

    #[test]
    fn an_empty_body_is_an_object_still() {
        let spec = spec(Workload::Chat, "{}");
        let ask = Ask::whole(&spec);
        assert!(
            BodyWriter::new(&ask, u64::MAX)
                .with_body(&spec.body)
                .is_ok()
        );
    }
}
