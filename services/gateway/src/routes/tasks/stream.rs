//! A task as events. The `id` of an event is the index of the next piece, so
//! it means the same at every gateway and after every failover.

use std::sync::Arc;
use std::time::Instant;

use axum::response::Response;
use bytes::Bytes;
use orchion_contract::job::{JobSummary, Outcome};
use orchion_contract::progress::Progress;
use orchion_contract::transcript::{Final, Piece};
use orchion_contract::{ErrorBody, ErrorCode, ReaderId};
use orchion_transcript::Shown;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::metrics::Metrics;
use crate::error::{Error, Result, own};
use crate::progress;
use crate::routes::chat::chunks::counted;
use crate::routes::chat::{failure, overdue};
use crate::running::Running;
use crate::sse::{self, Silence};
use crate::state::Gateway;

/// One task on its way to one caller.
pub(super) struct TaskStream {
    gateway: Arc<Gateway>,
    running: Running,
    silence: Silence,
    shown: Vec<Shown>,
    out: Vec<u8>,
    metrics: Metrics,
    /// Where it stands, as long as that is told.
    progress: Option<progress::Watch>,
    has_ended: bool,
}

#[derive(Serialize)]
struct Token<'a> {
    t: &'a str,
    i: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawValue>,
}

impl TaskStream {
    pub(super) fn new(gateway: &Arc<Gateway>, running: Running) -> Self {
        Self {
            gateway: gateway.clone(),
            running,
            silence: Silence::new(gateway.config.keep_alive.get()),
            shown: Vec::new(),
            out: Vec::with_capacity(1024),
            metrics: Metrics::new(None, Instant::now()),
            progress: None,
            has_ended: false,
        }
    }

    /// With what is told of an open task beside its answer. `known`: what the
    /// scheduler says of it now.
    pub(super) async fn watching(mut self, reader: &ReaderId, known: Option<Progress>) -> Self {
        let job = self.running.follower.job();
        self.progress = progress::watch(&self.gateway.bus, reader, job).await;
        self.metrics = Metrics::new(known, Instant::now());
        self
    }

    /// Of a task that has ended: nothing more is told of it.
    pub(super) fn ended(mut self) -> Self {
        self.metrics = Metrics::of_ended(Instant::now());
        self
    }

    /// Answers with all events.
    pub(super) fn begin(mut self, summary: &JobSummary) -> Response {
        self.started(summary);
        self.answer()
    }

    /// Answers with the events behind the one with the id `from`.
    ///
    /// # Errors
    /// When no event of this task can have had that id.
    pub(super) async fn resume(mut self, from: u64) -> Result<Response> {
        // A piece is a token where the engine does not say otherwise.
        self.metrics.resumes_behind(from);
        self.check_place(from).await?;
        Ok(self.answer())
    }

    fn answer(mut self) -> Response {
        let first = match self.out.is_empty() {
            true => Bytes::from_static(sse::COMMENT),
            false => self.written(),
        };
        let rest = (!self.has_ended).then_some(self);
        sse::answer(first, rest)
    }

    fn started(&mut self, summary: &JobSummary) {
        let told = summary.progress.as_ref();
        let mut started = json!({
            "queue_position": summary.queue_position.unwrap_or_default(),
            "predicted_start_ms": told.and_then(|told| told.predicted_start_ms).unwrap_or_default(),
            "model": summary.model,
            "state": summary.state,
        });
        if let Some(reason) = told.and_then(|told| told.reason.as_ref()) {
            started["reason"] = json!(reason);
        }
        event(&mut self.out, "started", None, &started);
    }

    /// Reads what is stored, to know whether a place can exist.
    async fn check_place(&mut self, from: u64) -> Result<()> {
        let patience = self.gateway.config.patience.get();
        while self.running.follower.next_index() < from {
            if self.has_ended || self.running.follower.has_caught_up() {
                self.running.done();
                let last = self.running.follower.next_index();
                return Err(Error::invalid(
                    "Last-Event-ID",
                    format!(
                        "`Last-Event-ID` is {from}, but the last event of this task so far has the id {last}"
                    ),
                ));
            }
            let read = self.running.follower.read(&mut self.shown);
            let read = tokio::time::timeout(patience, read).await;
            read.map_err(|_| Error::away("store of answers"))??;
            self.write();
        }
        Ok(())
    }

