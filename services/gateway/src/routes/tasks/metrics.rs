//! Figures between the tokens of a task: where it waits, how fast it goes.
//!
//! One frame follows the first token, then at most one a second; while the task
//! waits, one with each change of its position. They carry no `id:` and may be
//! lost; tokens never are.

use std::time::{Duration, Instant};

use orchion_contract::job::JobState;
use orchion_contract::progress::{Progress, ProgressEvent};
use serde::Serialize;

/// Least time between two frames that tell nothing new of the queue.
const PAUSE: Duration = Duration::from_secs(1);
/// How long tokens are counted before a rate is made of them.
const COUNTED: Duration = Duration::from_millis(500);

/// What one frame says; everything but the state may be unknown.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Frame {
    state: JobState,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_depth: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted_start_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_time_probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<ProgressEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    tokens_out: u64,
}

/// What is known of a task, and when it was said last.
#[derive(Debug)]
pub(super) struct Metrics {
    progress: Option<Progress>,
    /// The task had ended before anything of it was shown: nothing is told beside
    /// its answer.
    has_ended: bool,
    /// Something new of the queue has not been said.
    is_news: bool,
    has_token: bool,
    tokens: u64,
    /// Since when tokens are counted as they come, and how many there were then.
    counted_since: Option<(Instant, u64)>,
    /// A frame has followed the first token.
    has_said_token: bool,
    said_at: Instant,
}

impl Metrics {
    /// Begins with what the scheduler said when the stream was opened, which
    /// its first event tells.
    pub(super) fn new(progress: Option<Progress>, now: Instant) -> Self {
        Self {
            progress,
            has_ended: false,
            is_news: false,
            has_token: false,
            tokens: 0,
            counted_since: None,
            has_said_token: false,
            said_at: now,
        }
    }

    /// Of a task that has ended and is read again.
    pub(super) fn of_ended(now: Instant) -> Self {
        Self {
            has_ended: true,
            ..Self::new(None, now)
        }
    }

    /// The caller has seen so many tokens before.
    pub(super) fn resumes_behind(&mut self, tokens: u64) {
        self.tokens = tokens;
    }

    /// The scheduler says where the task stands.
    pub(super) fn heard(&mut self, progress: Progress) {
        let is_same = self.progress.as_ref().is_some_and(|known| {
            known.state == progress.state
                && known.queue_position == progress.queue_position
                && known.reason == progress.reason
        });
        self.is_news |= !is_same || progress.event.is_some();
        self.progress = Some(progress);
    }

    /// Tokens were shown. `is_live`: as they came, not from the store.
    pub(super) fn shown(&mut self, tokens: u32, is_live: bool, now: Instant) {
        self.has_token = true;
        self.tokens += u64::from(tokens);
        if is_live {
            self.counted_since.get_or_insert((now, self.tokens));
        }
    }

    /// The frame that is due now, if one is.
    pub(super) fn due(&mut self, now: Instant) -> Option<Frame> {
        if self.has_ended {
            return None;
        }
        let is_first = self.has_token && !self.has_said_token;
        let is_time = now - self.said_at >= PAUSE;
        if !(is_first || self.is_news || is_time) {
            return None;
        }
        self.is_news = false;
        self.has_said_token = self.has_token;
        self.said_at = now;
        Some(self.frame(now))
    }

    fn frame(&mut self, now: Instant) -> Frame {
        let waits = !self.has_token;
        let known = self.progress.as_mut();
        // An event explains one step, not all that follow.
        let event = known.and_then(|known| known.event.take());
        let known = self.progress.as_ref();
        Frame {
            state: match known {
                Some(known) if waits => known.state,
                Some(_) | None => JobState::Running,
            },
            queue_position: known
                .filter(|_| waits)
                .and_then(|known| known.queue_position),
            queue_depth: known.map(|known| known.queue_depth),
            predicted_start_ms: known
                .filter(|_| waits)
                .and_then(|known| known.predicted_start_ms),
            on_time_probability: known.and_then(|known| known.on_time_probability),
            tokens_per_s: self
                .rate(now)
                .or_else(|| known.and_then(|known| known.tokens_per_s)),
            event,
            reason: known
                .filter(|_| waits)
                .and_then(|known| known.reason.clone()),
            tokens_out: self.tokens,
        }
    }

