//! A streamed answer, event by event.

use orchion_testkit::wire::{Ask, Verifier};

use super::answer::{Fault, Piece, Trace, check_usage, last_of};
use super::plan::Plan;
use super::record::Record;

/// Reads one stream.
pub(super) struct Reader<'a> {
    plan: &'a Plan,
    scheduled: u64,
    verifier: Verifier,
    trace: &'a mut Trace,
    /// When the token before came; 0 before the first.
    previous: u64,
    stalls: u64,
    is_done: bool,
    is_finished: bool,
    usage: Option<u32>,
}

impl<'a> Reader<'a> {
    /// Expects the answer to `ask`, which was due at `scheduled`.
    pub(super) fn new(plan: &'a Plan, ask: &Ask, scheduled: u64, trace: &'a mut Trace) -> Self {
        Self {
            plan,
            scheduled,
            verifier: Verifier::new(plan.check, ask.nonce),
            trace,
            previous: 0,
            stalls: 0,
            is_done: false,
            is_finished: false,
            usage: None,
        }
    }

    /// Whether a token came far too late.
    pub(super) fn has_stalled(&self) -> bool {
        self.stalls > 0
    }

    /// Takes the data of an event that came at `now`; times are recorded when
    /// that is inside the window.
    pub(super) fn event(
        &mut self,
        event: &[u8],
        record: &mut Record,
        now: u64,
        is_inside: bool,
    ) -> Result<(), Fault> {
        let event = match self.plan.lenient_sse {
            true => event
                .strip_prefix(b"data:")
                .map_or(event, <[u8]>::trim_ascii),
            false => event,
        };
        if self.plan.lenient_sse && event.is_empty() {
            return Ok(());
        }
        if event == b"[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let piece: Piece<'_> = serde_json::from_slice(event).map_err(|error| {
            Fault::new(
                "json",
                format!("{error}: {}", String::from_utf8_lossy(event)),
            )
        })?;
        if let Some(error) = piece.error {
            return Err(Fault::new("stream:error_event", error));
        }
        self.usage = piece
            .usage
            .and_then(|usage| usage.completion_tokens)
            .or(self.usage);
        let Some(choice) = piece.choices.first() else {
            return Ok(());
        };
        self.is_finished |= choice.finish_reason.is_some();
        if let Some(content) = choice
            .delta
            .as_ref()
            .and_then(|delta| delta.content.as_ref())
        {
            self.content(content, record, now, is_inside);
        }
        Ok(())
    }

    fn content(&mut self, content: &str, record: &mut Record, now: u64, is_inside: bool) {
        let Self {
            plan,
            scheduled,
            verifier,
            trace,
            previous,
            stalls,
            ..
        } = self;
        verifier.feed(content, |seen| {
            trace.tokens += 1;
            if seen.arrived_us.is_some() {
                seen.engine.clone_into(&mut trace.engine);
            } else if !seen.engine.is_empty() && last_of(&trace.engine) != seen.engine {
                // A stream taken over by another engine.
                trace.engine = format!("{}>{}", trace.engine, seen.engine);
            }
            let gap = (*previous > 0).then(|| now - *previous);
            *previous = now;
            trace.last_token = now;
            if !is_inside {
                return;
            }
            record.tokens += 1;
            if let Some(arrived) = seen.arrived_us {
                record
                    .request_path
                    .record((arrived * 1_000).saturating_sub(*scheduled));
            }
            if seen.emitted_us > 0 {
                let transit = now.saturating_sub(seen.emitted_us * 1_000);
                record.transit.record(transit);
                if gap.is_none() {
                    record.first_transit.record(transit);
                }
            }
            let Some(gap) = gap else {
                return record.ttft.record(now - *scheduled);
            };
            record.itl.record(gap);
            record.bunched += u64::from(gap * 10 < plan.itl_us * 1_000);
            record.stalls += u64::from(gap > plan.stall_ns);
            *stalls += u64::from(gap > plan.stall_ns);
        });
    }

    /// What the whole answer was like.
    pub(super) fn verdict(&mut self, ask: &Ask) -> Result<(), Fault> {
        if !self.is_done {
            let detail = format!("{} of {} tokens, no [DONE]", self.trace.tokens, ask.tokens);
            return Err(Fault::new("stream:truncated", detail));
        }
        if let Some(flaw) = self.verifier.finish(ask.tokens, |_| {}) {
            let detail = format!("{} tokens", self.verifier.got());
            return Err(Fault::new(flaw.class(), detail));
        }
        if !self.is_finished {
            return Err(Fault::new("content:no_finish_reason", ""));
        }
        check_usage(self.usage, ask)
    }
}
