//! Whether a job always can end, once faults have stopped.
//!
//! stateright's own `eventually` looks at paths that do not meet again, and
//! ours do. So the whole graph is built, and walked backwards from the ends
//! along the steps that the system takes by itself.

use crate::model::Protocol;
use crate::property::has_ended_everywhere;
use crate::state::State;
use stateright::Model;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// States looked at.
    pub states: usize,
    /// States in which the job has ended and nothing is held.
    pub ends: usize,
    /// States from which no end can be reached without luck: none, if all is well.
    pub stuck: usize,
    /// One of them.
    pub example: Option<String>,
}

/// Looks from every reachable state for a way to the end without a fault.
#[must_use]
pub fn check(model: &Protocol) -> Found {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    let mut numbers: HashMap<u64, u32> = HashMap::new();
    let mut before: Vec<Vec<u32>> = Vec::new();
    let mut ends: Vec<u32> = Vec::new();
    let mut todo: Vec<(u32, State)> = Vec::new();
    let mut number = |state: State,
                      todo: &mut Vec<(u32, State)>,
                      before: &mut Vec<Vec<u32>>,
                      ends: &mut Vec<u32>| {
        let next = u32::try_from(before.len()).unwrap_or(u32::MAX);
        *numbers.entry(hash.hash_one(&state)).or_insert_with(|| {
            before.push(Vec::new());
            if has_ended_everywhere(&state) {
                ends.push(next);
            }
            todo.push((next, state));
            next
        })
    };
    for state in model.init_states() {
        number(state, &mut todo, &mut before, &mut ends);
    }
    while let Some((from, state)) = todo.pop() {
        let mut actions = Vec::new();
        model.actions(&state, &mut actions);
        for action in actions {
            let Some(next) = model.next_state(&state, action) else {
                continue;
            };
            let to = number(next, &mut todo, &mut before, &mut ends);
            if !action.is_fault() && !state.may_never_come(action) {
                before[to as usize].push(from);
            }
        }
    }
    let reached = backwards(&before, &ends);
    let stuck = reached.iter().filter(|reached| !**reached).count();
    let first = reached.iter().position(|reached| !reached);
    Found {
        states: before.len(),
        ends: ends.len(),
        stuck,
        example: first.and_then(|stuck| example(model, stuck)),
    }
}

fn backwards(before: &[Vec<u32>], ends: &[u32]) -> Vec<bool> {
    let mut reached = vec![false; before.len()];
    let mut todo = ends.to_vec();
    while let Some(at) = todo.pop() {
        if !std::mem::replace(&mut reached[at as usize], true) {
            todo.extend(&before[at as usize]);
        }
    }
    reached
}

/// Walks again to the state with this number, in the same order.
fn example(model: &Protocol, wanted: usize) -> Option<String> {
    let hash = BuildHasherDefault::<DefaultHasher>::default();
    let mut known: HashMap<u64, usize> = HashMap::new();
    let mut todo: Vec<State> = Vec::new();
    let mut visit = |state: State, todo: &mut Vec<State>| -> Option<String> {
        let next = known.len();
        let mut found = None;
        known.entry(hash.hash_one(&state)).or_insert_with(|| {
            if next == wanted {
                found = Some(format!("{state:#?}"));
            }
            todo.push(state);
            next
        });
        found
    };
    for state in model.init_states() {
        if let Some(found) = visit(state, &mut todo) {
            return Some(found);
        }
    }
    while let Some(state) = todo.pop() {
        for next in model.next_states(&state) {
            if let Some(found) = visit(next, &mut todo) {
                return Some(found);
            }
        }
    }
    None
}
