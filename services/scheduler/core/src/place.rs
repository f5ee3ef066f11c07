//! Which replica each waiting job of one pool goes to.

use crate::Now;
use crate::attempt::exhausted;
use crate::doubt::{Doubt, doubt};
use crate::filter::{
    Candidate, can_continue, candidates, falls_back, goes_on, is_preferred, is_tied, removed_by,
};
use crate::plan::{Plan, Step};
use crate::policy::PoolPolicy;
use crate::report::{Decided, decided};
use crate::score::{Load, Score};
use crate::state::{ClusterState, JobView, Phase, ReplicaKey};
use orchion_contract::job::{Assignment, MAX_ATTEMPTS, Priority};
use orchion_contract::placement::FilterName;
use orchion_contract::{ErrorBody, JobId, ModelName, UnixMs};
use std::collections::{BTreeMap, BTreeSet};

/// How often a batch job gives its slot away; then it is left to end.
const MOST_YIELDS: u32 = 32;

const FULL: &str = "every slot of every replica that could take it is in use";

/// Places every waiting job that can be placed now.
pub(crate) fn place(state: &ClusterState, now: Now, unix_ms: UnixMs, plan: &mut Plan) {
    for (model, queue) in state.queues() {
        let mut room = Room::new(state, model, now);
        for id in queue {
            let Some(job) = state.job(id) else { continue };
            match room.choose(job) {
                Choice::Replica(chosen) => {
                    plan.decisions
                        .push((*id, room.decided(job, &chosen, unix_ms)));
                    room.take(&chosen.candidate, job);
                    plan.steps.push(Step::Assign {
                        job: *id,
                        assignment: assignment(&chosen.candidate, unix_ms),
                    });
                }
                Choice::Later(at) => plan.look_again(at),
                Choice::GiveUp(error) => plan.steps.push(Step::GiveUp { job: *id, error }),
                Choice::Nowhere { rests_until } => {
                    if let Some(at) = rests_until {
                        plan.look_again(at);
                    }
                    plan.waiting.insert(model.clone(), FULL);
                    match room.make_way(job) {
                        Way::Coming => {}
                        Way::By(victim) => plan.steps.push(Step::Preempt {
                            job: victim,
                            by: *id,
                        }),
                        Way::None if room.is_full() => break,
                        Way::None => {}
                    }
                }
            }
        }
    }
}

/// The free replicas of one pool, while jobs are placed on them.
struct Room<'a> {
    state: &'a ClusterState,
    model: &'a ModelName,
    policy: &'a PoolPolicy,
    now: Now,
    /// What this plan has given away.
    taken: BTreeMap<&'a ReplicaKey, Taken>,
    /// Replicas that this plan has given to, ranked anew.
    ranked: BTreeSet<(Score, &'a ReplicaKey)>,
    turns: u64,
    /// Slots that batch jobs are leaving, for as many interactive ones.
    coming: usize,
    victims: BTreeSet<JobId>,
}

/// What this plan has given away of one replica.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    slots: u32,
    bytes: u64,
    /// Its rank since; `None` when it is full.
    score: Option<Score>,
}

/// How a batch job makes way.
enum Way {
    /// One is leaving already.
    Coming,
    /// This one has to.
    By(JobId),
    /// None can.
    None,
}

enum Choice<'a> {
    Replica(Chosen<'a>),
    Later(Now),
    GiveUp(ErrorBody),
    Nowhere { rests_until: Option<Now> },
}

struct Chosen<'a> {
    candidate: Candidate<'a>,
    tied: bool,
    fallback: bool,
}

impl<'a> Room<'a> {
    fn new(state: &'a ClusterState, model: &'a ModelName, now: Now) -> Self {
        Self {
            state,
            model,
            policy: state.settings().pool(model),
            now,
            taken: BTreeMap::new(),
            ranked: BTreeSet::new(),
            turns: state.turns(),
            coming: state.yielding_of(model),
            victims: BTreeSet::new(),
        }
    }

