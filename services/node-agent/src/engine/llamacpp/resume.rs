//! Takes up a begun chat on llama-server.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::LARGEST_SEED;
use crate::engine::answer::{Answer, Form, Prompt};
use crate::engine::body::{self, BodyWriter};
use crate::engine::openai::{self, path};
use crate::engine::{Ask, Error, Rest, http};
use orchion_contract::job::{JobSpec, Workload};

/// Fields of a chat that mean nothing on `/completion`, or something else.
const NOT_RAW: [&str; 7] = [
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "json_schema",
    "chat_template_kwargs",
];

pub(super) async fn chat(
    client: &http::Client,
    ask: &Ask<'_>,
    rest: Rest<'_>,
) -> Result<Answer, Error> {
    let conversation = &ask.spec.body;
    let has_grammar = is_given(&body::fields(conversation)?, "grammar");
    let base = render(client, BodyWriter::bare().with_body(conversation)?).await?;
    // A caller's grammar would start at its root behind the beginning.
    if !has_grammar && is_kept_by_template(client, ask, rest, &base).await? {
        let mut writer = BodyWriter::new(ask, LARGEST_SEED);
        writer.raw("timings_per_token", "true");
        let (body, prompt) = openai::body(writer, ask)?;
        let prompt = tokens(client, &base).await.map_or(prompt, Prompt::Is);
        let begun = client.open(path(Workload::Chat)?, body).await?;
        return Answer::of(begun, Form::OpenAi, prompt).await;
    }
    let body = raw(ask, rest, &base)?;
    let prompt = Prompt::Without(rest.prefix.tokens);
    let prompt = tokens(client, &base).await.map_or(prompt, Prompt::Is);
    let begun = client.open("/completion", body).await?;
    Answer::of(begun, Form::Raw, prompt).await
}

/// How many tokens a rendered prompt has. The engine counts the beginning with
/// it, as it cuts it now: a grammar or a trimmed space makes that another number
/// than it was.
async fn tokens(client: &http::Client, prompt: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Tokens {
        tokens: Vec<serde::de::IgnoredAny>,
    }
    let mut writer = BodyWriter::bare();
    writer.field("content", &prompt);
    writer.raw("add_special", "true");
    writer.raw("parse_special", "true");
    let bytes = openai::post(client, "/tokenize", writer.end()).await.ok()?;
    let found: Tokens = serde_json::from_slice(&bytes).ok()?;
    u64::try_from(found.tokens.len()).ok()
}

/// Whether the template renders the conversation with the beginning as the one
/// without, and the beginning.
async fn is_kept_by_template(
    client: &http::Client,
    ask: &Ask<'_>,
    rest: Rest<'_>,
    base: &str,
) -> Result<bool, Error> {
    let begun = body::with_beginning(BodyWriter::bare(), Workload::Chat, &ask.spec.body, rest)?;
    let begun = render(client, begun).await;
    Ok(begun.is_ok_and(|begun| goes_on(base, &begun, rest)))
}

/// The prompt that the model's template makes of a conversation.
async fn render(client: &http::Client, body: Bytes) -> Result<String, Error> {
    #[derive(Deserialize)]
    struct Rendered {
        prompt: String,
    }
    let bytes = openai::post(client, "/apply-template", body).await?;
    let rendered: Rendered = serde_json::from_slice(&bytes)
        .map_err(|_| Error::Strange("/apply-template does not give a prompt".to_owned()))?;
    Ok(rendered.prompt)
}

/// Whether the prompt with the beginning is the one without, and the beginning:
/// templates like to trim, to close the turn, or to add an empty thought. White
/// space around a thought may differ, for no text can say it.
fn goes_on(base: &str, begun: &str, rest: Rest<'_>) -> bool {
    let Some(added) = begun.strip_prefix(base) else {
        return false;
    };
    let (thought, text) = (rest.prefix.reasoning.trim(), &rest.prefix.text);
    match (thought.is_empty(), text.is_empty()) {
        (true, _) => added == text,
        (false, true) => added.trim_end().ends_with(thought),
        (false, false) => added.contains(thought) && added.ends_with(text),
    }
}

