//! Submits a task and shows its answer while it is written.

use std::time::Duration;

use orchion_contract::JobId;
use orchion_contract::job::JobSummary;
use serde_json::json;
use tokio::sync::mpsc;

use super::Context;
use crate::exit::{Failure, Kind, Result};
use crate::follow::{End, Follow, Happening, Started};
use crate::show::units::span;
use crate::task::Task;
use crate::terminal::{DIM, Status, Terminal};

/// What Ctrl-C does to the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnInterrupt {
    /// It is canceled: nobody else wants the answer.
    Cancel,
    /// It goes on.
    Leave,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) end: End,
}

/// Submits `task` and shows its answer.
pub(super) async fn ask(
    context: &Context,
    task: &Task,
    interrupted: OnInterrupt,
) -> Result<Answer> {
    let id = JobId::now();
    let mut status = Status::new(context.terminal);
    status.set("asking");
    let (tell, mut told) = mpsc::unbounded_channel();
    let submitted = task.submit(&context.gateway, id, |reason| {
        let _ = tell.send(reason.to_owned());
    });
    let mut submitted = std::pin::pin!(submitted);
    let mut turns = turns();
    loop {
        tokio::select! {
            admitted = &mut submitted => {
                admitted?;
                break;
            }
            Some(text) = told.recv() => status.tell(context.terminal, text),
            _ = turns.tick() => status.turn(),
            failure = super::interrupt() => {
                drop(status);
                // It may have been admitted without our knowing.
                cancel(context, id).await;
                return Err(failure?);
            }
        }
    }
    drop(status);
    let follow = Follow::of_admitted(&context.gateway, id);
    show(context, follow, id, interrupted).await
}

/// Shows the answer of a job from its first piece on.
pub(super) async fn show(
    context: &Context,
    mut follow: Follow<'_>,
    id: JobId,
    interrupted: OnInterrupt,
) -> Result<Answer> {
    let mut screen = Screen::new(context.terminal, id);
    let mut turns = turns();
    let (tell, mut positions) = mpsc::unbounded_channel();
    let mut watching = std::pin::pin!(watch_queue(context, id, tell));
    loop {
        let happening = {
            let mut next = std::pin::pin!(follow.next());
            loop {
                tokio::select! {
                    next = &mut next => break Ok(next),
                    _ = turns.tick() => screen.status.turn(),
                    () = &mut watching, if screen.is_waiting() => {}
                    Some(position) = positions.recv(), if screen.is_waiting() => {
                        screen.status.set(queued(position));
                    }
                    failure = super::interrupt() => break Err(failure?),
                }
            }
        };
        let happening = match happening {
            Ok(Ok(Some(happening))) => happening,
            Ok(Ok(None)) => return Err(Failure::new(Kind::Internal, "the stream had no end")),
            Ok(Err(failure)) => {
                screen.close()?;
                return Err(resumable(failure, id, follow.is_known()));
            }
            Err(interrupted_by_user) => {
                screen.close()?;
                interrupt(context, id, interrupted, follow.is_known()).await;
                return Err(interrupted_by_user);
            }
        };
        if let Some(end) = screen.show(&happening)? {
            return end.map(|end| Answer {
                text: screen.text,
                end,
            });
        }
    }
}

/// Tells the place in the queue while the job waits, for a person who waits
/// with it. Never ends: who listens decides for how long.
async fn watch_queue(context: &Context, id: JobId, tell: mpsc::UnboundedSender<u32>) {
    let path = format!("/api/jobs/{id}");
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if !context.terminal.sees_status {
            continue;
        }
        // Without an answer the status stays as it was.
        let asked = context.gateway.get::<JobSummary>(&path).await;
        if let Some(position) = asked.ok().and_then(|job| job.queue_position) {
            let _ = tell.send(position);
        }
    }
}

async fn interrupt(context: &Context, id: JobId, then: OnInterrupt, is_known: bool) {
    match then {
        OnInterrupt::Cancel => cancel(context, id).await,
        OnInterrupt::Leave if is_known => context.terminal.remark(&format!(
            "the job goes on; `orchion jobs follow {id}` shows its answer"
        )),
        OnInterrupt::Leave => {}
    }
}

/// Ends the job; whether that works is not worth waiting for long.
async fn cancel(context: &Context, id: JobId) {
    let path = format!("/v1/tasks/{id}/cancel");
    let nothing = json!({});
    let canceled = context.gateway.post(&path, &nothing);
    let _ = tokio::time::timeout(Duration::from_secs(3), canceled).await;
}

fn resumable(failure: Failure, id: JobId, is_known: bool) -> Failure {
    if failure.may_pass() && is_known {
        failure.then(format!(
            "nothing is lost: `orchion jobs follow {id}` shows the whole answer at any gateway"
        ))
    } else {
        failure
    }
}

