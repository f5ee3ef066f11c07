//! `POST /v1/chat/completions`: a chat is a job that its caller waits for.

pub(crate) mod chunks;
pub(crate) mod request;
pub(crate) mod tools;
pub(crate) mod whole;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use orchion_contract::job::{JobState, Outcome};
use orchion_contract::transcript::Final;
use orchion_contract::{ErrorBody, ErrorCode, JobId, ModelName};
use orchion_transcript::Shown;

use crate::correlation::Correlation;
use crate::error::{Error, OpenAiError, Result};
use crate::fields::Fields;
use crate::idempotency::Named;
use crate::query::Params;
use crate::running::{Running, Wishes};
use crate::sse::{self, Silence};
use crate::state::Gateway;
use crate::{place, progress};
use chunks::Chunks;
use request::ChatRequest;
use whole::Whole;

/// Chat with a model
///
/// Takes what OpenAI's route takes. The header `x-orchion-job` of the answer
/// names the task under which the answer can be resumed.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "chat",
    params(
        ("cancel_on_disconnect" = Option<bool>, Query, description = "Whether the job ends when its caller hangs up; true unless there is an `Idempotency-Key`"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names the job: asking again with the same key is asking once"),
    ),
    request_body(content = serde_json::Value, description = "As OpenAI's `CreateChatCompletionRequest`"),
    responses(
        (status = 200, description = "The answer; with `stream` piece by piece, then `data: [DONE]`", content(
            (serde_json::Value = "application/json"), (String = "text/event-stream"))),
        (status = 400, description = "A field is not as it must be", body = OpenAiError),
        (status = 404, description = "No node serves this model", body = OpenAiError),
        (status = 409, description = "The `Idempotency-Key` was sent with another body", body = OpenAiError),
        (status = 413, description = "The body is too large", body = OpenAiError),
        (status = 429, description = "The queue is full", body = OpenAiError),
        (status = 502, description = "The engine went away and nobody could go on", body = OpenAiError),
        (status = 503, description = "Nobody can take it now", body = OpenAiError),
        (status = 504, description = "The engine fell silent or took too long", body = OpenAiError),
    ))]
pub(crate) async fn create(State(gateway): State<Arc<Gateway>>, request: Request) -> Result {
    let (mut parts, body) = request.into_parts();
    let cancels = Params::of(&mut parts)
        .await?
        .parse("cancel_on_disconnect", "true or false")?;
    let chat = Fields::read(&gateway, &parts.headers, body, ChatRequest::parse).await?;
    let model = chat.spec.model.clone();
    let wishes = Wishes {
        correlation_id: Correlation::of(&parts.extensions),
        named: Named::of(&parts.extensions),
        cancels,
    };
    let mut running = Running::submit(&gateway, chat.spec, wishes).await?;
    let job = running.follower.job();
    let admission = running.admission.take();
    let answer = if chat.streams {
        let waiting = match &admission {
            Some(at) if at.state == JobState::Pending => {
                progress::watch(&gateway.bus, &at.reader, at.job).await
            }
            Some(_) | None => None,
        };
        stream(&gateway, running, waiting, &model, chat.includes_usage).await
    } else {
        complete(&gateway, running, &model).await
    };
    let mut response = answer.map_err(|error| error.of(job))?;
    if let Ok(job) = HeaderValue::from_str(&job.to_string()) {
        response.headers_mut().insert("x-orchion-job", job);
    }
    place::decorate(response.headers_mut(), admission.as_ref());
    Ok(response)
}

/// Waits for the whole answer.
async fn complete(gateway: &Gateway, mut running: Running, model: &ModelName) -> Result {
    let job = running.follower.job();
    let patience = running.patience();
    let answer = tokio::select! {
        answer = tokio::time::timeout(patience, whole(&mut running, model)) => answer,
        () = gateway.closing.stopped() => {
            running.done();
            return Err(moved(job));
        }
    };
    answer.unwrap_or_else(|_| Err(overdue()))
}

async fn whole(running: &mut Running, model: &ModelName) -> Result {
    let job = running.follower.job();
    let mut whole = Whole::default();
    let mut shown = Vec::new();
    loop {
        running.follower.read(&mut shown).await?;
        for shown in shown.drain(..) {
            match shown {
                Shown::Piece { piece, .. } => whole.piece(job, &piece),
                Shown::Restarted { .. } => whole = Whole::default(),
                Shown::Ended(end) => {
                    running.done();
                    if let Some(failure) = failure(&end) {
                        return Err(failure.into());
                    }
                    let reason = end.finish_reason.as_deref();
                    let completion = whole.into_completion(job, model, now_s(), reason, &end.usage);
                    return Ok(Json(completion).into_response());
                }
            }
        }
    }
}

