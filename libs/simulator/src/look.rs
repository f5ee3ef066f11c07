//! Looks at the whole: while it goes on, and when it is over.

use crate::check::Property;
use crate::client::{Client, RESTARTED, State};
use crate::names;
use crate::net::Net;
use crate::scheduler::Scheduler;
use crate::wire::{Key, Value};
use crate::world::World;
use orchion_contract::job::{Door, Outcome};
use orchion_contract::transcript::{Final, Piece};
use orchion_contract::{ErrorCode, JobId, NodeId};
use orchion_scheduler_core::{ClusterState, Holder};
use orchion_transcript::{Reader, Shown};
use std::collections::{BTreeMap, BTreeSet};

/// A job was placed on this node: not beyond its slots.
pub(crate) fn capacity(net: &mut Net, state: &ClusterState, node: &NodeId) {
    let Some(view) = state.nodes().get(node) else {
        return;
    };
    for replica in view.replicas.values() {
        // Each simulated node has one replica.
        let placed = u32::try_from(state.placed_on(node).count()).unwrap_or(u32::MAX);
        let (placed, slots) = (placed.max(replica.recorded), replica.replica.slots);
        // Gateways may have filled slots meanwhile; their agents refuse what is too much.
        let is_granted = |job: &JobId| net.oracle.granted.contains_key(job);
        if placed <= slots || state.placed_on(node).any(is_granted) {
            continue;
        }
        let jobs = state.placed_on(node).filter_map(|job| state.job(job));
        let jobs = jobs.map(|job| {
            let record = &job.record;
            format!(
                "{}.{} {:?}",
                names::number(record.id),
                record.attempt,
                job.phase
            )
        });
        let jobs: Vec<String> = jobs.collect();
        net.broken(Property::Capacity, || {
            format!(
                "{placed} jobs are placed on the {slots} slots of node {node}: {}",
                jobs.join(", ")
            )
        });
    }
}

impl World {
    /// The first thing that is still under way.
    pub(crate) fn unfinished(&self) -> Option<String> {
        // What a power cut took from the record, nobody can end.
        let is_lost = |job: JobId| {
            self.net.oracle.tail_was_lost
                && match self
                    .net
                    .server
                    .keys
                    .get(&Key::Job(job))
                    .and_then(|slot| slot.value.as_ref())
                {
                    Some(Value::Job(record)) => record.state.is_ended(),
                    Some(Value::Node(_) | Value::Lease(_)) | None => true,
                }
        };
        if let Some(client) = self.clients.iter().find(|client| {
            let is_excused = is_lost(client.job) && !client.could_see_its_end(&self.net);
            !client.is_over() && !is_excused
        }) {
            let job = names::number(client.job);
            return Some(format!(
                "the caller of job {job} is still {:?}",
                client.state
            ));
        }
        if let Some(client) = self.clients.iter().find(|client| client.is_telling) {
            let job = names::number(client.job);
            return Some(format!("job {job} is being told of to nobody"));
        }
        let open = |slot: &&crate::server::Slot| match &slot.value {
            Some(Value::Job(job)) => !job.state.is_ended(),
            Some(Value::Node(_) | Value::Lease(_)) | None => false,
        };
        if let Some(Value::Job(job)) = self
            .net
            .server
            .keys
            .values()
            .find(open)
            .and_then(|slot| slot.value.as_ref())
        {
            return Some(format!(
                "job {} is recorded as {}",
                names::number(job.id),
                job.state
            ));
        }
        if let Some(agent) = self
            .agents()
            .find(|agent| !agent.ledger.in_hand().is_empty())
        {
            let left = agent.ledger.in_hand();
            return Some(format!("an agent has {} attempts in its hands", left.len()));
        }
        if self.agents().any(|agent| agent.ledger.running() > 0) {
            return Some("an agent runs what only a gateway knows of".to_owned());
        }
        if self.agents().any(|agent| agent.ledger.due().is_some()) {
            return Some("an agent has ends that nobody was told of".to_owned());
        }
        let Some(holder) = self
            .schedulers()
            .filter(|scheduler| scheduler.is_in_charge(&self.net))
            .find_map(Scheduler::holder)
        else {
            return Some("no scheduler is in charge".to_owned());
        };
        left_over(holder)
    }