    /// Tokens per second as they came, rounded to tenths.
    fn rate(&self, now: Instant) -> Option<f64> {
        let (since, before) = self.counted_since?;
        let counted = now - since;
        if counted < COUNTED {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a count of tokens is far below 2^53"
        )]
        let rate = (self.tokens - before) as f64 / counted.as_secs_f64();
        Some((rate * 10.0).round() / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u32) -> Progress {
        Progress {
            job: "01900000-0000-7000-8000-000000000001".parse().unwrap(),
            state: JobState::Pending,
            queue_position: Some(position),
            queue_depth: 9,
            predicted_start_ms: Some(700),
            on_time_probability: Some(0.9),
            tokens_per_s: Some(40.0),
            event: None,
            reason: None,
            at_ms: 1,
        }
    }

    fn waiting(position: u32) -> (Metrics, Instant) {
        let start = Instant::now();
        (Metrics::new(Some(at(position)), start), start)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn while_it_waits_each_new_position_is_told_and_the_same_one_once_a_second() {
        let (mut metrics, start) = waiting(3);
        metrics.heard(at(3));
        assert_eq!(metrics.due(start + 10 * MS), None);
        metrics.heard(at(2));
        let frame = metrics.due(start + 20 * MS).unwrap();
        assert_eq!(
            (frame.queue_position, frame.queue_depth),
            (Some(2), Some(9))
        );
        assert_eq!(frame.predicted_start_ms, Some(700));
        metrics.heard(at(2));
        assert_eq!(metrics.due(start + 1019 * MS), None);
        assert!(metrics.due(start + 1020 * MS).is_some());
    }

    #[test]
    fn why_nobody_can_take_it_is_told_at_once_and_until_somebody_can() {
        let (mut metrics, start) = waiting(0);
        let reason = Some("no node serves its model now".to_owned());
        metrics.heard(Progress {
            reason: reason.clone(),
            ..at(0)
        });
        assert_eq!(metrics.due(start + MS).unwrap().reason, reason);
        assert_eq!(metrics.due(start + 1001 * MS).unwrap().reason, reason);
        metrics.heard(at(0));
        assert_eq!(metrics.due(start + 1002 * MS).unwrap().reason, None);
    }

    #[test]
    fn an_event_is_told_at_once_and_once() {
        let (mut metrics, start) = waiting(3);
        metrics.heard(Progress {
            event: Some(ProgressEvent::Overtaken),
            ..at(3)
        });
        let frame = metrics.due(start + MS).unwrap();
        assert_eq!(frame.event, Some(ProgressEvent::Overtaken));
        let next = metrics.due(start + 1001 * MS).unwrap();
        assert_eq!(next.event, None);
    }

    #[test]
    fn one_frame_follows_the_first_token_then_one_a_second() {
        let start = Instant::now();
        let mut metrics = Metrics::new(None, start);
        assert_eq!(metrics.due(start), None);
        metrics.shown(1, true, start);
        let first = metrics.due(start).unwrap();
        assert_eq!((first.state, first.tokens_out), (JobState::Running, 1));
        metrics.shown(30, true, start + 900 * MS);
        assert_eq!(metrics.due(start + 900 * MS), None);
        metrics.shown(20, true, start + 1000 * MS);
        let frame = metrics.due(start + 1000 * MS).unwrap();
        assert_eq!((frame.tokens_out, frame.tokens_per_s), (51, Some(50.0)));
    }

    #[test]
    fn nothing_is_told_of_a_task_that_is_read_again() {
        let start = Instant::now();
        let mut metrics = Metrics::of_ended(start);
        metrics.shown(3, true, start);
        assert_eq!(metrics.due(start + 2000 * MS), None);
    }

    #[test]
    fn what_a_caller_had_before_counts_but_not_as_speed() {
        let (mut metrics, start) = waiting(0);
        metrics.resumes_behind(40);
        metrics.shown(1, true, start);
        assert_eq!(metrics.due(start).unwrap().tokens_out, 41);
        metrics.shown(50, true, start + 1000 * MS);
        let frame = metrics.due(start + 1000 * MS).unwrap();
        assert_eq!((frame.tokens_out, frame.tokens_per_s), (91, Some(50.0)));
    }

    #[test]
    fn what_comes_from_the_store_says_nothing_of_speed() {
        let (mut metrics, start) = waiting(0);
        metrics.shown(1000, false, start);
        let frame = metrics.due(start + 2000 * MS).unwrap();
        assert_eq!(frame.tokens_per_s, Some(40.0));
        assert_eq!(
            (frame.queue_position, frame.predicted_start_ms),
            (None, None)
        );
    }
}
