//! What must hold in every state.

use crate::agent::Reply;
use crate::model::Protocol;
use crate::readers;
use crate::state::{Author, Held, Link, Message, Outcome, Phase, Process, Recorded, State, TOKENS};
use stateright::{Model, Property};
use std::collections::BTreeMap;

/// All of them, with the sentence that each proves.
pub(crate) fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(
            "every reader gets each token once and in order",
            |_, state: &State| readers::all_are_right(&state.chain),
        ),
        Property::always("nothing follows a final", |_, state: &State| {
            let finals = state.chain.iter().rev().skip(1);
            !finals
                .into_iter()
                .any(|link| matches!(link, Link::Final { .. }))
        }),
        Property::always("a zombie adds nothing behind a mark", |_, state: &State| {
            no_older_attempt_writes(&state.chain)
        }),
        Property::always(
            "only the process that was meant writes",
            |_, state: &State| only_the_owner_writes(&state.chain),
        ),
        Property::always("an order follows its mark", |_, state: &State| {
            !state.seen.ordered_before_mark
        }),
        Property::always(
            "an agent obeys the newest scheduler only",
            |_, state: &State| !state.seen.older_epoch_obeyed,
        ),
        Property::always("a completed answer is whole", |_, state: &State| {
            is_whole(&state.chain)
        }),
        Property::always(
            "an admitted job is on record, or has ended",
            |_, state: &State| !state.is_admitted || state.record.is_some() || state.has_final(),
        ),
        Property::always(
            "an ended record says what the final says",
            |_, state: &State| record_agrees(state),
        ),
        Property::always("a record goes forward only", |_, state: &State| {
            !state.seen.record_went_back
        }),
        Property::always(
            "what a gateway has ordered is ordered of that process only",
            |_, state: &State| !state.seen.ordered_elsewhere,
        ),
        Property::always(
            "at rest the job has ended and nothing is held",
            |model, state: &State| !is_at_rest(model, state) || has_ended_everywhere(state),
        ),
        Property::sometimes("a job is completed behind two marks", |_, state: &State| {
            marks(&state.chain) >= 2 && ends_with(&state.chain, Outcome::Completed)
        }),
        Property::sometimes("a job ends without a record", |_, state: &State| {
            has_ended_everywhere(state) && state.record.is_none()
        }),
        Property::sometimes(
            "a job ends of which the scheduler was not asked",
            |_, state: &State| is_told_by_its_agent(state),
        ),
        Property::sometimes(
            "a grant that is out of date is refused",
            |_, state: &State| {
                let is_refused =
                    |message: &Message| matches!(message, Message::Said(Reply::Stale(_)));
                state.net.iter().any(is_refused)
            },
        ),
        Property::sometimes("a job is canceled by its agent", |_, state: &State| {
            matches!(
                state.chain.last(),
                Some(Link::Final {
                    outcome: Outcome::Canceled,
                    by: Author::Agent(_),
                    ..
                })
            )
        }),
        Property::sometimes("a job is canceled by a scheduler", |_, state: &State| {
            matches!(
                state.chain.last(),
                Some(Link::Final {
                    outcome: Outcome::Canceled,
                    by: Author::Scheduler(_),
                    ..
                })
            )
        }),
        Property::sometimes(
            "an answer comes from three processes",
            |_, state: &State| {
                makers(&state.chain) >= 3 && ends_with(&state.chain, Outcome::Completed)
            },
        ),
    ]
}

fn ends_with(chain: &[Link], wanted: Outcome) -> bool {
    matches!(chain.last(), Some(Link::Final { outcome, .. }) if *outcome == wanted)
}

fn marks(chain: &[Link]) -> usize {
    let is_mark = |link: &&Link| matches!(link, Link::Mark { .. });
    chain.iter().filter(is_mark).count()
}

fn makers(chain: &[Link]) -> usize {
    let tokens = chain.iter().flat_map(Link::tokens);
    let makers: std::collections::BTreeSet<Process> = tokens.map(|token| token.maker).collect();
    makers.len()
}

