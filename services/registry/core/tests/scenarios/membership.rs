//! Who belongs to the cluster, and what is known of each.

use crate::world::{EPOCH_MS, World, id, process, registration};
use orchion_contract::ErrorCode;
use orchion_contract::node::NodeState::{Lost, Online};
use orchion_contract::node::Unregister;
use std::collections::BTreeMap;

fn leave(node: &str, instance: Option<&str>) -> Unregister {
    Unregister {
        node: id(node),
        instance: instance.map(process),
    }
}

#[test]
fn registering_again_changes_and_announces_nothing() {
    let mut world = World::settled();
    world.join("a");
    assert_eq!(world.told(), ["a registered: it registered"]);
    let before = world.bucket.clone();
    world.run(1000);
    world.register("a", "1");
    assert_eq!((world.told(), &world.bucket), (vec![], &before));
}

#[test]
fn another_process_of_a_node_keeps_the_time_it_was_first_seen() {
    let mut world = World::settled();
    world.join("a");
    let first_seen = world.bucket[&id("a")].first_seen_ms;
    world.told();
    world.run(5000);
    world.register("a", "2");
    assert_eq!(world.told(), ["a registered: its agent was started again"]);
    let record = &world.bucket[&id("a")];
    assert_eq!(
        (record.first_seen_ms, record.instance.as_str()),
        (first_seen, "2")
    );
}

#[test]
fn who_takes_the_place_of_another_process_is_told_whose() {
    let mut world = World::settled();
    let replaced = |world: &mut World, instance: &str| {
        let asked = registration("a", instance);
        let registered = world.registry.register(asked, world.at()).unwrap();
        registered.replaced.map(|other| other.instance)
    };
    assert_eq!(replaced(&mut world, "1"), None);
    assert_eq!(replaced(&mut world, "1"), None);
    assert_eq!(replaced(&mut world, "2"), Some(process("1")));
    assert_eq!(replaced(&mut world, "1"), Some(process("2")));
}

#[test]
fn a_lost_node_that_is_started_again_is_online() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Client Closed");
    world.run(1000);
    world.told();
    world.register("a", "2");
    let expected = [
        "a registered: its agent was started again",
        "a online: it registered again",
    ];
    assert_eq!(world.told(), expected);
    assert_eq!(world.bucket[&id("a")].state, Online);
}

#[test]
fn the_last_sign_of_life_is_by_our_own_clock_and_not_written_each_time() {
    let mut world = World::settled();
    world.join("a");
    let stored = world.bucket[&id("a")].last_seen_ms;
    world.run(4000);
    world.beat("a");
    let record = world.registry.get(&id("a")).unwrap();
    assert_eq!(record.last_seen_ms, EPOCH_MS + 14_000);
    assert_eq!(record.last_seen_unix, record.last_seen_ms / 1000);
    assert_eq!(world.bucket[&id("a")].last_seen_ms, stored);
}

#[test]
fn a_beat_of_an_unknown_node_makes_it_register_again() {
    let mut world = World::settled();
    world.beat("a");
    assert_eq!(world.asked_to_register, ["a"]);
    assert_eq!(world.state("a"), None);
}

#[test]
fn a_beat_of_another_process_is_no_sign_of_life() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Client Closed");
    world.run(200);
    world.beat_of("a", "2");
    world.run(200);
    assert_eq!(
        (world.state("a"), world.asked_to_register.as_slice()),
        (Some(Lost), &["a".to_owned()][..])
    );
}

#[test]
fn what_a_node_can_do_now_is_written() {
    let mut world = World::settled();
    world.join("a");
    let mut news = registration("a", "1");
    news.capabilities.memory.total_bytes = 7;
    world.registry.capability(news, world.at());
    world.settle();
    assert_eq!(world.bucket[&id("a")].capabilities.memory.total_bytes, 7);
    world
        .registry
        .capability(registration("b", "1"), world.at());
    world.settle();
    assert_eq!(world.asked_to_register, ["b"]);
}

#[test]
fn a_removed_node_is_not_brought_back_by_a_late_beat() {
    let mut world = World::settled();
    world.join("a");
    world.told();
    world
        .registry
        .unregister(&leave("a", None), world.at())
        .unwrap();
    world.settle();
    assert_eq!(world.told(), ["a unregistered: it was taken off the list"]);
    assert!(world.bucket.is_empty());
    world.beat("a");
    assert_eq!((world.state("a"), world.asked_to_register.len()), (None, 0));
    world.register("a", "1");
    assert_eq!(world.state("a"), Some(Online));
}

#[test]
fn a_node_leaves_once() {
    let mut world = World::settled();
    world.join("a");
    let other = world
        .registry
        .unregister(&leave("a", Some("0")), world.at());
    assert_eq!(other.unwrap_err().code, ErrorCode::Conflict);
    for _ in 0..2 {
        world
            .registry
            .unregister(&leave("a", Some("1")), world.at())
            .unwrap();
    }
    let unknown = world.registry.unregister(&leave("b", None), world.at());
    assert_eq!(unknown.unwrap_err().code, ErrorCode::NotFound);
}

#[test]
fn the_end_of_a_connection_of_a_node_that_left_is_no_news() {
    let mut world = World::settled();
    let connection = world.join("a");
    world
        .registry
        .unregister(&leave("a", Some("1")), world.at())
        .unwrap();
    world.settle();
    world.told();
    world.disconnect(connection, "Client Closed");
    world.run(1000);
    assert_eq!(world.told(), Vec::<String>::new());
}

#[test]
fn a_heartbeat_too_slow_for_the_timeout_is_refused() {
    let mut world = World::settled();
    for heartbeat_ms in [0, 15_001] {
        let mut slow = registration("a", "1");
        slow.heartbeat_ms = heartbeat_ms;
        let refused = world.registry.register(slow, world.at()).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidParams);
        assert!(refused.message.contains("registry.heartbeat_timeout"));
    }
}

#[test]
fn a_bucket_that_somebody_emptied_is_written_again() {
    let mut world = World::settled();
    world.join("a");
    world.join("b");
    let before = world.bucket.clone();
    let emptied = std::mem::take(&mut world.bucket);
    world.registry.stored(&BTreeMap::new());
    world.settle();
    assert_eq!(world.bucket, before);
    world.registry.stored(&emptied);
    assert_eq!(world.registry.next_effect(), None);
}
