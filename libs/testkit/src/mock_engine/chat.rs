//! A chat request: what it asks for, and the answer that is not streamed.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http_body_util::{BodyExt as _, Either};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::answer::{Reply, bad_request, internal, json, overloaded};
use super::routes::Broken;
use super::stats::{Ending, Guard};
use super::stream::TokenBody;
use super::{Engine, WhenFull};
use crate::clock::mono_us;
use crate::wire::{Ask, Continuation, Fault, FaultKind, push_token, resume_point};

/// What a prompt is said to cost.
pub(super) const PROMPT_TOKENS: u32 = 32;
/// How late a slow first token is, unless the fault says.
const LATE_MS: u64 = 5_000;

#[derive(Deserialize)]
struct ChatRequest<'a> {
    #[serde(borrow, default)]
    model: Cow<'a, str>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    continue_final_message: bool,
    #[serde(default)]
    add_generation_prompt: Option<bool>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// An answer to be given.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) ask: Ask,
    /// The first token to send; above zero when the request holds the beginning.
    pub(super) from: u32,
    /// The token before which to stop.
    pub(super) until: u32,
    /// Text that is sent before the first token: a repeated beginning.
    pub(super) echo: String,
    /// When the request arrived; none when tokens are not stamped.
    pub(super) arrived_us: Option<u64>,
    pub(super) fault: Option<Fault>,
    pub(super) has_usage: bool,
}

impl Order {
    /// Tokens that this answer has.
    pub(super) fn tokens(&self) -> u32 {
        self.until.saturating_sub(self.from)
    }

    pub(super) fn finish_reason(&self) -> &'static str {
        match self.until < self.ask.tokens {
            true => "length",
            false => "stop",
        }
    }

    pub(super) fn fault_kind(&self) -> Option<FaultKind> {
        self.fault.as_ref().map(|fault| fault.kind)
    }

    /// The token before which the answer goes wrong.
    pub(super) fn breaks_at(&self) -> Option<u32> {
        let fault = self.fault.as_ref()?;
        Some(fault.at.unwrap_or(self.from + self.tokens() / 2))
    }

    pub(super) fn usage(&self) -> Value {
        let (prompt, completion) = (PROMPT_TOKENS + self.from, self.tokens());
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion,
        })
    }

    pub(super) fn push_token(&self, out: &mut Vec<u8>, index: u32, engine: &str) {
        let now_us = self.arrived_us.map_or(0, |_| mono_us());
        let arrived_us = self.arrived_us.filter(|_| index == 0);
        push_token(out, self.ask.nonce, index, now_us, engine, arrived_us);
    }
}

pub(super) async fn chat(engine: Arc<Engine>, request: Request<Incoming>) -> Result<Reply, Broken> {
    let arrived_us = mono_us();
    let body = request.into_body().collect().await?.to_bytes();
    let parsed: ChatRequest<'_> = match serde_json::from_slice(&body) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(bad_request(&format!("body is not a chat request: {error}"))),
    };
    let order = match order(&engine, &parsed, &body, arrived_us) {
        Ok(order) => order,
        Err(refusal) => return Ok(*refusal),
    };
    if let Some(fault) = &order.fault {
        engine.counters.failed.fetch_add(1, Relaxed);
        if let Some(refusal) = refusal(fault.kind) {
            return refusal;
        }
    }
    let mut guard = Guard::new(Arc::clone(&engine));
    if let Some(slots) = &engine.slots {
        let slots = Arc::clone(slots);
        guard.permit = match (
            Arc::clone(&slots).try_acquire_owned(),
            engine.options.when_full,
        ) {
            (Ok(permit), _) => Some(permit),
            (Err(_), WhenFull::Queue) => Some(slots.acquire_owned().await?),
            (Err(_), WhenFull::Reject) => {
                guard.ending = Ending::Failed;
                return Ok(overloaded());
            }
        };
    }
    if parsed.stream.unwrap_or(false) {
        return Ok(stream(guard, order));
    }
    whole(guard, order).await
}

