//! Answers a request: checks it against the model, generates, and writes the answer out
//! whole or piece by piece.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::mpsc;

use super::Service;
use super::error::Error;
use super::info::check_name;
use super::request::{self, Input, Prefix, Request};
use super::shape::{Kind, Shape, Tokens, Usage};
use crate::engine::Engine;
use crate::generate::{self, Job, Outcome, Sink};
use crate::model;
use crate::slots::Slot;
use crate::template;
use crate::text::Piece;

/// Pieces that may wait for a slow reader before generation waits for it.
const WAITING_PIECES: usize = 64;

pub(super) async fn chat(
    State(service): State<Arc<Service>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    let request = request::chat(&whole_body(body)?)?;
    answer(&service, Kind::Chat, request).await
}

pub(super) async fn completions(
    State(service): State<Arc<Service>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Error> {
    let request = request::completion(&whole_body(body)?)?;
    answer(&service, Kind::Completion, request).await
}

fn whole_body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Error> {
    body.map_err(|rejection| {
        Error::new(
            rejection.status(),
            "invalid_request_error",
            rejection.body_text(),
        )
        .code("unreadable_body")
    })
}

async fn answer(service: &Service, kind: Kind, request: Request) -> Result<Response, Error> {
    let engine = service.engine()?;
    if let Some(model) = &request.model {
        check_name(service, model)?;
    }
    // Taken before the prompt is looked at: a request beyond the slots costs nothing.
    let slot = service
        .slots
        .take()
        .ok_or_else(|| Error::busy(service.slots.total()))?;
    let (stream, include_usage) = (request.stream, request.include_usage);
    let job = job(engine, request)?;
    let created = std::time::UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_secs());
    let shape = Shape {
        kind,
        id: request::random(),
        created,
        model: service.model.clone(),
    };
    let seed = job.sampling.seed;
    let running = Running {
        prompt: job.prompt.len(),
        already: job.prefix.len(),
        so_far: job.prefix.len(),
        events: start(Arc::clone(engine), job, slot),
        shape,
    };
    if stream {
        return Ok(running.stream(seed, include_usage));
    }
    running
        .whole()
        .await
        .map(|answer| Json(answer).into_response())
}

/// Checks the request against the model.
fn job(engine: &Engine, request: Request) -> Result<Job, Error> {
    let prompt = match request.input {
        Input::Chat { messages, extras } => {
            let text = engine
                .template
                .render(&messages, &extras)
                .map_err(unrenderable)?;
            expressed(engine.tokenizer.encode(&text), "messages")?
        }
        Input::Text(text) => expressed(engine.tokenizer.encode(&text), "prompt")?,
        Input::Ids(ids) => known_ids(engine, ids, "prompt")?,
    };
    if prompt.is_empty() {
        return Err(Error::invalid(
            "prompt",
            "the prompt is empty: send at least one token",
        ));
    }
    if prompt.len() >= engine.context {
        return Err(Error::too_long(prompt.len(), engine.context));
    }
    Ok(Job {
        prompt,
        prefix: request
            .prefix
            .map_or(Ok(Vec::new()), |prefix| checked(engine, prefix))?,
        sampling: request.sampling,
        stops: request.stops,
        max_tokens: request.max_tokens.unwrap_or(usize::MAX),
        ignore_end: request.ignore_end,
    })
}

fn expressed(ids: Result<Vec<u32>, model::Error>, param: &str) -> Result<Vec<u32>, Error> {
    // The tokenizer's own message may quote the text.
    ids.map_err(|_| {
        Error::invalid(
            param,
            "the text cannot be expressed in the model's vocabulary",
        )
    })
}

fn known_ids(engine: &Engine, ids: Vec<u32>, param: &str) -> Result<Vec<u32>, Error> {
    if ids.iter().all(|&id| (id as usize) < engine.tokenizer.len()) {
        return Ok(ids);
    }
    Err(Error::invalid(
        param,
        "a token id is not in the model's vocabulary",
    ))
}

/// The ids of a prefix, once they are known to be the text that was shown.
fn checked(engine: &Engine, prefix: Prefix) -> Result<Vec<u32>, Error> {
    const NAME: &str = "orchion_continue";
    let (ids, text) = match prefix {
        Prefix::Ids(ids, text) => (known_ids(engine, ids, NAME)?, text),
        Prefix::Text(text) => return expressed(engine.tokenizer.encode_inside(&text), NAME),
    };
    if text.is_some_and(|text| text != engine.text_of(&ids)) {
        let message = "the ids are not the text in this model: continue by text, or start again";
        return Err(Error::invalid(NAME, message).code("continuation_mismatch"));
    }
    Ok(ids)
}

