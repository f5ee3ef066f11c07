//! The model as the checker sees it: where it begins, what may happen, and what
//! must always hold.

mod action;
mod offers;
mod step;

use crate::faults::{Faults, Planted};
use crate::property::{self, has_ended_everywhere};
use crate::state::{Agent, Granted, Holder, Lease, Message, Process, Scheduler, Seen, State, View};
pub use action::Action;
use offers::{agent_actions, faults, places, scheduler_actions};
use stateright::{Model, Property};

/// How a history begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The answer is wanted whole, and is thought to come soon; else it is streamed.
    pub is_brief: bool,
    /// The gateway orders the first attempt by itself; else it asks the scheduler.
    pub is_granted: bool,
}

impl Beginning {
    const STREAMED: Self = Self {
        is_brief: false,
        is_granted: false,
    };

    const GRANTED_STREAMED: Self = Self {
        is_granted: true,
        ..Self::STREAMED
    };

    /// The scheduler is asked.
    pub const USUAL: &'static [Self] = &[
        Self::STREAMED,
        Self {
            is_brief: true,
            ..Self::STREAMED
        },
    ];

    /// The gateway orders by itself.
    pub const GRANTED: &'static [Self] = &[
        Self::GRANTED_STREAMED,
        Self {
            is_brief: true,
            is_granted: true,
        },
    ];
}

#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    /// What may go wrong.
    pub faults: Faults,
    /// How histories begin.
    pub begins: &'static [Beginning],
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
                begins: &[Beginning::STREAMED],
                ..Self::with(Faults::TWO)
            },
        ),
        ("one fault of any kind", Self::with(Faults::up_to(1))),
        (
            "ordered by the gateway, two faults of agents, engines and callers",
            Self {
                begins: &[Beginning::GRANTED_STREAMED],
                ..Self::with(Faults::TWO)
            },
        ),
        (
            "ordered by the gateway, one fault of any kind",
            Self::granted(Faults::up_to(1)),
        ),
    ];

    /// Both kinds of answers, asked of the scheduler, with these faults.
    #[must_use]
    pub const fn with(faults: Faults) -> Self {
        Self {
            faults,
            begins: Beginning::USUAL,
            planted: None,
        }
    }

    /// Both kinds of answers, ordered by the gateway, with these faults.
    #[must_use]
    pub const fn granted(faults: Faults) -> Self {
        Self {
            begins: Beginning::GRANTED,
            ..Self::with(faults)
        }
    }

    fn init_state(&self, begins: Beginning) -> State {
        let agent = |agent| Agent::new(Process { agent, instance: 0 });
        let state = State {
            is_brief: begins.is_brief,
            granted: None,
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
        match begins.is_granted {
            true => ordered_by_gateway(state),
            false => state,
        }
    }
}

const BOTH: [u8; 2] = [0, 1];
/// Epoch of the scheduler that has granted a slot.
const GRANTED_BY: u8 = 1;

/// The first scheduler is in charge, has granted a slot of one of two equal agents,
/// and the order is on its way. Nobody else knows of the job, so whatever befalls
/// them before may as well befall them while the order is under way: a grant that is
/// out of date is an order that comes late.
fn ordered_by_gateway(state: State) -> State {
    let (epoch, scheduler, to) = (GRANTED_BY, 0, state.process(0));
    let view = View {
        instance: to.instance,
        is_lost: false,
    };
    let holder = Holder {
        epoch,
        nodes: [view; 2],
        job: None,
    };
    State {
        granted: Some(Granted { to, said: None }),
        lease: Lease {
            holder: Some(scheduler),
            epoch,
        },
        schedulers: [Scheduler::InCharge(Box::new(holder)), Scheduler::Standby],
        net: vec![Message::Granted {
            epoch,
            to,
            hears: true,
        }],
        ..state
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let begins = self.begins.iter();
        begins.map(|begins| self.init_state(*begins)).collect()
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