/// What a fault gives instead of an answer, if it is one of those.
fn refusal(kind: FaultKind) -> Option<Result<Reply, Broken>> {
    match kind {
        FaultKind::Error => Some(Ok(internal())),
        FaultKind::Overloaded => Some(Ok(overloaded())),
        FaultKind::Drop => Some(Err("mock drop".into())),
        FaultKind::Truncate
        | FaultKind::EndEarly
        | FaultKind::Hang
        | FaultKind::NoDone
        | FaultKind::ErrorEvent
        | FaultKind::Malformed
        | FaultKind::Slow
        | FaultKind::NoUsage => None,
    }
}

/// Understands a request, or says what is wrong with it.
fn order(
    engine: &Engine,
    parsed: &ChatRequest<'_>,
    body: &[u8],
    arrived_us: u64,
) -> Result<Order, Box<Reply>> {
    let serial = engine.counters.requests.fetch_add(1, Relaxed);
    let options = &engine.options;
    let limit = parsed.max_tokens.or(parsed.max_completion_tokens);
    let default = Ask {
        nonce: 0,
        tokens: options.tokens,
        ttft_us: options.ttft_us,
        itl_us: options.itl_us,
        flush: true,
        fault: None,
        continuation: None,
    };
    let marked = Ask::parse(body, &default);
    // Most requests are one marked user message: nothing more to read.
    let messages = match marked.is_none() || memmem::find(body, b"\"assistant\"").is_some() {
        true => Messages::read(parsed.messages),
        false => Messages::default(),
    };
    let is_marked = marked.is_some();
    let mut ask = marked.unwrap_or_else(|| Ask {
        nonce: messages.digest(),
        ..default
    });
    let (from, echo) = beginning(engine, parsed, &ask, &messages)?;
    if from > 0 {
        engine.counters.resumed.fetch_add(1, Relaxed);
    }
    let fault = engine.fault_of(ask.fault.as_ref(), ask.nonce, serial);
    if let Some(fault) = fault.as_ref().filter(|fault| fault.kind == FaultKind::Slow) {
        ask.ttft_us += fault.late_ms.unwrap_or(LATE_MS) * 1_000;
    }
    let asked_for = parsed
        .stream_options
        .as_ref()
        .and_then(|options| options.include_usage);
    Ok(Order {
        id: format!("chatcmpl-{}-{serial}", options.name),
        model: parsed.model.clone().into_owned(),
        from,
        until: limit.map_or(ask.tokens, |limit| {
            ask.tokens.min(from.saturating_add(limit))
        }),
        echo,
        arrived_us: is_marked.then_some(arrived_us),
        has_usage: (asked_for.unwrap_or(false) || !parsed.stream.unwrap_or(false))
            && fault
                .as_ref()
                .is_none_or(|fault| fault.kind != FaultKind::NoUsage),
        fault,
        ask,
    })
}

/// Where the answer starts, and what is repeated before.
fn beginning(
    engine: &Engine,
    parsed: &ChatRequest<'_>,
    ask: &Ask,
    messages: &Messages,
) -> Result<(u32, String), Box<Reply>> {
    let is_explicit = parsed.continue_final_message;
    if is_explicit && parsed.add_generation_prompt.unwrap_or(true) {
        let message = "continue_final_message needs add_generation_prompt to be false";
        return Err(Box::new(bad_request(message)));
    }
    let Some(prefix) = messages.prefix() else {
        if is_explicit {
            let message = "continue_final_message needs an assistant message at the end";
            return Err(Box::new(bad_request(message)));
        }
        return Ok((0, String::new()));
    };
    let from = resume_point(prefix.as_bytes(), ask.nonce);
    match ask.continuation.unwrap_or(engine.options.continuation) {
        Continuation::Refuse => Err(Box::new(bad_request(
            "cannot continue an assistant message",
        ))),
        Continuation::Ignore => Ok((0, String::new())),
        Continuation::Continue if is_explicit => Ok((from, String::new())),
        Continuation::Continue | Continuation::Repeat => Ok((from, prefix.to_owned())),
    }
}

