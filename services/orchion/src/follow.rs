//! Follows the stream of a task to its end, over any number of gateways.
//!
//! The `id:` of an event is the next index, the same at every gateway, so a cut
//! stream is opened again with it as `Last-Event-ID`. Every index is checked
//! here as well: a piece that came twice is skipped, one that is missing is an
//! error and never passed over.

use std::collections::VecDeque;
use std::time::Duration;

use orchion_contract::job::JobState;
use orchion_contract::{ErrorBody, JobId};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::exit::{Failure, Kind, Result};
use crate::gateway::{Gateway, Patience};
use crate::http::Response;
use crate::sse::{Event, Parser};

/// A gateway sends a comment at least every 15 s; longer silence is a dead line.
const SILENCE: Duration = Duration::from_secs(40);

/// What happens to a task.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Happening {
    /// It is admitted.
    Started(Started),
    /// A piece of the answer.
    Token(Token),
    /// Figures, while it waits or runs.
    Metrics(Metrics),
    /// What was shown is void; the answer starts over.
    Restart,
    /// It has ended.
    End(End),
    /// It has failed.
    Error(ErrorBody),
    /// The stream was cut; it is being opened again.
    Reconnecting {
        /// Why it was cut.
        reason: String,
    },
    /// It could not be opened again yet; told once, until it is.
    Waiting {
        /// Why, and for how long it will be tried.
        reason: String,
    },
}

/// The payload of `started`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Started {
    pub(crate) queue_position: u32,
    pub(crate) predicted_start_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
}

/// The payload of `token`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Token {
    #[serde(default)]
    pub(crate) t: String,
    pub(crate) i: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reasoning: Option<String>,
}

/// The payload of `metrics`, as far as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metrics {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue_position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tokens_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

/// The payload of `end`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct End {
    pub(crate) tokens_out: u64,
    pub(crate) decode_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish_reason: Option<String>,
    pub(crate) canceled: bool,
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    pub(crate) usage: serde_json::Value,
}

/// A reader of one task's stream.
pub(crate) struct Follow<'a> {
    gateway: &'a Gateway,
    job: String,
    path: String,
    /// The index that comes next.
    next: u64,
    started: bool,
    ended: bool,
    known: bool,
    line: Option<Line>,
    waiting: VecDeque<Event>,
    patience: Patience,
    pause: Option<Duration>,
}

/// An open stream.
struct Line {
    response: Response,
    parser: Parser,
}

impl<'a> Follow<'a> {
    /// Follows `job` from its first piece on.
    pub(crate) fn new(gateway: &'a Gateway, job: JobId) -> Self {
        Self {
            gateway,
            job: format!("/api/jobs/{job}"),
            path: format!("/v1/tasks/{job}/stream"),
            next: 0,
            started: false,
            ended: false,
            known: false,
            line: None,
            waiting: VecDeque::new(),
            patience: gateway.patience(),
            pause: None,
        }
    }

    /// Follows a job that a gateway has just admitted.
    pub(crate) fn of_admitted(gateway: &'a Gateway, job: JobId) -> Self {
        Self {
            known: true,
            ..Self::new(gateway, job)
        }
    }

    /// Whether a gateway has known the job: it was admitted, or its stream was open.
    pub(crate) fn is_known(&self) -> bool {
        self.known
    }