fn turns() -> tokio::time::Interval {
    tokio::time::interval(Duration::from_millis(100))
}

/// What is shown of an answer, and what was shown already.
struct Screen {
    terminal: Terminal,
    status: Status,
    id: JobId,
    text: String,
    in_line: bool,
    in_reasoning: bool,
    /// Why it waits, as it was said last.
    reason: Option<String>,
}

impl Screen {
    fn new(terminal: Terminal, id: JobId) -> Self {
        let mut status = Status::new(terminal);
        status.set("waiting for the first word");
        Self {
            terminal,
            status,
            id,
            text: String::new(),
            in_line: false,
            in_reasoning: false,
            reason: None,
        }
    }

    /// Whether nothing of the answer has come yet.
    fn is_waiting(&self) -> bool {
        self.text.is_empty() && !self.in_reasoning
    }

    /// Shows what happens; the end when it is one.
    fn show(&mut self, happening: &Happening) -> Result<Option<Result<End>>> {
        if self.terminal.json {
            self.document(happening)?;
        }
        match happening {
            Happening::Started(started) => {
                self.status.set(waits(started));
                self.say_why(started.reason.as_deref());
            }
            Happening::Metrics(metrics) => {
                if let Some(position) = metrics.queue_position.filter(|_| self.text.is_empty()) {
                    self.status.set(place(position, metrics.reason.as_deref()));
                    self.say_why(metrics.reason.as_deref());
                }
            }
            Happening::Token(token) => {
                if let Some(reasoning) = &token.reasoning {
                    self.reason(reasoning)?;
                }
                self.write(&token.t)?;
            }
            Happening::Restart => {
                self.text.clear();
                self.close()?;
                self.terminal.remark("[the answer starts over]");
            }
            Happening::Reconnecting { reason } => {
                let text = format!("reconnecting: {reason}");
                if self.in_line {
                    self.status.set_behind(text);
                } else {
                    self.status.set(text);
                }
            }
            Happening::Waiting { reason } if self.in_line && self.status.shows() => {
                self.status.set_behind(reason);
            }
            Happening::Waiting { reason } => self.status.tell(self.terminal, reason),
            Happening::End(end) => {
                self.close()?;
                return Ok(Some(Ok(end.clone())));
            }
            Happening::Error(error) => {
                self.close()?;
                let failure = Failure::remote(error);
                let next = format!("`orchion jobs logs {}` shows what happened", self.id);
                return Ok(Some(Err(failure.then(next))));
            }
        }
        Ok(None)
    }

    /// Says once for each reason why nobody can take the job, where no status shows it.
    fn say_why(&mut self, reason: Option<&str>) {
        if self.status.shows() || self.reason.as_deref() == reason {
            return;
        }
        self.reason = reason.map(str::to_owned);
        if let Some(reason) = reason {
            self.terminal.aside(&format!("it waits: {reason}"));
        }
    }

    fn document(&self, happening: &Happening) -> Result<()> {
        let mut value = serde_json::to_value(happening).map_err(anyhow::Error::new)?;
        value["task_id"] = json!(self.id);
        self.terminal.document(&value)
    }

    /// Reasoning is for people: dim, and never in a pipe.
    fn reason(&mut self, text: &str) -> Result<()> {
        if !self.terminal.is_person || text.is_empty() {
            return Ok(());
        }
        self.status.clear();
        self.in_reasoning = true;
        self.in_line = !text.ends_with('\n');
        self.terminal.text(&self.terminal.paint(DIM, text))
    }

    fn write(&mut self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        self.status.clear();
        self.text.push_str(text);
        if self.terminal.json {
            return Ok(());
        }
        if std::mem::take(&mut self.in_reasoning) {
            self.terminal.text("\n\n")?;
        }
        self.in_line = !text.ends_with('\n');
        self.terminal.text(text)
    }

    /// Ends the line that was begun.
    fn close(&mut self) -> Result<()> {
        self.status.clear();
        if std::mem::take(&mut self.in_line) && !self.terminal.json {
            self.terminal.text("\n")?;
        }
        Ok(())
    }
}

fn waits(started: &Started) -> String {
    if started.reason.is_some() {
        return place(started.queue_position, started.reason.as_deref());
    }
    if started.predicted_start_ms == 0 {
        return "waiting for the first word".to_owned();
    }
    format!(
        "{}, starts in about {}",
        queued(started.queue_position),
        span(started.predicted_start_ms)
    )
}

fn place(position: u32, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("{}; {reason}", queued(position)),
        None => queued(position),
    }
}

fn queued(position: u32) -> String {
    match position {
        0 => "next in the queue".to_owned(),
        1 => "in the queue, 1 job before it".to_owned(),
        ahead => format!("in the queue, {ahead} jobs before it"),
    }
}