    /// Replicas with a free slot, best first.
    fn free(&self) -> impl Iterator<Item = Candidate<'a>> {
        let index = self.state.free_of(self.model);
        let untouched = index.filter(|(_, key)| !self.taken.contains_key(key));
        let mut untouched = untouched.map(|(score, key)| (*score, key)).peekable();
        let mut ranked = self.ranked.iter().copied().peekable();
        let merged = std::iter::from_fn(move || match (untouched.peek(), ranked.peek()) {
            (Some(a), Some(b)) if b < a => ranked.next(),
            (Some(_), _) => untouched.next(),
            (None, _) => ranked.next(),
        });
        merged.filter_map(|(_, key)| self.candidate(key))
    }

    fn candidate(&self, key: &'a ReplicaKey) -> Option<Candidate<'a>> {
        let candidate = Candidate::of(self.state, key)?;
        let taken = self.taken.get(key).copied().unwrap_or_default();
        Some(Candidate {
            used: candidate.used + taken.slots,
            memory_left: candidate.memory_left.saturating_sub(taken.bytes),
            ..candidate
        })
    }

    fn is_full(&self) -> bool {
        self.free().next().is_none()
    }

    fn choose(&self, job: &JobView) -> Choice<'a> {
        let tied = is_tied(self.state, job, self.now);
        let rests = self.now < job.not_before;
        if rests && job.avoid.is_none() {
            // It waits wherever it goes next.
            return Choice::Later(job.not_before);
        }
        if let Some(said) = &job.denials.said
            && job.denials.count >= MAX_ATTEMPTS
            && !self.is_there_better(job, tied, Doubt::Denied)
        {
            return Choice::GiveUp(exhausted(job, said));
        }
        let mut rests_until = None;
        let mut second_best: Option<(Doubt, Chosen<'a>)> = None;
        let choices: &[bool] = if falls_back(job) {
            &[false, true]
        } else {
            &[false]
        };
        for fallback in choices.iter().copied() {
            for candidate in self.free() {
                let doubt = match doubt(self.state, job, &candidate, self.now) {
                    Ok(doubt) => doubt,
                    Err(FilterName::Breaker) => {
                        let until = candidate.view.breaker.rests_until(self.now);
                        rests_until = sooner(rests_until, until);
                        continue;
                    }
                    Err(_) => continue,
                };
                let wanted = fallback || is_preferred(job, &candidate);
                if !wanted || (tied && !can_continue(job, candidate.view)) {
                    continue;
                }
                let chosen = Chosen {
                    candidate,
                    tied,
                    fallback,
                };
                if doubt == Doubt::None {
                    return Choice::Replica(chosen);
                }
                if second_best.as_ref().is_none_or(|(best, _)| doubt < *best) {
                    second_best = Some((doubt, chosen));
                }
            }
        }
        match second_best {
            _ if rests => Choice::Later(job.not_before),
            Some((doubt, _)) if doubt >= Doubt::Rests && self.is_there_better(job, tied, doubt) => {
                Choice::Nowhere { rests_until }
            }
            Some((_, chosen)) => Choice::Replica(chosen),
            None => Choice::Nowhere { rests_until },
        }
    }

    /// Whether some replica could take the job that is trusted more than this,
    /// though perhaps not now.
    fn is_there_better(&self, job: &JobView, tied: bool, than: Doubt) -> bool {
        candidates(self.state, job).any(|candidate| {
            let candidate = candidate.emptied();
            let is_wanted = is_preferred(job, &candidate) || falls_back(job);
            let may_go = is_wanted && (!tied || can_continue(job, candidate.view));
            may_go && doubt(self.state, job, &candidate, self.now).is_ok_and(|doubt| doubt < than)
        })
    }

    fn take(&mut self, candidate: &Candidate<'a>, job: &JobView) {
        let (key, view) = (candidate.key, candidate.view);
        let mut taken = self.taken.get(key).copied().unwrap_or_default();
        if let Some(score) = taken.score {
            self.ranked.remove(&(score, key));
        }
        self.turns += 1;
        taken.slots += 1;
        taken.bytes += self.state.memory_for(job, view);
        let has_room = candidate.used + 1 < view.replica.slots;
        taken.score = has_room.then(|| {
            let load = self.state.load(key, view, taken.slots, taken.bytes);
            let strategy = self.state.settings().strategy;
            strategy.score(&Load {
                turn: self.turns,
                ..load
            })
        });
        if let Some(score) = taken.score {
            self.ranked.insert((score, key));
        }
        self.taken.insert(key, taken);
    }

    /// How an interactive job gets the slot of a running batch job, if at all.
    fn make_way(&mut self, job: &JobView) -> Way {
        if !self.policy.preempt || job.record.priority != Priority::Interactive {
            return Way::None;
        }
        if self.coming > 0 {
            self.coming -= 1;
            return Way::Coming;
        }
        let batch = self.state.batch_on(self.model);
        let mut left = batch.filter(|id| !self.victims.contains(id));
        let Some(victim) = left.find(|id| self.may_yield(id, job)).copied() else {
            return Way::None;
        };
        self.victims.insert(victim);
        Way::By(victim)
    }

    /// Only who can be gone on with gives up a slot: nothing is lost then.
    fn may_yield(&self, id: &JobId, job: &JobView) -> bool {
        let Some(batch) = self.state.job(id) else {
            return false;
        };
        let key = batch.record.assigned.as_ref();
        let key = key.map(|to| (to.node.clone(), to.replica.clone()));
        let candidate = key.as_ref().and_then(|key| Candidate::of(self.state, key));
        candidate.is_some_and(|candidate| {
            batch.phase == Phase::Running
                && batch.yields < MOST_YIELDS
                && goes_on(candidate.view)
                && removed_by(self.state, job, &candidate.emptied(), self.now).is_none()
        })
    }

    fn decided(&self, job: &JobView, chosen: &Chosen<'a>, unix_ms: UnixMs) -> Decided {
        let look = |key: &'a ReplicaKey| self.candidate(key);
        let pool = self.state.replicas_of(self.model).filter_map(look);
        let mut decided = decided(self.state, job, pool, chosen.tied, self.now, unix_ms);
        decided.choose(&chosen.candidate, chosen.fallback);
        decided
    }
}

fn sooner(a: Option<Now>, b: Option<Now>) -> Option<Now> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn assignment(candidate: &Candidate<'_>, unix_ms: UnixMs) -> Assignment {
    Assignment {
        node: candidate.key.0.clone(),
        instance: candidate.node.instance.clone(),
        replica: candidate.key.1.clone(),
        engine: candidate.view.replica.engine.clone(),
        at_ms: unix_ms,
    }
}
