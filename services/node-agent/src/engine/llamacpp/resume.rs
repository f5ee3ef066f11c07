//! Takes up a begun chat on llama-server.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::LARGEST_SEED;
use crate::engine::answer::{Answer, Form};
use crate::engine::body::{self, BodyWriter};
use crate::engine::openai::{self, path};
use crate::engine::{Ask, Error, Rest, http};
use orchion_contract::job::Workload;

/// Fields of a chat that mean nothing on `/completion`, or something else.
const NOT_RAW: [&str; 6] = [
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "chat_template_kwargs",
];

pub(super) async fn chat(
    client: &http::Client,
    ask: &Ask<'_>,
    rest: Rest<'_>,
) -> Result<Answer, Error> {
    let conversation = &ask.spec.body;
    let base = render(client, BodyWriter::bare().with_body(conversation)?).await?;
    let begun = body::with_beginning(BodyWriter::bare(), Workload::Chat, conversation, rest)?;
    let begun = render(client, begun).await;
    if begun.is_ok_and(|begun| goes_on(&base, &begun, rest)) {
        let mut writer = BodyWriter::new(ask, LARGEST_SEED);
        writer.raw("timings_per_token", "true");
        let (body, prefix_in_prompt) = openai::body(writer, ask)?;
        let begun = client.open(path(Workload::Chat)?, body).await?;
        return Answer::of(begun, Form::OpenAi, prefix_in_prompt).await;
    }
    let begun = client.open("/completion", raw(ask, rest, &base)?).await?;
    Answer::of(begun, Form::Raw, rest.prefix.tokens).await
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
    let is_given = |name: &str| fields.get(name).is_some_and(|value| !is_nothing(value));
    if is_given("tools") || is_given("response_format") {
        return cannot("does not take up an answer with tools or a format");
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
    for (name, value) in &fields {
        if !NOT_RAW.contains(&name.as_ref()) {
            writer.raw(name, value.get());
        }
    }
    Ok(writer.end())
}

fn is_nothing(value: &RawValue) -> bool {
    matches!(value.get(), "null" | "[]" | r#"{"type":"text"}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use orchion_node_agent_core::Behind;
    use orchion_transcript::Prefix;

    fn checked(base: &str, begun: &str, reasoning: &str, text: &str) -> bool {
        let mut prefix = Prefix::new();
        prefix.text = text.to_owned();
        prefix.reasoning = reasoning.to_owned();
        let rest = Rest {
            prefix: &prefix,
            behind: Behind::Text,
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
