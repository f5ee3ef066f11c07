//! Being in charge: the core's inputs and effects, joined to the bus.

use crate::config::Scheduler;
use crate::desk::Desk;
use crate::effects::{End, Hands, UnderWay};
use crate::gather::{GATHER, Gather};
use crate::questions::Asked;
use crate::unix_ms;
use anyhow::bail;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use orchion_bus::{Bus, LeaseHandle};
use orchion_contract::job::{EndedJobs, JobEvent, JobEvents, JobSummary};
use orchion_scheduler_core::{Effect, Holder, Input, Moment, Note, Now};
use std::time::{Duration, Instant};

/// One stay in charge.
pub(crate) struct Charge {
    holder: Holder,
    hands: Hands,
    desk: Desk,
    /// Ends for history. Until they are told, the records of their jobs do not say
    /// that they ended; whoever takes over then reads it in the transcripts.
    history: Gather<JobSummary>,
    is_hurried: bool,
    states: Gather<JobEvent>,
    /// Last records; they come together, behind what history was told.
    ends: Gather<End>,
    bus: Bus,
    lease: LeaseHandle,
    epoch: u64,
    start: Instant,
    under_way: FuturesUnordered<UnderWay>,
}

impl Charge {
    pub(crate) fn new(bus: &Bus, lease: &LeaseHandle, epoch: u64, settings: &Scheduler) -> Self {
        Self {
            holder: Holder::new(epoch, settings.policy()),
            hands: Hands::new(bus),
            desk: Desk::default(),
            history: Gather::over(GATHER),
            is_hurried: false,
            states: Gather::over(GATHER),
            ends: Gather::over(Duration::ZERO),
            bus: bus.clone(),
            lease: lease.clone(),
            epoch,
            start: Instant::now(),
            under_way: FuturesUnordered::new(),
        }
    }

    /// Whether everything is read, so that questions may be asked.
    pub(crate) fn is_complete(&self) -> bool {
        self.holder.is_in_charge()
    }

    pub(crate) fn ask(&mut self, asked: Asked) {
        // An agent that tells of jobs nobody knew waits for history, and had gathered them.
        if let Asked::Ended(told) = &asked {
            self.is_hurried |= told.asked.granted.iter().any(|job| job.whole);
        }
        let input = self.desk.take_in(asked);
        self.hear(input);
    }

    pub(crate) fn hear(&mut self, input: Input) {
        self.holder.handle(input, self.moment());
    }

    /// Time has passed.
    pub(crate) fn look(&mut self) {
        let connected_for = self.bus.connected_since().map(|since| since.elapsed());
        self.hear(Input::Time { connected_for });
    }

    /// When to look again though nothing happened.
    pub(crate) fn next_wake(&self) -> Instant {
        let at = self.holder.next_deadline();
        let at = at.map_or_else(Instant::now, |at| self.start + at);
        let gathered = [self.history.due(), self.states.due(), self.ends.due()];
        gathered.into_iter().flatten().fold(at, Instant::min)
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// The next thing that came back.
    pub(crate) async fn done(&mut self) -> Option<Input> {
        while let Some(done) = self.under_way.next().await {
            if done.is_some() {
                return done;
            }
        }
        None
    }

    /// Does all that the core wants done. An error means that we may not be in charge.
    pub(crate) fn perform(&mut self) -> anyhow::Result<()> {
        while let Some(effect) = self.holder.next_effect() {
            self.start_on(effect)?;
        }
        if std::mem::take(&mut self.is_hurried) {
            self.history.hurry();
        }
        while let Some(jobs) = self.history.next() {
            self.under_way
                .push(self.hands.tell_ends(EndedJobs { jobs }));
        }
        while let Some(changes) = self.states.next() {
            let told = self.hands.tell_states(JobEvents { changes });
            self.under_way.push(told);
        }
        while let Some(ends) = self.ends.next() {
            self.under_way.push(self.hands.write_ends(ends));
        }
        Ok(())
    }

    fn start_on(&mut self, effect: Effect) -> anyhow::Result<()> {
        let hands = &self.hands;
        let work = match effect {
            Effect::LoadRecords => Some(hands.load_records()),
            Effect::LookForOpen { after } => Some(hands.look_for_open(after)),
            Effect::ReadLast { reader, job } => Some(hands.read_last(reader, job)),
            Effect::Write {
                record,
                expected,
                ttl,
            } => Some(hands.write(record, expected, ttl)),
            Effect::WriteEnd { record, expected } => {
                self.ends.add(End { record, expected });
                None
            }
            Effect::ReadRecord { job } => Some(hands.read(job)),
            Effect::Order { node, order } => Some(hands.order(node, order)),
            Effect::Open { reader, job, mark } => Some(hands.open(reader, job, mark)),
            Effect::Finalize { reader, job, end } => Some(hands.finalize(reader, job, end)),
            Effect::Cancel { node, order } => Some(hands.cancel(node, order)),
            Effect::Drop { node, order } => Some(hands.drop_attempt(node, order)),
            Effect::TellEnd(summary) => {
                self.history.add(*summary);
                None
            }
            Effect::TellState(event) => {
                self.states.add(event);
                None
            }
            Effect::LookUp { token, job } => Some(hands.look_up(token, job)),
            Effect::Admit { token, answer } => self.desk.admit(token, answer),
            Effect::Grant { gateway, grants } => Some(hands.grant(gateway, grants)),
            Effect::Describe { token, answer } => self.desk.describe(token, answer),
            Effect::List { token, list } => self.desk.list(token, list),
            Effect::Explain { token, answer } => self.desk.explain(token, answer),
            Effect::TellProgress { reader, progress } => {
                Some(hands.tell_progress(reader, progress))
            }
            Effect::Acknowledge { token } => self.desk.acknowledge(token),
            Effect::Forget { token } => {
                self.desk.forget(token);
                None
            }
            Effect::Outranked(epoch) => {
                self.lease.outranked(epoch);
                None
            }
            Effect::Reread { job } => {
                self.lease.doubted();
                bail!("the record of job {job} was written by somebody else");
            }
            Effect::Note(note) => {
                self.log(&note);
                None
            }
        };
        if let Some(work) = work {
            self.under_way.push(work);
        }
        Ok(())
    }

    fn log(&self, note: &Note) {
        match note {
            Note::WaitsAgain { job, .. } => tracing::warn!(job.id = %job, "{note}"),
            Note::Preempted { job, by } => {
                tracing::info!(job.id = %job, job.by = %by, "{note}");
            }
            Note::OrderedAgain { job, node } => {
                tracing::debug!(job.id = %job, node.id = %node, "{note}");
            }
            Note::GatewayGone { gateway, jobs } => {
                tracing::warn!(gateway.id = %gateway, jobs, "{note}");
            }
            Note::NotStored { job, error } => tracing::error!(job.id = %job, error, "{note}"),
            // No agent and no engine tells of it.
            Note::Ended {
                job,
                attempt: 0,
                error: Some(code),
                ..
            } => tracing::info!(job.id = %job, job.error = %code, "{note}"),
            Note::Ended {
                job,
                state,
                attempt,
                ..
            } => tracing::debug!(job.id = %job, job.state = %state, attempt, "{note}"),
            Note::InCharge { open } => tracing::info!(
                lease.epoch = self.epoch,
                jobs.open = open,
                duration_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
                "{note}"
            ),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.now(),
            unix_ms: unix_ms(),
        }
    }

    fn now(&self) -> Now {
        // Never zero, so that "not before" and "never" differ.
        self.start.elapsed() + Duration::from_millis(1)
    }
}
