//! Where a gateway sends the next chats.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use orchion_contract::job::{Assignment, Grant, ModelGrants};
use orchion_contract::node::{EngineKind, EngineRef};

fn place(node: &str) -> Grant {
    let engine = EngineRef {
        kind: EngineKind::Starter,
        version: None,
        digest: None,
    };
    Grant {
        to: Assignment {
            node: node.parse().unwrap(),
            instance: "i".parse().unwrap(),
            replica: "r".parse().unwrap(),
            engine,
            at_ms: 0,
        },
        longest: 100,
    }
}

/// The nodes of chats that come one after the other while none ends.
fn nodes(turns: &[u8], mut used: [u32; 2]) -> Vec<String> {
    let grants = ModelGrants {
        model: "m".into(),
        places: vec![place("a"), place("b")],
        turns: turns.to_vec(),
    };
    let number = |grant: &Grant| usize::from(grant.to.node.as_str() == "b");
    let mut nodes = Vec::new();
    while let Some(next) = grants.next(|grant| used[number(grant)]) {
        used[number(next)] += 1;
        nodes.push(next.to.node.to_string());
    }
    nodes
}

#[test]
fn chats_go_where_the_turns_say_until_none_is_left() {
    assert_eq!(nodes(&[0, 1, 0], [0, 0]), ["a", "b", "a"]);
    assert_eq!(nodes(&[], [0, 0]), [""; 0]);
}

#[test]
fn who_is_under_way_has_the_first_turns_of_its_place() {
    assert_eq!(nodes(&[0, 1, 0], [1, 0]), ["b", "a"]);
    assert_eq!(nodes(&[0, 1, 0], [0, 3]), ["a", "a"]);
}

#[test]
fn a_turn_of_no_place_is_passed_over() {
    assert_eq!(nodes(&[7, 1], [0, 0]), ["b"]);
}