    /// What happens next; `None` after the end.
    ///
    /// # Errors
    /// When no gateway answers at all, or none that did could go on with the
    /// stream for a minute, when the task is not known (any more), or when a
    /// piece is missing.
    pub(crate) async fn next(&mut self) -> Result<Option<Happening>> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                match self.take(&event)? {
                    Some(Happening::Error(error)) if error.is_retriable() => {
                        return self.doubt(error).await.map(Some);
                    }
                    Some(happening) => return Ok(Some(happening)),
                    None => continue,
                }
            }
            if self.ended {
                return Ok(None);
            }
            if let Some(pause) = self.pause.take() {
                tokio::time::sleep(pause).await;
            }
            let cut = match &mut self.line {
                None => match self.open().await? {
                    Some(failure) => match self.wait(failure)? {
                        Some(waiting) => return Ok(Some(waiting)),
                        None => continue,
                    },
                    None => None,
                },
                Some(line) => match line.read().await {
                    Ok(events) => {
                        self.patience = self.gateway.patience();
                        self.waiting.extend(events);
                        None
                    }
                    Err(reason) => {
                        self.line = None;
                        self.gateway.turn();
                        Some(Failure::new(Kind::Unavailable, reason))
                    }
                },
            };
            if let Some(failure) = cut {
                return self.again(failure).map(Some);
            }
        }
    }

    /// An error may be the job's end, or trouble of this gateway alone: the
    /// job's record tells which.
    async fn doubt(&mut self, error: ErrorBody) -> Result<Happening> {
        #[derive(Deserialize)]
        struct Job {
            state: JobState,
        }
        match self.gateway.get(&self.job).await {
            Ok(Job { state }) if !state.is_ended() => {}
            Err(failure) if failure.may_pass() => {}
            Ok(_) | Err(_) => return Ok(self.last(Happening::Error(error))),
        }
        self.line = None;
        self.gateway.turn();
        self.again(Failure::remote(&error))
    }

    /// Opens the stream; gives back why not when that may pass.
    async fn open(&mut self) -> Result<Option<Failure>> {
        let behind = (self.next > 0).then_some(self.next);
        match self.gateway.events(&self.path, behind).await {
            Ok(response) => {
                self.known = true;
                self.line = Some(Line {
                    response,
                    parser: Parser::default(),
                });
                Ok(None)
            }
            Err(failure) if self.gateway.is_worth_waiting(&failure) => Ok(Some(failure)),
            Err(failure) => Err(failure),
        }
    }

    /// Waits for another try; says so the first time.
    fn wait(&mut self, failure: Failure) -> Result<Option<Happening>> {
        let Some(pause) = self.patience.pause(failure.retry_after) else {
            return Err(failure);
        };
        self.pause = Some(pause);
        let reason = self.patience.first_reason(&failure);
        Ok(reason.map(|reason| Happening::Waiting { reason }))
    }

    /// Decides on another try after a cut.
    fn again(&mut self, failure: Failure) -> Result<Happening> {
        match self.patience.pause(failure.retry_after) {
            Some(pause) => {
                self.pause = Some(pause);
                Ok(Happening::Reconnecting {
                    reason: failure.message,
                })
            }
            None => Err(failure),
        }
    }

    /// What an event means; `None` for one that was seen or that nobody knows.
    fn take(&mut self, event: &Event) -> Result<Option<Happening>> {
        let happening = match event.name.as_str() {
            // Every stream begins with it, the second one too.
            "started" if std::mem::replace(&mut self.started, true) => None,
            "started" => Some(Happening::Started(parse(event)?)),
            "token" => {
                let token: Token = parse(event)?;
                self.is_new(token.i)?.then_some(Happening::Token(token))
            }
            "metrics" => Some(Happening::Metrics(parse(event)?)),
            "restart" => {
                let at: At = parse(event)?;
                self.is_new(at.i)?.then_some(Happening::Restart)
            }
            "end" => Some(self.last(Happening::End(parse(event)?))),
            "error" => {
                let error: ErrorBody = parse(event)?;
                if error.is_retriable() {
                    return Ok(Some(Happening::Error(error)));
                }
                Some(self.last(Happening::Error(error)))
            }
            _ => None,
        };
        Ok(happening)
    }

    fn last(&mut self, happening: Happening) -> Happening {
        self.ended = true;
        self.line = None;
        happening
    }

    fn is_new(&mut self, index: u64) -> Result<bool> {
        if index > self.next {
            return Err(Failure::new(
                Kind::Internal,
                format!(
                    "the stream jumps from piece {} to {index}: a part of the answer is missing",
                    self.next
                ),
            )
            .then("this must never happen; please report it with the job's id"));
        }
        let new = index == self.next;
        if new {
            self.next += 1;
        }
        Ok(new)
    }
}

impl Line {
    /// The events of the next bytes, or why there are no more.
    async fn read(&mut self) -> std::result::Result<Vec<Event>, String> {
        match timeout(SILENCE, self.response.chunk()).await {
            Ok(Ok(Some(bytes))) => Ok(self.parser.feed(&bytes)),
            Ok(Ok(None)) => Err("the gateway closed the stream before its end".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the stream was silent for {} s", SILENCE.as_secs())),
        }
    }
}

/// Where a `restart` stands.
#[derive(Deserialize)]
struct At {
    i: u64,
}

fn parse<'e, T: Deserialize<'e>>(event: &'e Event) -> Result<T> {
    serde_json::from_str(&event.data).map_err(|error| {
        Failure::new(
            Kind::Internal,
            format!("an event '{}' cannot be read: {error}", event.name),
        )
    })
}

#[cfg(test)]
mod tests;