/// The messages of a request, read only when they matter.
#[derive(Default)]
struct Messages(Vec<(String, String)>);

impl Messages {
    fn read(raw: Option<&RawValue>) -> Self {
        let values = raw.and_then(|raw| serde_json::from_str::<Vec<Value>>(raw.get()).ok());
        let message = |value: &Value| {
            let role = value.get("role").and_then(Value::as_str).unwrap_or("");
            (role.to_owned(), text_of(value.get("content")))
        };
        Self(values.iter().flatten().map(message).collect())
    }

    /// The beginning of the answer, when the request ends with one.
    fn prefix(&self) -> Option<&str> {
        let (role, content) = self.0.last()?;
        (role == "assistant" && !content.is_empty()).then_some(content)
    }

    /// Differs between prompts, and not between the parts of one answer (FNV-1a).
    fn digest(&self) -> u32 {
        let last = usize::from(self.prefix().is_some());
        let prompt = &self.0[..self.0.len() - last];
        let bytes = prompt
            .iter()
            .flat_map(|(role, content)| role.bytes().chain(content.bytes()));
        bytes.fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }
}

fn text_of(content: Option<&Value>) -> String {
    if let Some(text) = content.and_then(Value::as_str) {
        return text.to_owned();
    }
    let parts = content.and_then(Value::as_array).into_iter().flatten();
    parts
        .filter_map(|part| part.get("text")?.as_str())
        .collect()
}

fn stream(guard: Guard, order: Order) -> Reply {
    let mut reply = Response::new(Either::Right(TokenBody::new(guard, order)));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    reply
}

async fn whole(mut guard: Guard, order: Order) -> Result<Reply, Broken> {
    let pauses = u64::from(order.tokens().saturating_sub(1));
    let total_us = order.ask.ttft_us + order.ask.itl_us * pauses;
    if total_us > 0 {
        sleep(Duration::from_micros(total_us)).await;
    }
    match order.fault_kind() {
        Some(FaultKind::Hang) => std::future::pending::<()>().await,
        Some(FaultKind::Truncate | FaultKind::EndEarly | FaultKind::ErrorEvent) => {
            guard.ending = Ending::Failed;
            return Err("mock truncation".into());
        }
        Some(FaultKind::Malformed) => {
            guard.ending = Ending::Failed;
            return Ok(json(StatusCode::OK, "{\"choices\":[{\"message\":"));
        }
        _ => {}
    }
    let engine = &guard.engine;
    let mut content = order.echo.clone().into_bytes();
    content.reserve(32 * order.tokens() as usize);
    for index in order.from..order.until {
        order.push_token(&mut content, index, &engine.options.name);
    }
    engine
        .counters
        .tokens
        .fetch_add(u64::from(order.tokens()), Relaxed);
    let text = body_of(&order, &content)?;
    guard.ending = Ending::Completed;
    Ok(json(StatusCode::OK, text))
}

/// Written by hand: the bench pays for every microsecond here.
fn body_of(order: &Order, content: &[u8]) -> Result<Bytes, Broken> {
    let content = serde_json::to_string(std::str::from_utf8(content)?)?;
    let usage = match order.has_usage {
        true => format!(",\"usage\":{}", order.usage()),
        false => String::new(),
    };
    let Order { id, model, .. } = order;
    let finish = order.finish_reason();
    Ok(Bytes::from(format!(
        "{{\"id\":\"{id}\",\"object\":\"chat.completion\",\"created\":0,\"model\":\"{model}\",\
         \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":{content}}},\
         \"logprobs\":null,\"finish_reason\":\"{finish}\"}}]{usage}}}"
    )))
}
