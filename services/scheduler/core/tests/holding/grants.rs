//! Slots that gateways may fill by themselves.

use crate::charge::{Charge, completed, ms, node_id, node_with, submission};
use crate::granted_jobs::{tell, tell_end};
use orchion_contract::NodeId;
use orchion_contract::job::{Door, ModelGrants};
use orchion_contract::node::NodeState;
use orchion_contract::placement::PlacementSpec;
use orchion_scheduler_core::{Effect, Input};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The nodes of the next chats, as the gateway was told last; `None` for nothing.
fn granted(effects: &[Effect]) -> Option<Vec<NodeId>> {
    let turns = |of: &ModelGrants| {
        let node = |turn: &u8| of.places[usize::from(*turn)].to.node.clone();
        of.turns.iter().map(node).collect::<Vec<_>>()
    };
    effects.iter().rev().find_map(|effect| match effect {
        Effect::Grant { grants, .. } => Some(grants.models.iter().flat_map(turns).collect()),
        _ => None,
    })
}

#[test]
fn a_gateway_with_a_chat_is_granted_half_of_what_is_left() {
    let mut charge = Charge::with_node("a", 7);
    charge.submit(1, Door::Chat);
    let told = granted(&charge.effects());
    assert_eq!(told, Some(vec![node_id("a"); 3]));
}

#[test]
fn chats_are_spread_as_the_strategy_would_spread_them() {
    let mut charge = Charge::with_node("a", 8);
    charge.hear(Input::Node {
        id: node_id("b"),
        node: Some(Box::new(node_with("b", 8))),
    });
    charge.submit(1, Door::Chat);
    let told = granted(&charge.effects()).unwrap();
    let names: Vec<&str> = told.iter().map(NodeId::as_str).collect();
    // One is on `a` already.
    assert_eq!(names, ["b", "a", "b", "a", "b", "a", "b"]);
}

#[test]
fn they_are_spread_anew_when_what_is_recorded_has_changed() {
    let mut charge = Charge::with_node("a", 8);
    let job = charge.admit(1, Door::Chat);
    assert!(granted(&charge.effects()).is_none());
    charge.pass(ms(60));
    charge.effects();
    charge.end_attempt(job, 1, completed());
    charge.pass(ms(60));
    let told = granted(&charge.effects());
    assert_eq!(told, Some(vec![node_id("a"); 4]));
}

#[test]
fn they_are_spread_anew_when_a_gateway_has_filled_one() {
    let mut charge = Charge::with_node("a", 8);
    charge.submit(1, Door::Chat);
    assert_eq!(granted(&charge.effects()), Some(vec![node_id("a"); 3]));
    tell(&mut charge, 2, None);
    tell(&mut charge, 3, None);
    charge.pass(ms(60));
    assert_eq!(granted(&charge.effects()), Some(vec![node_id("a"); 2]));
}

#[test]
fn the_last_slot_is_not_granted_and_tasks_are_none_of_a_gateway() {
    let mut charge = Charge::with_node("a", 2);
    charge.submit(1, Door::Chat);
    assert_eq!(granted(&charge.effects()), None);
    let mut charge = Charge::with_node("a", 9);
    charge.submit(1, Door::Task);
    assert_eq!(granted(&charge.effects()), None);
}

#[test]
fn slots_are_granted_anew_while_they_are_wanted() {
    let mut charge = Charge::with_node("a", 9);
    charge.admit(1, Door::Chat);
    for _ in 0..2 {
        charge.pass(ms(50));
        charge.effects();
        charge.pass(ms(900));
        assert_eq!(granted(&charge.effects()), None);
        charge.pass(ms(100));
        assert!(granted(&charge.effects()).is_some());
        tell_end(&mut charge, 7, completed());
    }
    for _ in 0..3 {
        charge.pass(SECOND);
        charge.effects();
    }
    charge.pass(SECOND);
    assert_eq!(granted(&charge.effects()), None, "nobody chats any more");
}

#[test]
fn slots_are_taken_back_when_somebody_waits() {
    let mut charge = Charge::with_node("a", 4);
    charge.admit(1, Door::Chat);
    for n in 2..=4 {
        charge.submit(n, Door::Task);
    }
    assert_eq!(granted(&charge.effects()), None);
    charge.submit(5, Door::Task);
    assert_eq!(granted(&charge.effects()), Some(Vec::new()));
}

#[test]
fn slots_are_taken_back_when_their_node_is_gone() {
    let mut charge = Charge::with_node("a", 4);
    charge.submit(1, Door::Chat);
    assert!(granted(&charge.effects()).is_some());
    let mut node = node_with("a", 4);
    node.state = NodeState::Suspect;
    charge.hear(Input::Node {
        id: node_id("a"),
        node: Some(Box::new(node)),
    });
    assert_eq!(granted(&charge.effects()), Some(Vec::new()));
}

#[test]
fn only_what_may_go_anywhere_may_be_granted() {
    let mut submit = submission(1, Door::Chat);
    assert!(submit.spec.may_be_granted());
    submit.spec.placement = Some(Box::new(PlacementSpec::default()));
    assert!(!submit.spec.may_be_granted());
}
