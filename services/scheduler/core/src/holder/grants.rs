//! Jobs whose gateways have ordered their first attempts by themselves.

use super::{Holder, Open, RECORD_WAITS};
use crate::report::Decided;
use crate::{Demand, Effect, Now, Phase, Reply, Token};
use orchion_contract::job::{
    Assignment, AttemptEnd, AttemptOutcome, Declined, GRANTED_TELLS_AFTER, Granted, JobEnd,
    Ordered, RunReply,
};
use orchion_contract::placement::DecisionOutcome;
use orchion_contract::{JobId, UnixMs};
use std::collections::BTreeSet;
use std::time::Duration;

/// Answers to orders of jobs that are not known yet which are kept.
const EARLY: usize = 64;
/// How long an order that a gateway has sent may take to be taken.
const ORDER_TRY: Duration = Duration::from_millis(300);

/// How long a job may have been under way before its gateway is heard: a clock that
/// tells of more goes wrong.
const HEARD_WITHIN_MS: u64 = 10_000;

/// When a gateway has ordered a job of which it tells at `now`, by its own clock.
pub(super) fn ordered_ms(ordered: &Ordered, now: UnixMs) -> UnixMs {
    let at_ms = ordered.to.at_ms;
    match now.checked_sub(at_ms) {
        Some(0..=HEARD_WITHIN_MS) => at_ms,
        Some(_) | None => now,
    }
}

/// Whether the record of a job that has ended before anybody heard of it is written:
/// it would have been before its end, had there been a scheduler.
fn needs_record(granted: &Granted, end: &JobEnd) -> bool {
    let times = end.times.started_ms.zip(end.times.ended_ms);
    let took = times.map_or(0, |(started, ended)| ended.saturating_sub(started));
    !granted.whole || Duration::from_millis(took) > GRANTED_TELLS_AFTER + RECORD_WAITS
}

impl Holder {
    /// The first attempt of a job that was just taken in is on its way, wherever it
    /// was sent: if that is no good place any more, it is taken back from there.
    pub(super) fn was_ordered(&mut self, id: &JobId, ordered: Ordered) {
        let Ordered { to, declined } = ordered;
        self.granting.has_changed();
        let now = self.at.now;
        let at_ms = self.state.job(id).map(|job| job.record.created_ms);
        let at_ms = at_ms.unwrap_or(self.at.unix_ms);
        let under_way = Duration::from_millis(self.at.unix_ms.saturating_sub(at_ms));
        let to = Assignment { at_ms, ..to };
        self.state.assign(id, to, Phase::Ordered);
        self.state
            .update(id, |job| job.ordered_at = now.saturating_sub(under_way));
        if let Some(open) = self.open.get_mut(id) {
            open.ordered = (1, 1);
        }
        self.hold_back(id);
        self.was_granted(id);
        self.tell_state(id, "its gateway has sent it to a slot that it was granted");
        let declined = declined.map(|declined| match declined {
            Declined::Said(reply) => Reply::Said(reply),
            Declined::Nobody => Reply::Nobody,
        });
        let early = self.early.iter().position(|(job, _)| job == id);
        let early = early.and_then(|at| self.early.remove(at));
        match declined.or(early.map(|(_, reply)| reply)) {
            Some(reply) => self.replied(id, 1, reply),
            None => {
                self.unheard.insert((now + ORDER_TRY, *id));
            }
        }
    }

    /// It was decided before the job came.
    fn was_granted(&mut self, id: &JobId) {
        self.state.update(id, |job| {
            let at_ms = job.record.created_ms;
            job.decided(Decided::plain(job, DecisionOutcome::Granted, at_ms));
        });
    }

    /// An agent has answered the order of a gateway that has not told of the job yet.
    /// How the attempt ended counts more than that it was taken.
    pub(super) fn answered_early(&mut self, id: JobId, reply: Reply) {
        let has_ended = matches!(reply, Reply::Said(RunReply::Ended { .. }));
        match self.early.iter_mut().find(|(job, _)| *job == id) {
            Some((_, before)) if has_ended => *before = reply,
            Some(_) => {}
            None => {
                if self.early.len() == EARLY {
                    self.early.pop_front();
                }
                self.early.push_back((id, reply));
            }
        }
    }

    /// A job has ended of which its gateway may not have told. Returns it while no
    /// record knows of it: its agent must not forget it before history knows, and a
    /// record where there has to be one.
    pub(super) fn granted_ended(&mut self, granted: Granted, ends: &[AttemptEnd]) -> Option<JobId> {
        let (id, at) = (granted.job.id, self.at);
        let told = ends.iter().find(|end| end.job == id)?;
        let is_known = self.state.job(&id).is_some() || self.ended.contains_key(&id);
        let AttemptOutcome::Final { end } = &told.how else {
            if !is_known {
                let end = Box::new(told.clone());
                self.answered_early(id, Reply::Said(RunReply::Ended { end }));
            }
            return None;
        };
        let needs_record = needs_record(&granted, end);
        let Granted {
            job,
            whole: _,
            prompt_bytes,
            max_tokens,
        } = granted;
        if let Some(gateway) = &job.gateway {
            self.granting.wants(gateway, &job.model, at.now);
        }
        if is_known {
            let open = self.open.get(&id);
            return open.is_some_and(|open| !open.is_kept()).then_some(id);
        }
        let demand = Demand {
            prompt_bytes,
            max_tokens,
            expected_tokens: None,
        };
        let mut open = Open::new(0);
        open.held = (!needs_record).then_some(at.now);
        self.open.insert(id, open);
        self.state.insert(job, at.now, at.now);
        self.state.update(&id, |job| {
            job.demand = demand;
            // Nobody here knows.
            job.ordered_at = Now::ZERO;
        });
        self.was_granted(&id);
        self.end(&id, (**end).clone());
        Some(id)
    }

    /// Who told of these jobs is answered once history knows. It tells one thing at a
    /// time, so whatever it said of them before has no listener any more.
    pub(super) fn must_tell(&mut self, token: Token, jobs: BTreeSet<JobId>) {
        let has_said = |(_, said): &mut (Token, BTreeSet<JobId>)| !said.is_disjoint(&jobs);
        let before = self.tellers.extract_if(.., has_said);
        let forget = before.map(|(token, _)| Effect::Forget { token });
        self.effects.extend(forget);
        self.tellers.push((token, jobs));
    }

    /// History knows of a job: so do those who told of it, when it was the last.
    pub(super) fn tellers_are_told(&mut self, id: &JobId) {
        for (_, jobs) in &mut self.tellers {
            jobs.remove(id);
        }
        let done = self.tellers.extract_if(.., |(_, jobs)| jobs.is_empty());
        let acknowledge = done.map(|(token, _)| Effect::Acknowledge { token });
        self.effects.extend(acknowledge);
    }
}
