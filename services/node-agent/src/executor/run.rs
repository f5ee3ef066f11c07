//! An attempt while its answer is written.
//!
//! One loop over what may happen: the engine says something, the chain takes
//! something, somebody cancels, time passes, the connection is a new one.

use std::pin::Pin;
use std::time::Duration;

use orchion_contract::job::{AttemptEnd, AttemptOutcome, CancelReason, Outcome};
use orchion_contract::node::EngineKind;
use orchion_contract::transcript::{Final, Piece, Strategy, Times};
use orchion_contract::{ErrorBody, ErrorCode, UnixMs};
use orchion_transcript::{Prefix, Stop};
use tokio::time::{Instant, Sleep, sleep_until};

use super::attempt::{Attempt, job_end, unix_ms};
use super::chain::Chain;
use super::source::{Heard, Source};
use crate::engine::answer::Ending;
use crate::engine::{Error, Said};

/// Pieces that may wait for the chain before the engine is left to wait.
const MOST_WAITING: u64 = 65_536;
/// Least time between two looks at what is overdue.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// An attempt while its answer is written.
pub(super) struct Run<'a> {
    attempt: &'a mut Attempt,
    chain: Chain,
    prefix: &'a Prefix,
    source: Source<'a>,
    /// How it ends without a final; told once everything said is stored.
    leaving: Option<AttemptOutcome>,
    /// Whether the engine has said anything, shown or not.
    has_spoken: bool,
    first_token_ms: Option<UnixMs>,
    /// When the engine was asked.
    began: Instant,
    last_said: Instant,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        attempt: &'a mut Attempt,
        chain: Chain,
        prefix: &'a Prefix,
        source: Source<'a>,
    ) -> Self {
        let now = Instant::now();
        Self {
            attempt,
            chain,
            prefix,
            source,
            leaving: None,
            has_spoken: false,
            first_token_ms: None,
            began: now,
            last_said: now,
        }
    }

    /// Runs it to its end.
    pub(super) async fn run(mut self) -> AttemptEnd {
        let mut pieces = Vec::new();
        let mut connection = self.attempt.shared.connection();
        connection.mark_unchanged();
        let shared = self.attempt.shared.clone();
        let mut alarm = Box::pin(sleep_until(self.next_alarm()));
        let (mut was_asked_to_stop, mut was_hurried) = (false, false);
        loop {
            if let Some(end) = self.ended() {
                return end;
            }
            let takes_more = self.takes_more();
            tokio::select! {
                biased;
                reason = self.attempt.stopped.reason(), if !was_asked_to_stop => {
                    was_asked_to_stop = true;
                    self.source.close();
                    if reason != CancelReason::Superseded {
                        self.canceled(reason);
                    } else if self.chain.end().is_none() {
                        return self.attempt.end(AttemptOutcome::Superseded, Some(self.chain.writer()));
                    }
                    // A final that is on its way is taken by the chain, or is not.
                }
                () = self.chain.step() => {}
                heard = self.source.next(&mut pieces), if takes_more => {
                    let was_silent = !self.has_spoken;
                    self.heard(heard, &mut pieces);
                    if was_silent && self.has_spoken {
                        // From now on it may be silent for another time.
                        alarm.as_mut().reset(self.next_alarm());
                    }
                }
                () = &mut alarm => self.alarmed(alarm.as_mut()),
                () = shared.hurry.stopped(), if !was_hurried => {
                    was_hurried = true;
                    self.source.close();
                    self.fail(ErrorBody::new(
                        ErrorCode::WorkerReset,
                        "the node is stopping; the answer goes on elsewhere",
                    ));
                }
                Ok(()) = connection.changed() => {
                    if connection.borrow_and_update().is_some() {
                        self.chain.reconnected();
                    }
                }
            }
        }
    }

    /// The end, once the chain has it or nothing is left to store.
    fn ended(&self) -> Option<AttemptEnd> {
        let writer = self.chain.writer();
        match self.chain.stopped() {
            Some(Stop::Finished) => {
                let end = self.chain.end().map(job_end)?;
                let how = AttemptOutcome::Final { end: Box::new(end) };
                Some(self.attempt.end(how, Some(writer)))
            }
            Some(Stop::Superseded) => {
                Some(self.attempt.end(AttemptOutcome::Superseded, Some(writer)))
            }
            None => {
                let how = self.leaving.clone().filter(|_| writer.is_idle())?;
                Some(self.attempt.end(how, Some(writer)))
            }
        }
    }

    /// Whether the engine may go on: the chain is not too far behind.
    fn takes_more(&self) -> bool {
        let stored = self.chain.writer().next_index() - self.prefix.next_index();
        self.chain.pushed() < stored + MOST_WAITING
    }

    fn heard(&mut self, heard: Heard, pieces: &mut Vec<Piece>) {
        self.last_said = Instant::now();
        let says_something = !pieces.is_empty() || matches!(heard, Heard::Said(Said::End(_)));
        if says_something && self.source.takes_back() {
            let engine = self.attempt.place.replica.engine.clone();
            self.chain.restart(engine);
        }
        if !pieces.is_empty() {
            // Of an answer in one body nobody saw the first token.
            if !self.attempt.is_brief() {
                self.first_token_ms.get_or_insert_with(unix_ms);
            }
            for piece in pieces.drain(..) {
                self.chain.push(piece);
            }
        }
        match heard {
            Heard::Opened => {}
            Heard::Said(Said::Something) => self.has_spoken = true,
            Heard::Said(Said::End(ending)) => {
                self.source.close();
                let end = self.completed(ending);
                self.finish(end);
            }
            Heard::Failed(error) => {
                self.source.close();
                self.engine_failed(&error);
            }
        }
    }

    fn engine_failed(&mut self, error: &Error) {
        let place = &self.attempt.place;
        if error.is_doubtful() {
            place.engine.doubt.notify_one();
        }
        let body = error.body(
            place.replica.engine.kind,
            self.attempt.order.spec.body.get(),
        );
        match error.is_final() {
            true => self.fail_for_good(body),
            false => self.fail(body),
        }
    }

    fn alarmed(&mut self, alarm: Pin<&mut Sleep>) {
        let now = Instant::now();
        if now >= self.attempt.deadline {
            self.source.close();
            self.deadline_passed();
        } else if self.attempt.wall.is_some_and(|wall| now >= wall) && !self.source.is_closed() {
            self.source.close();
            self.took_too_long();
        } else if now >= self.silent_until() && self.takes_more() && !self.source.is_closed() {
            self.source.close();
            self.attempt.place.engine.doubt.notify_one();
            self.fail(self.silence());
        }
        alarm.reset(self.next_alarm().max(now + LEAST_PAUSE));
    }

    /// Set when it rings, not with every token.
    fn next_alarm(&self) -> Instant {
        let end = self.attempt.deadline.min(self.silent_until());
        self.attempt.wall.map_or(end, |wall| wall.min(end))
    }

    fn silent_until(&self) -> Instant {
        self.last_said + self.attempt.watchdog.silence(self.has_spoken)
    }

    fn silence(&self) -> ErrorBody {
        let message = format!(
            "the engine has been silent for {} s",
            self.last_said.elapsed().as_secs()
        );
        let mut error = ErrorBody::new(ErrorCode::DecodeTimeout, message);
        error.engine = Some(self.kind().to_string());
        error
    }

    /// Another engine would take as long: no other attempt.
    fn took_too_long(&mut self) {
        let limit = self.attempt.watchdog.wall.unwrap_or_default();
        let mut error = ErrorBody::new(
            ErrorCode::DecodeTimeout,
            format!(
                "the engine has worked on the answer for {} ms, which is all it may; \
                 allow more time or ask for a shorter answer",
                limit.as_millis()
            ),
        );
        error.engine = Some(self.kind().to_string());
        self.fail_for_good(error);
    }

    fn canceled(&mut self, reason: CancelReason) {
        match reason {
            CancelReason::Deadline => self.deadline_passed(),
            CancelReason::Preempted => self.leave(AttemptOutcome::Preempted),
            CancelReason::Client
            | CancelReason::Disconnect
            | CancelReason::GatewayLost
            | CancelReason::Superseded
            | CancelReason::Unknown => {
                let end = self.unfinished(Outcome::Canceled, None);
                self.finish(end);
            }
        }
    }

    fn deadline_passed(&mut self) {
        self.fail_for_good(ErrorBody::new(
            ErrorCode::DeadlineUnmet,
            "the deadline passed before the answer was complete; give the task more time or a smaller limit",
        ));
    }

    /// Another attempt may help.
    fn fail(&mut self, error: ErrorBody) {
        self.leave(AttemptOutcome::Failed { error });
    }

    /// It ends without a final, once everything said is stored.
    fn leave(&mut self, how: AttemptOutcome) {
        if self.chain.end().is_none() {
            self.leaving.get_or_insert(how);
            self.chain.flush();
        }
    }

    /// No other attempt would help.
    pub(super) fn fail_for_good(&mut self, error: ErrorBody) {
        let end = self.unfinished(Outcome::Failed, Some(error));
        self.finish(end);
    }

    /// It ends with this; the first end counts.
    pub(super) fn finish(&mut self, mut end: Final) {
        self.leaving = None;
        end.node = Some(self.attempt.shared.node.clone());
        end.times = Times {
            started_ms: Some(self.attempt.started_ms),
            first_token_ms: self.first_token_ms,
            ended_ms: Some(unix_ms()),
        };
        if let Some(continued) = &end.continued {
            let how = match continued.strategy {
                Strategy::Continue | Strategy::Replay | Strategy::Unknown => "was taken up",
                Strategy::Restart => "started over",
            };
            tracing::info!(
                job.id = %self.attempt.order.job,
                attempt = self.attempt.order.attempt,
                continuation.strategy = ?continued.strategy,
                continuation.verified = continued.verified,
                continuation.from_index = continued.from_index,
                continuation.swallowed_tokens = continued.swallowed_tokens,
                "job {} {how} behind {} tokens",
                self.attempt.order.job,
                self.prefix.tokens
            );
        }
        self.chain.finish(end);
    }

    fn completed(&self, ending: Ending) -> Final {
        let engine = &self.attempt.place.engine;
        engine.took(self.chain.tokens(), self.began.elapsed());
        Final {
            finish_reason: Some(ending.finish_reason),
            usage: self.source.usage(ending.usage, self.chain.tokens()),
            ..self.unfinished(Outcome::Completed, None)
        }
    }

    fn unfinished(&self, outcome: Outcome, error: Option<ErrorBody>) -> Final {
        Final {
            attempt: self.attempt.order.attempt,
            rest: None,
            outcome,
            finish_reason: None,
            usage: self.source.usage(None, self.chain.tokens()),
            error,
            engine: Some(self.attempt.place.replica.engine.clone()),
            node: None,
            continued: self.source.continued(),
            times: Times::default(),
        }
    }

    fn kind(&self) -> EngineKind {
        self.attempt.place.replica.engine.kind
    }
}
