//! The model as the checker sees it: where it begins, what may happen, and what
//! must always hold.

mod action;
mod offers;
mod step;

use crate::faults::{Faults, Planted};
use crate::property::{self, has_ended_everywhere};
use crate::state::{Agent, Lease, Process, Scheduler, Seen, State};
pub use action::Action;
use offers::{agent_actions, faults, places, scheduler_actions};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// What may go wrong.
    pub faults: Faults,
    /// Whether histories begin with a brief answer, too; else all are streamed.
    pub has_brief: bool,
    /// The rule that is left out.
    pub planted: Option<Planted>,
}

impl Protocol {
    /// What is checked each time: two faults of agents, engines and callers, and one
    /// of any kind.
    pub const SUITES: &'static [(&'static str, Self)] = &[
        (
            "two faults of agents, engines and callers",
            Self {
                has_brief: false,
                ..Self::with(Faults::TWO)
            },
        ),
        ("one fault of any kind", Self::with(Faults::up_to(1))),
    ];

    /// Both kinds of answers, with these faults.
    #[must_use]
    pub const fn with(faults: Faults) -> Self {
        Self {
            faults,
            has_brief: true,
            planted: None,
        }
    }
}

const BOTH: [u8; 2] = [0, 1];

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let agent = |agent| Agent::new(Process { agent, instance: 0 });
        let state = |is_brief| State {
            is_brief,
            chain: Vec::new(),
            record: None,
            lease: Lease {
                holder: None,
                epoch: 0,
            },
            schedulers: [Scheduler::Standby, Scheduler::Standby],
            agents: [agent(0), agent(1)],
            net: Vec::new(),
            is_admitted: false,
            wants_cancel: false,
            left: self.faults,
            seen: Seen::default(),
        };
        match self.has_brief {
            true => vec![state(false), state(true)],
            false => vec![state(false)],
        }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for scheduler in BOTH {
            // A round of the scheduler ends with writing what it changed. Nobody
            // else can tell when that leaves, so nobody else moves before.
            let allowed = self.planted == Some(Planted::RecordBeforeMark);
            if let Some(job) = state.job_of(scheduler)
                && state.lease.holder == Some(scheduler)
                && !job.reads_record
                && job.wants_write(allowed)
            {
                actions.push(Action::Flush(scheduler));
                if job.may_write_unheard() {
                    actions.push(Action::FlushUnheard(scheduler));
                }
                places(state, scheduler, actions);
                return;
            }
        }
        for scheduler in BOTH {
            scheduler_actions(state, scheduler, self.planted, actions);
        }
        for agent in BOTH {
            agent_actions(state, agent, actions);
        }
        for (at, message) in state.net.iter().enumerate() {
            if at == 0 || state.net[at - 1] != *message {
                actions.push(Action::Deliver(at));
            }
        }
        // Who submitted a job without a record may ask for it behind its end.
        let may_ask = state.record.is_none() && !state.is_admitted;
        if state.left.together > 0 && (may_ask || !has_ended_everywhere(state)) {
            faults(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        next.take(action, self.planted);
        next.publish();
        next.tidy(self.planted);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        property::all()
    }
}