/// Frames and marks never go back to an older attempt.
fn no_older_attempt_writes(chain: &[Link]) -> bool {
    let mut newest = 0;
    chain.iter().all(|link| match link {
        Link::Frame { attempt, .. } | Link::Mark { attempt, .. } => {
            let is_newest = *attempt >= newest;
            newest = *attempt;
            is_newest
        }
        // A scheduler ends a job for whoever runs it.
        Link::Final { .. } => true,
    })
}

/// The tokens of an attempt come from one process: the one its mark names, or
/// for the first whichever wrote first.
fn only_the_owner_writes(chain: &[Link]) -> bool {
    let mut owners: BTreeMap<u8, Process> = BTreeMap::new();
    let mut is_owner = |attempt: u8, process: Process| match attempt {
        1 => *owners.entry(1).or_insert(process) == process,
        _ => owners.get(&attempt) == Some(&process),
    };
    let mut marked = Vec::new();
    chain.iter().all(|link| match link {
        Link::Mark { attempt, to } => {
            marked.push((*attempt, *to));
            true
        }
        Link::Frame {
            attempt, tokens, ..
        } => tokens.iter().all(|token| {
            let mark = marked.iter().rev().find(|(of, _)| of == attempt);
            match mark {
                Some((_, to)) => *to == token.maker,
                None => *attempt == 1 && is_owner(1, token.maker),
            }
        }),
        Link::Final {
            attempt,
            by: Author::Agent(process),
            ..
        } => {
            let mark = marked.iter().rev().find(|(of, _)| of == attempt);
            match mark {
                Some((_, to)) => to == process,
                None => *attempt == 1 && is_owner(1, *process),
            }
        }
        Link::Final {
            by: Author::Scheduler(_),
            ..
        } => true,
    })
}

fn is_whole(chain: &[Link]) -> bool {
    !ends_with(chain, Outcome::Completed) || {
        let tokens = chain.iter().flat_map(Link::tokens);
        tokens.count() == usize::from(TOKENS)
    }
}

fn record_agrees(state: &State) -> bool {
    match (state.record, state.chain.last()) {
        (Some((_, record)), Some(Link::Final { outcome, .. })) => match record.state {
            Recorded::Ended(ended) => ended == *outcome,
            Recorded::Pending | Recorded::Assigned => true,
        },
        (Some((_, record)), _) => !matches!(record.state, Recorded::Ended(_)),
        (None, _) => true,
    }
}

/// A scheduler knows of a job from its end alone, and that is all there will be.
fn is_told_by_its_agent(state: &State) -> bool {
    let is_noted = |scheduler| {
        let job = state.job_of(scheduler);
        job.is_some_and(|job| job.held == Held::Due && job.is_unrecorded())
    };
    has_ended_everywhere(state) && !state.is_admitted && (is_noted(0) || is_noted(1))
}

/// Nothing that the system does by itself changes anything any more.
pub(crate) fn is_at_rest(model: &Protocol, state: &State) -> bool {
    let mut actions = Vec::new();
    model.actions(state, &mut actions);
    actions.retain(|action| !action.is_fault() && !state.may_never_come(*action));
    actions
        .into_iter()
        .all(|action| model.next_state(state, action).is_none())
}

/// Chain, record and agents agree that it is over.
pub(crate) fn has_ended_everywhere(state: &State) -> bool {
    let is_recorded = match state.record {
        Some((_, record)) => record.has_ended(),
        None => state.is_brief,
    };
    let is_free = |agent: &crate::state::Agent| {
        let ledger = agent.ledger.get();
        agent.attempts.is_empty()
            && ledger.busy(0) == 0
            && ledger.in_hand().is_empty()
            && ledger.untold(1).is_empty()
    };
    let knows = |scheduler: u8| {
        let job = state.job_of(scheduler);
        job.is_none_or(|job| job.phase == Phase::Ended)
    };
    state.has_final() && is_recorded && state.agents.iter().all(is_free) && knows(0) && knows(1)
}
