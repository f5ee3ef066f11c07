//! Which steps a state offers.

use super::{Action, BOTH};
use crate::faults::Planted;
use crate::state::{Job, Message, Phase, Record, Scheduler, State};

pub(super) fn scheduler_actions(
    state: &State,
    scheduler: u8,
    planted: Option<Planted>,
    actions: &mut Vec<Action>,
) {
    let holds = state.lease.holder == Some(scheduler);
    match &state.schedulers[usize::from(scheduler)] {
        // Who is first does not matter: they are equal.
        Scheduler::Standby if state.lease.epoch == 0 && scheduler != 0 => {}
        Scheduler::Standby if state.lease.holder.is_none() => {
            actions.push(Action::Acquire(scheduler));
        }
        Scheduler::Standby => {}
        Scheduler::Reading { .. } => match holds {
            true => actions.push(Action::TakeOver(scheduler)),
            false => actions.push(Action::Notice(scheduler)),
        },
        Scheduler::InCharge(_) => {
            if !holds {
                actions.push(Action::Notice(scheduler));
            }
            match holds {
                true => in_charge(state, scheduler, planted, actions),
                false if state.left.zombie_steps > 0 => loops(state, scheduler, actions),
                false => {}
            }
        }
    }
}

fn in_charge(state: &State, scheduler: u8, planted: Option<Planted>, actions: &mut Vec<Action>) {
    let Some(holder) = state.holder(scheduler) else {
        return;
    };
    if !state.is_admitted {
        actions.push(Action::Submit(scheduler));
        let has_said = state.granted.is_some_and(|granted| granted.said.is_some());
        if has_said && holder.job.is_none() {
            actions.push(Action::SubmitAnswered(scheduler));
        }
    }
    for agent in BOTH {
        let view = holder.nodes[usize::from(agent)];
        if view.is_lost || view.instance != state.agents[usize::from(agent)].instance {
            actions.push(Action::News(scheduler, agent));
        }
        actions.push(Action::Beat(scheduler, agent));
        // Where all orders are this scheduler's, it tells the agent nothing new.
        let has_heard = state.agents[usize::from(agent)].heard >= holder.epoch;
        if state.granted.is_some() && holder.epoch > 1 && !has_heard {
            actions.push(Action::Speak(scheduler, agent));
        }
        if !state.agents[usize::from(agent)]
            .ledger
            .get()
            .untold(1)
            .is_empty()
        {
            actions.push(Action::Tell(agent, scheduler));
        }
    }
    let looks = planted != Some(Planted::LastRecordBelieved);
    let Some(job) = &holder.job else {
        if looks && state.record.is_some_and(is_open) {
            actions.push(Action::LookForOpen(scheduler));
        }
        return;
    };
    if state.wants_cancel && !matches!(job.phase, Phase::Ending | Phase::Ended) {
        actions.push(Action::Cancel(scheduler));
    }
    places(state, scheduler, actions);
    if job.reads_record {
        actions.push(Action::ReadRecord(scheduler));
    }
    if job.waits_for_end() {
        actions.push(Action::RecordIsDue(scheduler));
    }
    if looks && looks_for_open(state, job) {
        actions.push(Action::LookForOpen(scheduler));
    }
    loops(state, scheduler, actions);
    if job.stops {
        actions.push(Action::StopTimesOut(scheduler));
    }
}

fn is_open((_, record): (u8, Record)) -> bool {
    !record.has_ended()
}

/// Whether the record says open though the job has ended, and nothing is under way
/// that would change that.
fn looks_for_open(state: &State, job: &Job) -> bool {
    let is_written = |message: &Message| matches!(message, Message::Write { .. });
    job.phase == Phase::Ended
        && (job.ledger.get().is_clean() || job.is_unrecorded())
        && state.record.is_some_and(is_open)
        && !state.net.iter().any(is_written)
}

/// The next steps of what writes into the transcript. These go on by themselves,
/// and look at no lease.
fn loops(state: &State, scheduler: u8, actions: &mut Vec<Action>) {
    let Some(job) = state.job_of(scheduler) else {
        return;
    };
    if job.opens.is_some_and(|opens| !opens.is_sent) {
        actions.push(Action::Loop(scheduler, true));
    }
    if job.finalizes.is_some_and(|finalizes| !finalizes.is_sent) {
        actions.push(Action::Loop(scheduler, false));
    }
}