/// Waits for the first piece, so that a failure before it has a status of its
/// own, but no longer than a client would bear the silence.
async fn stream(
    gateway: &Arc<Gateway>,
    running: Running,
    waiting: Option<progress::Watch>,
    model: &ModelName,
    includes_usage: bool,
) -> Result<Response> {
    let chunks = Chunks::new(running.follower.job(), model, now_s());
    let mut stream = ChatStream {
        gateway: gateway.clone(),
        running,
        waiting,
        chunks,
        includes_usage,
        silence: Silence::new(gateway.config.keep_alive.get()),
        shown: Vec::new(),
        out: Vec::with_capacity(1024),
        has_shown: false,
        has_ended: false,
    };
    stream.advance().await?;
    let first = stream.written();
    let rest = (!stream.has_ended).then_some(stream);
    Ok(sse::answer(first, rest))
}

struct ChatStream {
    gateway: Arc<Gateway>,
    running: Running,
    /// Where it stands in the queue, while it waits there.
    waiting: Option<progress::Watch>,
    chunks: Chunks,
    includes_usage: bool,
    silence: Silence,
    shown: Vec<Shown>,
    out: Vec<u8>,
    /// Whether any of the answer has left for the caller.
    has_shown: bool,
    has_ended: bool,
}

impl sse::Source for ChatStream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        if let Err(error) = self.advance().await {
            self.has_ended = true;
            Chunks::failure(&mut self.out, &error.0);
        }
        Some(self.written())
    }
}

impl ChatStream {
    /// Waits until there is something to write, and puts it into `out`: after a
    /// long silence a comment.
    ///
    /// # Errors
    /// What ended the answer before its end.
    async fn advance(&mut self) -> Result<()> {
        let closing = self.gateway.closing.clone();
        while self.out.is_empty() {
            tokio::select! {
                biased;
                read = self.running.follower.read(&mut self.shown) => {
                    read?;
                    self.write()?;
                }
                told = progress::next(&mut self.waiting), if self.waiting.is_some() => {
                    if let Some(told) = told {
                        progress::comment(&mut self.out, &told);
                    }
                }
                is_silent = self.silence.look() => {
                    self.running.follower.look();
                    if self.running.patience().is_zero() {
                        return Err(overdue());
                    }
                    if is_silent {
                        self.out.extend_from_slice(sse::COMMENT);
                    }
                }
                () = closing.stopped() => {
                    self.running.done();
                    return Err(moved(self.running.follower.job()));
                }
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<()> {
        if !self.shown.is_empty() {
            self.waiting = None;
        }
        for shown in self.shown.drain(..) {
            match shown {
                Shown::Piece { piece, .. } => self.chunks.piece(&mut self.out, &piece),
                Shown::Restarted { .. } if !self.has_shown => {
                    self.out.clear();
                    self.chunks.begin_again();
                }
                Shown::Restarted { .. } => {
                    // It is our stream that ends: the caller has not hung up.
                    self.running.done();
                    return Err(cannot_take_back(self.running.follower.job()));
                }
                Shown::Ended(end) => {
                    self.has_ended = true;
                    self.running.done();
                    match failure(&end) {
                        None => {
                            let usage = self.includes_usage.then_some(&end.usage);
                            let reason = end.finish_reason.as_deref();
                            self.chunks.end(&mut self.out, reason, usage);
                        }
                        // What stands before a failure is shown before it.
                        Some(failure) if self.has_shown => {
                            Chunks::failure(&mut self.out, &failure);
                        }
                        Some(failure) => {
                            self.out.clear();
                            return Err(failure.into());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn written(&mut self) -> Bytes {
        self.silence.broken();
        self.has_shown |= self.chunks.has_begun();
        Bytes::from(std::mem::replace(&mut self.out, Vec::with_capacity(512)))
    }
}

/// Why a job has no whole answer; `None` when it has one.
pub(crate) fn failure(end: &Final) -> Option<ErrorBody> {
    let otherwise = match end.outcome {
        Outcome::Completed => return None,
        Outcome::Failed => ErrorBody::new(ErrorCode::Internal, "the job failed; its log says why"),
        Outcome::Canceled => ErrorBody::new(
            ErrorCode::Conflict,
            "the job was canceled before its end; ask again if that was not wanted",
        ),
    };
    Some(end.error.clone().unwrap_or(otherwise))
}

/// The gateway stops, the job goes on.
fn moved(job: JobId) -> Error {
    Error::new(
        ErrorCode::WorkerReset,
        format!("this gateway is stopping; resume at /v1/tasks/{job}/stream of another one"),
    )
}

/// Nobody has ended the job when its time was over.
pub(crate) fn overdue() -> Error {
    Error::new(
        ErrorCode::DecodeTimeout,
        "no answer came within the job's deadline; see that a scheduler runs, then ask again",
    )
}

/// The job goes on: its new answer can be read as a task.
fn cannot_take_back(job: JobId) -> Error {
    Error::new(
        ErrorCode::WorkerReset,
        format!(
            "the engine went away and the answer starts over; read the new one at /v1/tasks/{job}/stream, or ask again"
        ),
    )
}

pub(crate) fn now_s() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