/// The rendered prompt and the beginning as one text.
fn raw(ask: &Ask<'_>, rest: Rest<'_>, base: &str) -> Result<Bytes, Error> {
    let fields = body::fields(&ask.spec.body)?;
    let cannot = |why: &str| Err(Error::CannotGoOn(format!("the model's template {why}")));
    if !rest.prefix.reasoning.is_empty() {
        return cannot("does not take up a begun thought");
    }
    if is_given(&fields, "tools") {
        return cannot("does not take up an answer with tools");
    }
    if is_given(&fields, "logprobs") {
        return cannot("does not take up an answer with log-probabilities");
    }
    let mut writer = BodyWriter::bare();
    writer.raw("stream", "true");
    writer.raw("return_tokens", "true");
    writer.raw("timings_per_token", "true");
    writer.field("prompt", &format!("{base}{}", rest.prefix.text));
    if let Some(most) = rest.max_tokens {
        writer.field("n_predict", &most);
    }
    if let Some(seed) = rest.seed {
        writer.field("seed", &(seed % LARGEST_SEED));
    }
    if let Some(schema) = schema(&fields)? {
        writer.raw("json_schema", &schema);
    }
    feed_grammar(&mut writer, ask.spec, rest)?;
    for (name, value) in &fields {
        match name.as_ref() {
            name if NOT_RAW.contains(&name) => {}
            "stop" if value.get().starts_with('"') => {
                writer.raw(name, &format!("[{}]", value.get()));
            }
            name => writer.raw(name, value.get()),
        }
    }
    Ok(writer.end())
}

/// Lets a grammar begin behind the beginning instead of at its root. The engine
/// feeds to it what it takes for the prompt's own opening of the answer.
pub(super) fn feed_grammar(
    writer: &mut BodyWriter,
    spec: &JobSpec,
    rest: Rest<'_>,
) -> Result<(), Error> {
    let fields = body::fields(&spec.body)?;
    let is_caller_s = is_given(&fields, "grammar");
    let is_forced = is_caller_s || schema(&fields)?.is_some();
    let is_text = spec.workload == Workload::Completion || !rest.prefix.text.is_empty();
    if is_forced && is_text {
        writer.field("generation_prompt", &rest.prefix.text);
    }
    if is_caller_s {
        // The only kind of grammar that is fed with it and may be anything.
        writer.raw("grammar_type", r#""tool_calls""#);
    }
    Ok(())
}

/// The schema that the answer must follow, as `/completion` takes it.
fn schema(fields: &Fields<'_>) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Format<'a> {
        #[serde(borrow)]
        r#type: Cow<'a, str>,
        #[serde(borrow, default)]
        schema: Option<&'a RawValue>,
        #[serde(borrow, default)]
        json_schema: Option<Named<'a>>,
    }
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, default)]
        schema: Option<&'a RawValue>,
    }
    if let Some(schema) = fields.get("json_schema").filter(|raw| !is_nothing(raw)) {
        return Ok(Some(schema.get().to_owned()));
    }
    let Some(format) = fields.get("response_format").filter(|raw| !is_nothing(raw)) else {
        return Ok(None);
    };
    let format: Format<'_> = serde_json::from_str(format.get())
        .map_err(|_| Error::CannotGoOn("its format is not understood".to_owned()))?;
    let schema = match format.r#type.as_ref() {
        "text" => return Ok(None),
        "json_schema" => format.json_schema.and_then(|named| named.schema),
        _ => format.schema,
    };
    Ok(Some(schema.map_or("{}", RawValue::get).to_owned()))
}

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

fn is_given(fields: &Fields<'_>, name: &str) -> bool {
    fields.get(name).is_some_and(|value| !is_nothing(value))
}

fn is_nothing(value: &RawValue) -> bool {
    matches!(
        value.get(),
        "null" | "[]" | "false" | r#""""# | r#"{"type":"text"}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_node_agent_core::Way;
    use orchion_transcript::Prefix;

    fn checked(base: &str, begun: &str, reasoning: &str, text: &str) -> bool {
        let mut prefix = Prefix::new();
        prefix.text = text.to_owned();
        prefix.reasoning = reasoning.to_owned();
        let rest = Rest {
            prefix: &prefix,
            behind: Way::Text,
            max_tokens: None,
            seed: None,
        };
        goes_on(base, begun, rest)
    }

    #[test]
    fn a_template_must_leave_the_beginning_as_it_is() {
        assert!(checked("<u>hi<a>", "<u>hi<a>Once ", "", "Once "));
        assert!(!checked("<u>hi<a>", "<u>hi<a>Once", "", "Once "), "trimmed");
        assert!(
            !checked("<u>hi<a>", "<u>hi<a>Once <end>", "", "Once "),
            "closed"
        );
        assert!(
            !checked("<u>hi<a>", "<u>hi<a><think></think>Once ", "", "Once "),
            "thought"
        );
    }

    #[test]
    fn a_begun_thought_may_lose_white_space_only() {
        assert!(checked("<a>", "<a><think>\nhm", "hm", ""));
        assert!(checked("<a>", "<a><think>hm</think>\nOnce", "hm\n", "Once"));
        assert!(!checked("<a>", "<a><think></think>Once", "hm", "Once"));
    }
}
