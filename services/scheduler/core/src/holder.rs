//! The scheduler in charge: hears what happened, says what to do.
//!
//! One holder is one stay in charge, under one epoch of the lease. It begins by
//! reading everything ([`takeover`]); then it plans whenever something changed.
//! Writes of one job are serialized by its [`Ledger`]. Who was told of something
//! by an [`Effect`] may be asked again: every input may come twice, late or never.

mod endings;
mod grants;
mod news;
mod orders;
mod questions;
mod records;
mod takeover;

use crate::gateways::Gateways;
use crate::grants::Granting;
use crate::outlook::Outlook;
use crate::report::Decided;
use crate::{
    ClusterState, Effect, Input, JobView, Ledger, Moment, Note, Now, Phase, Reply, Settings, Step,
    Token, plan,
};
use orchion_contract::job::{Admission, CancelReason, Job, JobEvent, JobState};
use orchion_contract::node::RunningAttempt;
use orchion_contract::placement::DecisionOutcome;
use orchion_contract::progress::{Progress, ProgressEvent};
use orchion_contract::transcript::Mark;
use orchion_contract::{JobId, ModelName, NodeId, ReaderId};
use records::Stamp;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use takeover::Stage;

/// Ended jobs kept in memory; older ones are read from their records.
const REMEMBERED: usize = 2_000;
/// Ended jobs whose decisions are kept.
const EXPLAINED: usize = 500;
/// How long the first record of a job waits for its end, where the end is all that
/// its caller gets to see.
const RECORD_WAITS: Duration = Duration::from_millis(25);
/// Longest time between two looks at what may be overdue.
const TICK: Duration = Duration::from_secs(1);

/// What hangs on a job beside its record.
#[derive(Debug)]
struct Open {
    ledger: Ledger,
    /// The attempt that was ordered last, and how often.
    ordered: (u32, u32),
    /// Whether history knows of the end: the record says so afterwards.
    told: bool,
    /// What was written last, to know it again.
    written: Option<Stamp>,
    /// Until when the first record waits for the end, if it does.
    held: Option<Now>,
    /// The last attempt whose mark is known to be stored.
    marked: u32,
    /// Who waits for the admission to be stored.
    admissions: Vec<Token>,
    /// Who waits for the end.
    cancelers: Vec<Token>,
}

impl Open {
    fn new(revision: u64) -> Box<Self> {
        Box::new(Self {
            ledger: Ledger::new(revision),
            ordered: (0, 0),
            told: false,
            written: None,
            held: None,
            marked: 0,
            admissions: Vec::new(),
            cancelers: Vec::new(),
        })
    }
}

/// The scheduler in charge.
#[derive(Debug)]
pub struct Holder {
    epoch: u64,
    at: Moment,
    stage: Stage,
    state: ClusterState,
    /// Boxed, like everything large by job: nodes of a map hold eleven.
    open: BTreeMap<JobId, Box<Open>>,
    /// Records of jobs that ended: being written, or remembered.
    ended: BTreeMap<JobId, Box<Job>>,
    /// Those, oldest first, and since when each is remembered.
    ended_order: VecDeque<(Now, JobId)>,
    touched: BTreeSet<JobId>,
    effects: VecDeque<Effect>,
    outlook: Outlook,
    /// What was decided about jobs that ended.
    decided: VecDeque<(JobId, VecDeque<Decided>)>,
    gateways: Gateways,
    granting: Granting,
    /// What agents have answered to orders of jobs that nobody here knows yet.
    early: VecDeque<(JobId, Reply)>,
    /// Who told of ends that no record will ever say: answered once history knows.
    tellers: Vec<(Token, BTreeSet<JobId>)>,
    /// Attempts of jobs that nobody here knows, as the last heartbeats told.
    strangers: BTreeMap<NodeId, BTreeSet<RunningAttempt>>,
    next_plan: Option<Now>,
    /// Orders that nobody heard, to be sent again.
    unheard: BTreeSet<(Now, JobId)>,
    /// Jobs whose first records wait for their ends, and until when.
    held: BTreeSet<(Now, JobId)>,
    next_look: Now,
    /// When records are looked at again, and the pause before that.
    look_again: (Now, Duration),
    /// The last revision that was looked at.
    looked_upto: u64,
    must_plan: bool,
    /// Jobs that came since the last plan.
    newcomers: Vec<JobId>,
}

