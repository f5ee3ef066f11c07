//! The OpenAI route: one request, one stream, no second try.

use serde_json::{Value, json};

use super::verdict::{Failure, Listener};
use super::{Order, Verdict, class};
use crate::HttpClient;
use crate::http::EventStream;

/// Asks for a streamed chat and reads it to the end. Nothing is tried again:
/// what the gateway does not hide is a failure.
pub async fn chat(client: &HttpClient, order: &Order) -> Verdict {
    let mut listener = Listener::new(order);
    let heard = listen(client, order, &mut listener).await;
    listener.verdict(heard)
}

async fn listen(
    client: &HttpClient,
    order: &Order,
    listener: &mut Listener<'_>,
) -> Result<(), Failure> {
    let body = json!({
        "model": order.model, "messages": order.messages(), "max_tokens": order.ask.tokens,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let client = client.clone().patience(order.deadline);
    let opened = client.post_events("/v1/chat/completions", &body).await;
    let mut stream = opened.map_err(|error| Failure::new(class(&error, false), &error))?;
    let job = stream.headers.get("x-orchion-job");
    listener.job = job.and_then(|job| Some(job.to_str().ok()?.to_owned()));
    let mut end = End::default();
    while let Some(data) = next(&mut stream, listener).await? {
        if end.is_done {
            return Err(Failure::new("stream:after_done", data));
        }
        match data.as_str() {
            "[DONE]" => end.is_done = true,
            _ => chunk(&data, listener, &mut end)?,
        }
    }
    if !end.is_done {
        return Err(Failure::new("stream:truncated", "no [DONE]"));
    }
    listener.end()?;
    listener.check_usage(end.usage)?;
    match end.finishes {
        1 => Ok(()),
        0 => Err(Failure::new("content:no_finish_reason", "")),
        more => Err(Failure::new("content:many_finish_reasons", more)),
    }
}

/// How the answer ended, as far as it has.
#[derive(Default)]
struct End {
    finishes: u32,
    usage: Option<u64>,
    is_done: bool,
}

async fn next(
    stream: &mut EventStream,
    listener: &Listener<'_>,
) -> Result<Option<String>, Failure> {
    let left = listener.time_left();
    match tokio::time::timeout(left, stream.next()).await {
        Ok(Ok(event)) => Ok(event.map(|event| event.data)),
        Ok(Err(error)) => Err(Failure::new(class(&error, listener.has_begun()), &error)),
        Err(_) => Err(Failure::new("timeout:mid_answer", "")),
    }
}

fn chunk(data: &str, listener: &mut Listener<'_>, end: &mut End) -> Result<(), Failure> {
    let chunk: Value = serde_json::from_str(data)
        .map_err(|error| Failure::new("json", format!("{error}: {data}")))?;
    if let Some(error) = chunk.get("error") {
        return Err(Failure::new("stream:error_event", error));
    }
    let usage = chunk.pointer("/usage/completion_tokens");
    end.usage = usage.and_then(Value::as_u64).or(end.usage);
    let Some(choice) = chunk.pointer("/choices/0") else {
        return Ok(());
    };
    if choice
        .get("finish_reason")
        .is_some_and(|reason| !reason.is_null())
    {
        end.finishes += 1;
    }
    let text = choice.pointer("/delta/content").and_then(Value::as_str);
    listener.hear(text.unwrap_or(""))
}
