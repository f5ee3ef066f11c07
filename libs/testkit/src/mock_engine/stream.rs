//! The streamed answer: one frame per token, each at its due time.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

use super::answer::error_object;
use super::chat::Order;
use super::stats::{Ending, Guard};
use crate::wire::FaultKind;

const TO_TOKEN: &[u8] = b"\"content\":\"";
const FROM_TOKEN: &[u8] = b"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";

#[derive(Debug)]
pub(super) struct TokenBody {
    guard: Guard,
    order: Order,
    /// What every chunk begins with, up to its delta.
    head: String,
    next: u32,
    /// Whether other connections had their turn since the last token.
    has_yielded: bool,
    timer: Option<Pin<Box<Sleep>>>,
    /// The first token waits for nothing, not even a timer tick.
    at_once: bool,
    due: Instant,
    breaks_at: Option<u32>,
    is_finished: bool,
}

impl TokenBody {
    pub(super) fn new(guard: Guard, order: Order) -> Self {
        let head = format!(
            "data: {{\"id\":\"{}\",\"object\":\"chat.completion.chunk\",\"created\":0,\
             \"model\":\"{}\",\"choices\":[",
            order.id, order.model
        );
        let due = Instant::now() + Duration::from_micros(order.ask.ttft_us);
        let is_timed = order.ask.ttft_us > 0 || order.ask.itl_us > 0;
        Self {
            head,
            next: order.from,
            has_yielded: true,
            timer: is_timed.then(|| Box::pin(sleep_until(due))),
            at_once: order.ask.ttft_us == 0,
            due,
            breaks_at: order.breaks_at(),
            is_finished: false,
            guard,
            order,
        }
    }

    /// Whether the next token is due; if not, it is waited for.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.timer {
            if self.at_once {
                self.at_once = false;
            } else if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.due += Duration::from_micros(self.order.ask.itl_us);
            match self.order.ask.itl_us {
                0 => self.timer = None,
                _ => timer.as_mut().reset(self.due),
            }
        } else if self.order.ask.flush && !self.has_yielded {
            self.has_yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_yielded = false;
        Poll::Ready(())
    }

    fn token(&mut self) -> Bytes {
        let is_first = self.next == self.order.from;
        let mut out = Vec::with_capacity((self.head.len() + 128) * (1 + usize::from(is_first)));
        if is_first {
            self.push_head(&mut out);
            out.extend_from_slice(b"\"role\":\"assistant\",");
            out.extend_from_slice(TO_TOKEN);
            out.extend_from_slice(FROM_TOKEN);
            self.push_echo(&mut out);
        }
        self.push_head(&mut out);
        out.extend_from_slice(TO_TOKEN);
        let engine = &self.guard.engine;
        self.order
            .push_token(&mut out, self.next, &engine.options.name);
        out.extend_from_slice(FROM_TOKEN);
        engine.counters.tokens.fetch_add(1, Relaxed);
        self.next += 1;
        Bytes::from(out)
    }

    fn push_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.head.as_bytes());
        out.extend_from_slice(b"{\"index\":0,\"delta\":{");
    }

    fn push_echo(&self, out: &mut Vec<u8>) {
        if self.order.echo.is_empty() {
            return;
        }
        let text = serde_json::Value::from(self.order.echo.as_str()).to_string();
        self.push_head(out);
        out.extend_from_slice(TO_TOKEN);
        out.extend_from_slice(text.trim_matches('"').as_bytes());
        out.extend_from_slice(FROM_TOKEN);
    }

    /// The last chunks: finish reason, usage, `[DONE]`.
    fn end(&self) -> Bytes {
        let mut out = Vec::with_capacity(3 * self.head.len() + 300);
        self.push_head(&mut out);
        let finish = self.order.finish_reason();
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":\"");
        out.extend_from_slice(finish.as_bytes());
        out.extend_from_slice(b"\"}]}\n\n");
        if self.order.has_usage {
            out.extend_from_slice(self.head.as_bytes());
            out.extend_from_slice(format!("],\"usage\":{}}}\n\n", self.order.usage()).as_bytes());
        }
        if self.order.fault_kind() != Some(FaultKind::NoDone) {
            out.extend_from_slice(b"data: [DONE]\n\n");
        }
        Bytes::from(out)
    }

    /// What happens at the token that goes wrong; nothing when the fault is of
    /// another kind.
    fn fail(&mut self) -> Option<Poll<NextFrame>> {
        match self.order.fault_kind()? {
            FaultKind::Hang => Some(Poll::Pending),
            FaultKind::Malformed => {
                self.breaks_at = None;
                let chunk = format!("{}{{\"index\":0,\"delta\":{{\"content\n\n", self.head);
                Some(frame(chunk))
            }
            FaultKind::Truncate => {
                self.guard.ending = Ending::Failed;
                Some(Poll::Ready(Some(Err(Broken))))
            }
            FaultKind::EndEarly => {
                self.finish(Ending::Failed);
                Some(Poll::Ready(None))
            }
            FaultKind::ErrorEvent => {
                self.finish(Ending::Failed);
                let error = error_object("server_error", "mock failure in mid-stream");
                Some(frame(format!("data: {error}\n\n")))
            }
            FaultKind::Error
            | FaultKind::Overloaded
            | FaultKind::Drop
            | FaultKind::NoDone
            | FaultKind::Slow
            | FaultKind::NoUsage => None,
        }
    }

    fn finish(&mut self, ending: Ending) {
        self.is_finished = true;
        self.guard.ending = ending;
    }
}

/// Breaks the connection.
#[derive(Debug, thiserror::Error)]
#[error("mock truncation")]
pub(super) struct Broken;

type NextFrame = Option<Result<Frame<Bytes>, Broken>>;

impl Body for TokenBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<NextFrame> {
        let this = self.get_mut();
        if this.is_finished {
            return Poll::Ready(None);
        }
        if this.breaks_at.is_some_and(|at| this.next >= at)
            && let Some(failure) = this.fail()
        {
            return failure;
        }
        if this.next >= this.order.until {
            this.finish(Ending::Completed);
            return frame(this.end());
        }
        if this.poll_due(cx).is_pending() {
            return Poll::Pending;
        }
        frame(this.token())
    }
}

fn frame(data: impl Into<Bytes>) -> Poll<NextFrame> {
    Poll::Ready(Some(Ok(Frame::data(data.into()))))
}