    /// What must hold at the end.
    pub(crate) fn judge(&mut self) {
        let holders: Vec<&Holder> = self
            .schedulers()
            .filter(|scheduler| scheduler.is_in_charge(&self.net))
            .filter_map(Scheduler::holder)
            .collect();
        let slots = holders.iter().find_map(|holder| recorded(holder));
        let busy = self.agents().any(|agent| agent.ledger.busy(0) > 0);
        if let Some(what) = slots.or_else(|| busy.then(|| "an engine's slot is taken".to_owned())) {
            self.net.broken(Property::Quiet, || what);
        }
        let stays = self
            .net
            .server
            .keys
            .iter()
            .find_map(|(key, slot)| match (key, &slot.value) {
                (Key::Job(job), Some(Value::Job(_))) if slot.expires.is_none() => Some(*job),
                _ => None,
            });
        if let Some(job) = stays {
            self.net.broken(Property::Quiet, || {
                format!("the record of job {} stays for ever", names::number(job))
            });
        }
        let ends = self.ends();
        self.count_ends(&ends);
        self.judge_records(&ends);
        self.judge_ends(&ends);
        self.judge_clients(&ends);
        self.judge_history(&ends);
    }

    /// History knows of every job that ended at an agent which still lives, also of
    /// those that nobody told a scheduler of but that agent; and what was streamed is on
    /// record, for whoever read along may come back.
    fn judge_history(&mut self, ends: &BTreeMap<JobId, (Box<Final>, Vec<u32>)>) {
        if self.net.oracle.tail_was_lost {
            return;
        }
        let granted = self.net.oracle.granted.iter();
        let lives = granted.filter(|(_, agent)| agent.is_some_and(|agent| self.net.lives(agent)));
        let mut untold = lives.clone().filter(|(job, _)| {
            ends.contains_key(job) && !self.net.server.history.contains_key(job)
        });
        let streamed = self.clients.iter().filter(|client| client.is_streamed());
        let streamed: BTreeSet<JobId> = streamed.map(|client| client.job).collect();
        let mut unrecorded = lives.clone().filter(|(job, _)| {
            ends.contains_key(job) && streamed.contains(job) && !self.net.server.has_record(**job)
        });
        let what = match (untold.next(), unrecorded.next()) {
            (Some((job, _)), _) => {
                format!(
                    "job {} has ended and history does not know",
                    names::number(*job)
                )
            }
            (None, Some((job, _))) => {
                format!(
                    "job {} was streamed and is not on record",
                    names::number(*job)
                )
            }
            (None, None) => return,
        };
        self.net.broken(Property::History, || what);
    }

    /// The finals of all transcripts.
    fn ends(&self) -> BTreeMap<JobId, (Box<Final>, Vec<u32>)> {
        let mut ends = BTreeMap::new();
        for ((reader, job), chain) in &self.net.server.chains {
            // Where the record says that it is; another one is of a submission that was never stored.
            if let Some(Value::Job(record)) = self
                .net
                .server
                .keys
                .get(&Key::Job(*job))
                .and_then(|slot| slot.value.as_ref())
                && names::life(&record.reader) != *reader
            {
                continue;
            }
            let (mut reader, mut shown) = (Reader::new(), Vec::new());
            for stored in chain {
                let _ = reader.apply(stored.sequence, stored.entry.clone(), &mut shown);
            }
            let mut pieces = Vec::new();
            for shown in shown {
                match shown {
                    Shown::Piece { piece, .. } => pieces.push(attempt_of(&piece)),
                    Shown::Restarted { .. } => pieces.push(RESTARTED),
                    Shown::Ended(end) => {
                        ends.insert(*job, (end, std::mem::take(&mut pieces)));
                    }
                }
            }
        }
        ends
    }

    fn count_ends(&mut self, ends: &BTreeMap<JobId, (Box<Final>, Vec<u32>)>) {
        for (end, _) in ends.values() {
            let name = match (end.outcome, end.error.as_ref().map(|error| error.code)) {
                (Outcome::Completed, _) => "completed",
                (Outcome::Canceled, _) => "canceled",
                (Outcome::Failed, Some(ErrorCode::DeadlineUnmet)) => "deadline",
                (Outcome::Failed, Some(ErrorCode::ReplicaExhausted)) => "exhausted",
                (Outcome::Failed, _) => "failed",
            };
            *self.net.counts.ends.entry(name).or_default() += 1;
        }
    }

    /// What the records say of ends.
    fn judge_records(&mut self, ends: &BTreeMap<JobId, (Box<Final>, Vec<u32>)>) {
        let broken = self.net.server.jobs().into_iter().find_map(|(job, _)| {
            let (n, state) = (names::number(job.id), job.state);
            match ends.get(&job.id) {
                None => Some(format!("job {n} is {state} and has no final")),
                Some((end, _)) if state != end.outcome.state() => Some(format!(
                    "job {n} is {state} and its final says {:?}",
                    end.outcome
                )),
                Some(_) => None,
            }
        });
        if let Some(what) = broken.filter(|_| !self.net.oracle.tail_was_lost) {
            self.net.broken(Property::OneFinal, || what);
        }
    }