impl Holder {
    /// Takes over under this epoch of the lease.
    #[must_use]
    pub fn new(epoch: u64, settings: Settings) -> Self {
        Self {
            epoch,
            at: Moment::default(),
            stage: Stage::default(),
            state: ClusterState::new(settings),
            open: BTreeMap::new(),
            ended: BTreeMap::new(),
            ended_order: VecDeque::new(),
            touched: BTreeSet::new(),
            effects: VecDeque::new(),
            outlook: Outlook::default(),
            decided: VecDeque::new(),
            gateways: Gateways::default(),
            granting: Granting::default(),
            early: VecDeque::new(),
            tellers: Vec::new(),
            strangers: BTreeMap::new(),
            next_plan: None,
            unheard: BTreeSet::new(),
            held: BTreeSet::new(),
            next_look: Now::ZERO,
            look_again: (Now::ZERO, Duration::ZERO),
            looked_upto: 0,
            must_plan: true,
            newcomers: Vec::new(),
        }
    }

    /// Takes in what happened. Planning waits for [`Holder::next_effect`], so
    /// that things which happen together are decided together.
    pub fn handle(&mut self, input: Input, at: Moment) {
        if matches!(self.stage, Stage::Void) {
            return;
        }
        self.at = at;
        match input {
            Input::Node { id, node } => self.node_changed(&id, node.as_deref()),
            Input::Gateway { gateway, lives } => self.gateway_changed(gateway, lives),
            Input::Beat(beat) => self.heartbeat(&beat),
            Input::NodesLoaded => self.nodes_loaded(),
            Input::GatewaysLoaded => self.gateways_loaded(),
            Input::Records(records) => self.records_loaded(records),
            Input::FoundOpen { jobs, upto } => self.found_open(jobs, upto),
            Input::Last { job, last } => self.last_read(&job, last.as_deref()),
            Input::Asked { token, question } => self.asked(token, question),
            Input::Time { connected_for } => self.time(connected_for),
            Input::Written { job, result } => self.written(&job, result),
            Input::EndsWritten { jobs, is_sure } => {
                jobs.iter().for_each(|job| self.end_written(job, is_sure));
            }
            Input::Read { job, found } => self.read(&job, found),
            Input::Replied {
                job,
                attempt,
                reply,
            } => self.replied(&job, attempt, reply),
            Input::Opened { job, attempt, end } => self.opened(&job, attempt, end),
            Input::Overtaken { job } => self.overtaken(job),
            Input::Finalized { job, end } => self.end(&job, crate::job_end(&end, at.unix_ms)),
            Input::Canceled { job, reply } => self.canceled(&job, reply),
            Input::Told { jobs } => jobs.iter().for_each(|job| self.told(job)),
            Input::LookedUp { token, job, found } => self.looked_up(token, &job, found),
        }
    }

    /// The next thing to do, if any.
    pub fn next_effect(&mut self) -> Option<Effect> {
        if self.effects.is_empty() && self.is_in_charge() {
            self.decide();
        }
        self.effects.pop_front()
    }