    async fn advance(&mut self) -> Result<()> {
        let closing = self.gateway.closing.clone();
        while self.out.is_empty() {
            tokio::select! {
                biased;
                read = self.running.follower.read(&mut self.shown) => {
                    read?;
                    self.write();
                }
                told = progress::next(&mut self.progress), if self.progress.is_some() => {
                    if let Some(told) = told {
                        self.tell(told);
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
                    self.has_ended = true;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The scheduler says where the task stands.
    fn tell(&mut self, progress: Progress) {
        self.metrics.heard(progress);
        if let Some(frame) = self.metrics.due(Instant::now()) {
            event(&mut self.out, "metrics", None, &frame);
        }
    }

    fn write(&mut self) {
        let (now, is_live) = (Instant::now(), self.running.follower.has_caught_up());
        for shown in self.shown.drain(..) {
            match shown {
                Shown::Piece { index, piece } => {
                    token(&mut self.out, index, &piece);
                    self.metrics.shown(piece.tokens, is_live, now);
                    if let Some(frame) = self.metrics.due(now) {
                        event(&mut self.out, "metrics", None, &frame);
                    }
                }
                Shown::Restarted { index } => {
                    event(
                        &mut self.out,
                        "restart",
                        Some(index + 1),
                        &json!({ "i": index }),
                    );
                }
                Shown::Ended(end) => {
                    self.has_ended = true;
                    self.running.done();
                    finished(&mut self.out, &end);
                }
            }
        }
    }

    fn written(&mut self) -> Bytes {
        self.silence.broken();
        Bytes::from(std::mem::replace(&mut self.out, Vec::with_capacity(256)))
    }
}

impl sse::Source for TaskStream {
    async fn next(&mut self) -> Option<Bytes> {
        if self.has_ended {
            return None;
        }
        if let Err(Error(body)) = self.advance().await {
            self.has_ended = true;
            error(&mut self.out, &body);
        }
        (!self.out.is_empty()).then(|| self.written())
    }
}

fn token(out: &mut Vec<u8>, index: u64, piece: &Piece) {
    let token = Token {
        t: piece.text.as_deref().unwrap_or_default(),
        i: index,
        reasoning: piece.reasoning.as_deref(),
        tool_calls: piece.tool_calls.as_deref(),
        logprobs: piece.logprobs.as_deref(),
    };
    event(out, "token", Some(index + 1), &token);
}

fn finished(out: &mut Vec<u8>, end: &Final) {
    let is_canceled = end.outcome == Outcome::Canceled;
    if let Some(body) = failure(end).filter(|_| !is_canceled) {
        return error(out, &body);
    }
    let times = &end.times;
    let began = times.first_token_ms.or(times.started_ms);
    let decode_ms = times
        .ended_ms
        .zip(began)
        .map_or(0, |(end, began)| end.saturating_sub(began));
    let mut body = json!({
        "tokens_out": end.usage.completion_tokens,
        "decode_ms": decode_ms,
        "decode_time_ms": decode_ms,
        "finish_reason": end.finish_reason,
        "usage": counted(&end.usage),
    });
    if is_canceled {
        body["canceled"] = true.into();
    }
    if let Some(continued) = &end.continued {
        body["continued"] = json!(continued);
    }
    event(out, "end", None, &body);
}

fn error(out: &mut Vec<u8>, body: &ErrorBody) {
    event(out, "error", None, &own(body));
}

fn event<T: Serialize>(out: &mut Vec<u8>, name: &str, id: Option<u64>, data: &T) {
    use std::io::Write;
    // Writing to memory cannot fail, and these values can always be written.
    let _ = match id {
        Some(id) => write!(out, "id: {id}\nevent: {name}\ndata: "),
        None => write!(out, "event: {name}\ndata: "),
    };
    if serde_json::to_writer(&mut *out, data).is_err() {
        let failed = ErrorBody::new(ErrorCode::Internal, "the event could not be written");
        let _ = serde_json::to_writer(&mut *out, &failed);
    }
    out.extend_from_slice(b"\n\n");
}