    /// What the ends say, of jobs on record and of those that ended before that.
    fn judge_ends(&mut self, ends: &BTreeMap<JobId, (Box<Final>, Vec<u32>)>) {
        let is_calm = self.scenario.faults.is_empty();
        let mut broken: Vec<(Property, String)> = Vec::new();
        for (job, (end, pieces)) in ends {
            let n = names::number(*job);
            let (length, _) = self.net.work(n);
            let pieces = pieces.iter().rev();
            let since_restart = pieces.take_while(|attempt| **attempt != RESTARTED).count();
            if end.outcome == Outcome::Completed && since_restart as u64 != length {
                broken.push((
                    Property::Whole,
                    format!("job {n} is complete with {since_restart} of {length} pieces"),
                ));
            }
            let failures = self.net.oracle.failures.get(job).copied();
            let failures = failures.unwrap_or_default();
            let code = end.error.as_ref().map(|error| error.code);
            if code == Some(ErrorCode::ReplicaExhausted) && failures < 3 {
                broken.push((
                    Property::Cause,
                    format!("job {n} is out of attempts after {failures} failures"),
                ));
            }
            let may_be_dropped =
                code == Some(ErrorCode::DeadlineUnmet) || self.scenario.queue_capacity < 100;
            if is_calm && end.outcome == Outcome::Failed && !may_be_dropped {
                broken.push((
                    Property::Cause,
                    format!("job {n} failed in a calm life: {code:?}"),
                ));
            }
        }
        if let Some((property, what)) = broken.into_iter().next() {
            self.net.broken(property, || what);
        }
    }

    fn judge_clients(&mut self, ends: &BTreeMap<JobId, (Box<Final>, Vec<u32>)>) {
        let oracle = &self.net.oracle;
        let mut broken: Vec<(Property, String)> = Vec::new();
        // Whoever came before a power cut may have seen what it took.
        let clients = self.clients.iter();
        let sound =
            |client: &&Client| !oracle.tail_was_lost || client.came_at > oracle.tail_lost_at;
        for client in clients.filter(sound) {
            let n = names::number(client.job);
            let end = ends.get(&client.job);
            if client.admitted && end.is_none() {
                broken.push((
                    Property::Ends,
                    format!("job {n} was admitted and has no final"),
                ));
            }
            if client.state != State::Done {
                let is_let_down = client.admitted && client.door == Door::Task && !client.canceled;
                if is_let_down {
                    broken.push((
                        Property::Ends,
                        format!("the caller of job {n} got no end: {:?}", client.state),
                    ));
                }
                continue;
            }
            let Some((end, pieces)) = end else { continue };
            let from = usize::try_from(client.from)
                .unwrap_or(usize::MAX)
                .min(pieces.len());
            if client.shown != pieces[from..] {
                broken.push((
                    Property::AsStored,
                    format!(
                        "the caller of job {n} saw {} pieces of {}",
                        client.shown.len(),
                        pieces.len() - from
                    ),
                ));
            }
            if client.end.as_ref() != Some(end) {
                broken.push((
                    Property::AsStored,
                    format!("the caller of job {n} saw another end"),
                ));
            }
        }
        if let Some((property, what)) = broken.into_iter().next() {
            self.net.broken(property, || what);
        }
    }
}

/// Which attempt said this.
fn attempt_of(piece: &Piece) -> u32 {
    let text = piece.text.as_deref().unwrap_or_default();
    let attempt = text.strip_prefix('a').and_then(|rest| rest.split_once('i'));
    attempt
        .and_then(|(attempt, _)| attempt.parse().ok())
        .unwrap_or(u32::MAX)
}

fn left_over(holder: &Holder) -> Option<String> {
    let open = holder.state().open_jobs();
    if open > 0 {
        return Some(format!("the scheduler has {open} open jobs"));
    }
    let unsettled = holder.unsettled_records();
    (unsettled > 0).then(|| format!("the scheduler has {unsettled} records to write"))
}

fn recorded(holder: &Holder) -> Option<String> {
    let nodes = holder.state().nodes().iter();
    let mut replicas =
        nodes.flat_map(|(node, view)| view.replicas.values().map(move |replica| (node, replica)));
    let taken = replicas.find(|(_, replica)| replica.recorded > 0)?;
    Some(format!(
        "{} slots of node {} are taken by nobody",
        taken.1.recorded, taken.0
    ))
}