pub(super) fn places(state: &State, scheduler: u8, actions: &mut Vec<Action>) {
    let Some(holder) = state.holder(scheduler) else {
        return;
    };
    let Some(job) = &holder.job else { return };
    if job.phase == Phase::Queued {
        // Which agent is first does not matter either.
        let is_first = state.is_untouched() && job.record.attempt == 0;
        let alive = BOTH
            .into_iter()
            .filter(|agent| *agent == 0 || !is_first)
            .filter(|agent| !holder.nodes[usize::from(*agent)].is_lost);
        actions.extend(alive.map(|agent| Action::Place(scheduler, agent)));
    }
}

pub(super) fn agent_actions(state: &State, agent: u8, actions: &mut Vec<Action>) {
    for running in &state.agents[usize::from(agent)].attempts {
        if running.asker.is_some() {
            actions.push(Action::Accept(agent, running.attempt));
        }
        if running.writer.is_none() {
            actions.push(Action::Find(agent, running.attempt));
        }
        if running.may_say() {
            actions.push(Action::Says(agent, running.attempt));
        }
        if running.reads() {
            actions.push(Action::ReadLast(agent, running.attempt));
        }
    }
}

pub(super) fn faults(state: &State, actions: &mut Vec<Action>) {
    let left = state.left;
    if left.network > 0 {
        for (at, message) in state.net.iter().enumerate() {
            let (is_awaited, is_told) = match message {
                Message::Append { from, .. } => (from.is_some(), true),
                Message::Write { from, .. }
                | Message::Order { from, .. }
                | Message::Stop { from, .. } => (from.is_some(), true),
                Message::Granted { hears, .. } => (*hears, true),
                Message::Said(_) | Message::Ended { .. } | Message::Answer { .. } => (false, false),
            };
            actions.push(Action::Lose(at));
            if is_awaited {
                actions.extend([Action::LoseAnswer(at), Action::Late(at)]);
            }
            if is_told {
                actions.push(Action::Double(at));
            }
        }
    }
    for scheduler in BOTH {
        let is_standby = state.schedulers[usize::from(scheduler)] == Scheduler::Standby;
        if left.scheduler_crashes > 0 && !is_standby {
            actions.push(Action::CrashScheduler(scheduler));
        }
        for agent in BOTH {
            if left.suspicions > 0
                && state
                    .holder(scheduler)
                    .is_some_and(|holder| !holder.nodes[usize::from(agent)].is_lost)
            {
                actions.push(Action::Suspect(scheduler, agent));
            }
            if left.suspicions > 0
                && state.holder(scheduler).is_some()
                && state.lease.holder == Some(scheduler)
                && state.is_stranger(scheduler)
                && !state.agents[usize::from(agent)].in_hand().is_empty()
            {
                actions.push(Action::Stranger(scheduler, agent));
            }
            if left.network > 0
                && state.holder(scheduler).is_some()
                && !state.agents[usize::from(agent)]
                    .ledger
                    .get()
                    .untold(1)
                    .is_empty()
            {
                actions.push(Action::TellInVain(agent, scheduler));
            }
        }
    }
    if left.lost_leases > 0 && state.lease.holder.is_some() {
        actions.push(Action::LoseLease);
    }
    for agent in BOTH {
        if left.agent_crashes > 0 {
            actions.push(Action::CrashAgent(agent));
        }
        if left.engine_failures > 0 {
            let running = state.agents[usize::from(agent)].attempts.iter();
            let saying = running.filter(|running| running.may_say());
            actions.extend(saying.map(|running| Action::EngineFails(agent, running.attempt)));
        }
    }
    // Of what its gateway has ordered by itself the scheduler is told first.
    let may_cancel = state.is_admitted || state.granted.is_some();
    if left.cancels > 0 && may_cancel && !state.has_final() {
        actions.push(Action::WantCancel);
    }
}