fn unrenderable(error: template::Error) -> Error {
    Error::invalid("messages", error.to_string())
}

/// What a generating thread reports.
enum Event {
    Piece(Piece),
    End(Result<Outcome, model::Error>),
}

/// The receiver's end is dropped when the client is gone; that is the whole of cancelling.
struct ToClient(mpsc::Sender<Event>);

impl Sink for ToClient {
    fn piece(&mut self, piece: Piece) -> ControlFlow<()> {
        match self.0.blocking_send(Event::Piece(piece)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// Generates on a thread of its own.
fn start(engine: Arc<Engine>, job: Job, slot: Slot) -> mpsc::Receiver<Event> {
    let (sender, events) = mpsc::channel(WAITING_PIECES);
    tokio::task::spawn_blocking(move || {
        let mut sink = ToClient(sender);
        let end = generate::generate(&engine, job, &mut sink);
        // Free before the client knows: its next request must find the slot.
        drop(slot);
        // Nobody listens any more when the answer was canceled.
        let _ = sink.0.blocking_send(Event::End(end));
    });
    events
}

/// An answer under way.
struct Running {
    shape: Shape,
    prompt: usize,
    /// Tokens of the prefix.
    already: usize,
    /// Tokens shown so far, the prefix included.
    so_far: usize,
    events: mpsc::Receiver<Event>,
}

impl Running {
    async fn whole(mut self) -> Result<Value, Error> {
        let (mut text, mut ids) = (String::new(), Vec::new());
        loop {
            match self.events.recv().await {
                Some(Event::Piece(piece)) => {
                    text.push_str(&piece.text);
                    ids.extend(piece.ids);
                }
                Some(Event::End(Ok(outcome))) => {
                    let usage = Usage {
                        prompt: self.prompt,
                        completion: outcome.tokens,
                    };
                    let rest = outcome.rest.unwrap_or_default();
                    text.push_str(&rest.text);
                    ids.extend(rest.ids);
                    let tokens = Tokens {
                        ids,
                        so_far: self.already + outcome.tokens,
                    };
                    return Ok(self.shape.whole(&text, &tokens, outcome.finish, usage));
                }
                Some(Event::End(Err(error))) => return Err(Error::internal(error.to_string())),
                None => return Err(Error::internal("the answer ended without a result")),
            }
        }
    }

    fn stream(self, seed: u64, include_usage: bool) -> Response {
        let opening = vec![event(&self.shape.opening(self.so_far, seed))];
        let state = (Some(self), opening.into_iter());
        let events = stream::unfold(state, move |(mut running, mut ready)| async move {
            loop {
                // One frame per event, so that each event is one write.
                if let Some(event) = ready.next() {
                    return Some((Ok::<_, Infallible>(event), (running, ready)));
                }
                let mut now = running.take()?;
                let events = match now.events.recv().await {
                    Some(Event::Piece(piece)) => {
                        let events = vec![now.piece(piece)];
                        running = Some(now);
                        events
                    }
                    end => now.end(end, include_usage),
                };
                ready = events.into_iter();
            }
        });
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-cache"),
        ];
        (headers, Body::from_stream(events)).into_response()
    }

    fn piece(&mut self, piece: Piece) -> Bytes {
        self.so_far += piece.ids.len();
        let tokens = Tokens {
            ids: piece.ids,
            so_far: self.so_far,
        };
        event(&self.shape.piece(&piece.text, &tokens))
    }

    /// The last events. Only an answer that is whole ends with `[DONE]`.
    fn end(&self, end: Option<Event>, include_usage: bool) -> Vec<Bytes> {
        let outcome = match end {
            Some(Event::End(Ok(outcome))) => outcome,
            Some(Event::End(Err(error))) => {
                return vec![event(&Error::internal(error.to_string()).body())];
            }
            Some(Event::Piece(_)) | None => {
                return vec![event(
                    &Error::internal("the answer ended without a result").body(),
                )];
            }
        };
        let usage = Usage {
            prompt: self.prompt,
            completion: outcome.tokens,
        };
        let text = outcome.rest.as_ref().map(|rest| rest.text.as_str());
        let ids = outcome
            .rest
            .as_ref()
            .map_or_else(Vec::new, |rest| rest.ids.clone());
        let tokens = Tokens {
            ids,
            so_far: self.already + outcome.tokens,
        };
        let mut events = vec![event(&self.shape.ending(text, &tokens, outcome.finish))];
        if include_usage {
            events.push(event(&self.shape.usage(usage)));
        }
        events.push(Bytes::from_static(b"data: [DONE]\n\n"));
        events
    }
}

fn event(body: &Value) -> Bytes {
    format!("data: {body}\n\n").into()
}