    /// When [`Input::Time`] is wanted though nothing happened.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Now> {
        if !self.is_in_charge() {
            return None;
        }
        let told = self.outlook.next_due(&self.state);
        let waiting = [&self.unheard, &self.held];
        let waiting = waiting.into_iter().filter_map(BTreeSet::first);
        let waiting = waiting.map(|(at, _)| *at);
        let granted = self.granting.next_due();
        let first = self.next_plan.into_iter().chain(told).chain(granted);
        let first = first.chain(waiting).min();
        Some(first.map_or(self.next_look, |first| first.min(self.next_look)))
    }

    /// Whether everything is read. Before, no question may be asked.
    #[must_use]
    pub fn is_in_charge(&self) -> bool {
        matches!(self.stage, Stage::InCharge)
    }

    /// What is known of the cluster.
    #[must_use]
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// Jobs whose last write is not stored yet, or whose end is not told yet.
    #[must_use]
    pub fn unsettled_records(&self) -> usize {
        let is_unsettled =
            |id: &JobId, open: &Open| !open.ledger.is_clean() || self.state.job(id).is_none();
        let open = self.open.iter();
        open.filter(|(id, open)| is_unsettled(id, open)).count()
    }

    /// Plans until nothing is left to do, then writes what has changed.
    fn decide(&mut self) {
        while std::mem::take(&mut self.must_plan) {
            let plan = plan(&self.state, self.at.now, self.at.unix_ms);
            self.next_plan = plan.next;
            for (job, decision) in plan.decisions {
                self.state.update(&job, |job| job.decided(decision));
            }
            for step in plan.steps {
                self.must_plan = true;
                self.perform(step);
            }
        }
        for job in std::mem::take(&mut self.newcomers) {
            // Who is placed at once never waits.
            let waits = |job: &JobView| job.phase == Phase::Queued;
            if self.state.job(&job).is_some_and(waits) {
                self.tell_state(&job, "it waits for a slot");
            }
        }
        for job in std::mem::take(&mut self.touched) {
            self.write(&job);
        }
        for (reader, progress) in self.outlook.tell(&self.state, self.at.now, self.at.unix_ms) {
            self.tell_progress(reader, progress);
        }
        let (epoch, at) = (self.epoch, self.at);
        for (gateway, grants) in self.granting.tell(&self.state, epoch, at.now, at.unix_ms) {
            self.effects.push_back(Effect::Grant { gateway, grants });
        }
    }

    fn perform(&mut self, step: Step) {
        match step {
            Step::Assign { job, assignment } => {
                self.granting.has_changed();
                let before = self.state.job(&job).map_or(0, |job| job.record.attempt);
                if before == 0 {
                    self.state.assign(&job, assignment, Phase::Ordered);
                    // The chain makes it safe to order before the record is stored.
                    self.hold_back(&job);
                    self.touch(&job);
                    self.order(&job);
                } else {
                    let mark = Mark {
                        attempt: before + 1,
                        node: assignment.node.clone(),
                        instance: assignment.instance.clone(),
                    };
                    self.state.assign(&job, assignment, Phase::Opening);
                    self.open_attempt(&job, mark);
                }
                self.tell_state(&job, "placed");
                let told = self.outlook.starts(&self.state, &job, self.at.unix_ms);
                if let Some((reader, progress)) = told {
                    self.tell_progress(reader, progress);
                }
            }
            Step::Release { job, reason } => {
                // Nobody tells what it stored: as long as nobody does, it stored something.
                self.state.update(&job, |job| job.has_prefix = true);
                self.note(Note::WaitsAgain {
                    job,
                    reason: reason.to_owned(),
                });
                self.decision(&job, DecisionOutcome::Released);
                self.release(&job, reason, ProgressEvent::Requeued);
            }
            Step::Preempt { job, by } => self.preempt(&job, &by),
            Step::GiveUp { job, error } => self.fail(&job, error),
            Step::Expire { job } => self.stop(&job, CancelReason::Deadline),
        }
    }

    fn release(&mut self, id: &JobId, reason: &str, event: ProgressEvent) {
        self.state.release(id);
        self.outlook.waits_again(id, event, self.at.now);
        self.touch(id);
        self.tell_state(id, reason.to_owned());
        self.must_plan = true;
    }

    fn decision(&mut self, id: &JobId, outcome: DecisionOutcome) {
        let unix_ms = self.at.unix_ms;
        self.state.update(id, |job| {
            let decision = Decided::plain(job, outcome, unix_ms);
            job.decided(decision);
        });
    }

    fn tell_progress(&mut self, reader: ReaderId, progress: Progress) {
        self.effects.push_back(Effect::TellProgress {
            reader,
            progress: Box::new(progress),
        });
    }

    fn tell_state(&mut self, id: &JobId, reason: impl Into<Cow<'static, str>>) {
        if let Some(job) = self.state.job(id) {
            let event = event(&job.record, job.state(), self.at, reason);
            self.effects.push_back(Effect::TellState(event));
        }
    }

    fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }

    fn gateway_expected(&mut self, gateway: &ReaderId) {
        self.gateways.expect(gateway, self.at.now);
    }

    /// Where an admitted job stands.
    fn admission(&mut self, id: &JobId) -> Option<Admission> {
        if let Some(record) = self.ended.get(id) {
            return Some(Admission {
                job: *id,
                reader: record.reader.clone(),
                state: record.state,
                queue_position: 0,
                predicted_start_ms: Some(0),
                reason: None,
                backoff_ms: 0,
                existed: true,
            });
        }
        let wait = self.outlook.admitted(&self.state, id, self.at.now);
        let job = self.state.job(id)?;
        let (reader, state) = (job.record.reader.clone(), job.record.state);
        let model = job.record.model.clone();
        Some(Admission {
            job: *id,
            reader,
            state,
            queue_position: wait.position,
            predicted_start_ms: wait.start_ms,
            reason: wait.reason,
            backoff_ms: self.backoff_ms(&model),
            existed: false,
        })
    }

    /// How long who has more to ask should wait: nothing up to four fifths of the
    /// queue, then more and more, up to the time that one slot needs.
    fn backoff_ms(&mut self, model: &ModelName) -> u64 {
        let capacity = self.state.settings().pool(model).capacity;
        let over = (self.state.queue_length(model) * 5).saturating_sub(capacity * 4);
        if over == 0 {
            return 0;
        }
        let usual = self
            .outlook
            .forecast(&self.state, model, self.at.now)
            .usual_ms;
        // `over` is at most the capacity, unless jobs came back.
        let (over, capacity) = (over.min(capacity) as u64, capacity.max(1) as u64);
        (usual * over).div_ceil(capacity)
    }
}

fn event(
    record: &Job,
    state: JobState,
    at: Moment,
    reason: impl Into<Cow<'static, str>>,
) -> JobEvent {
    JobEvent {
        job: record.id,
        state,
        attempt: record.attempt,
        node: record.assigned.as_ref().map(|to| to.node.clone()),
        at_ms: at.unix_ms,
        reason: reason.into(),
    }
}
