//! Who is there, who is in doubt, who is gone.

use crate::world::World;
use orchion_contract::node::NodeState::{Lost, Online, Suspect};

const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];

#[test]
fn a_killed_agent_is_suspect_at_once_and_lost_after_300_ms() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.told();
    world.disconnect(connection, "Client Closed");
    assert_eq!(
        world.told(),
        ["a suspect: its connection ended: Client Closed"]
    );
    world.run(299);
    assert_eq!(world.state("a"), Some(Suspect));
    world.run(1);
    assert_eq!(world.told(), ["a lost: its connection did not come back"]);
}

#[test]
fn the_bucket_says_what_was_announced() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Client Closed");
    let stored = |world: &World| world.bucket.values().next().unwrap().state;
    assert_eq!(stored(&world), Suspect);
    world.run(300);
    assert_eq!(stored(&world), Lost);
}

#[test]
fn a_second_connection_keeps_a_node_online() {
    let mut world = World::settled();
    let first = world.join("a");
    world.connect("a");
    world.told();
    world.disconnect(first, "Slow Consumer (Pending Bytes)");
    world.run(1000);
    assert_eq!((world.state("a"), world.told()), (Some(Online), vec![]));
}

#[test]
fn an_agent_that_reconnects_in_time_is_online_again() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Stale Connection");
    world.run(200);
    world.told();
    world.connect("a");
    world.run(1000);
    assert_eq!(world.told(), ["a online: it is connected again"]);
}

#[test]
fn a_beat_that_was_in_flight_when_the_agent_died_does_not_save_it() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Client Closed");
    world.run(3);
    world.beat("a");
    world.run(297);
    assert_eq!(world.state("a"), Some(Lost));
}

#[test]
fn neither_does_a_registration_that_was_in_flight() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Client Closed");
    world.run(3);
    world.register("a", "1");
    world.run(297);
    assert_eq!(world.state("a"), Some(Lost));
}

#[test]
fn a_beat_that_came_another_way_saves_it() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Client Closed");
    world.run(150);
    world.beat("a");
    world.run(1000);
    assert_eq!(world.state("a"), Some(Online));
}

#[test]
fn a_lost_node_that_beats_is_back_under_its_identity() {
    let mut world = World::settled();
    let connection = world.join("a");
    let first_seen = world.bucket.values().next().unwrap().first_seen_ms;
    world.disconnect(connection, "Stale Connection");
    world.run(5000);
    world.told();
    world.connect("a");
    assert_eq!(world.state("a"), Some(Lost));
    world.beat("a");
    assert_eq!(world.told(), ["a online: it beats"]);
    assert_eq!(
        world.bucket.values().next().unwrap().first_seen_ms,
        first_seen
    );
}

#[test]
fn silence_makes_a_node_suspect_after_two_beats_and_lost_after_the_timeout() {
    let mut world = World::settled().without_system_account();
    world.join("a");
    world.run_with_beats(&["a"], 10);
    world.told();
    // The last beat is a second old.
    world.run(1499);
    assert_eq!(world.state("a"), Some(Online));
    world.run(1);
    assert_eq!(world.told(), ["a suspect: no heartbeat for 2.5 s"]);
    world.run(27_499);
    assert_eq!(world.state("a"), Some(Suspect));
    world.run(1);
    assert_eq!(world.told(), ["a lost: no heartbeat for 30.0 s"]);
}

#[test]
fn an_agent_that_hangs_with_an_open_connection_is_suspect_until_it_beats() {
    let mut world = World::settled();
    world.join("a");
    world.run_with_beats(&["a"], 10);
    world.run(5000);
    // The list of connections clears another suspicion, not this one.
    assert_eq!(world.state("a"), Some(Suspect));
    world.beat("a");
    assert_eq!(world.state("a"), Some(Online));
}

#[test]
fn the_sender_tells_when_its_next_beat_is_due() {
    let mut world = World::settled();
    world.join("a");
    // Registered with five seconds, and no beat yet.
    world.run(12_000);
    assert_eq!(world.state("a"), Some(Online));
    world.run(600);
    assert_eq!(world.state("a"), Some(Suspect));
}

#[test]
fn a_restart_of_nats_under_ten_agents_loses_nobody() {
    let mut world = World::settled();
    for node in TEN {
        world.join(node);
    }
    world.run_with_beats(&TEN, 5);
    world.told();
    world.nats_dies();
    world.run(3000);
    world.nats_returns();
    for (n, node) in TEN.into_iter().enumerate() {
        world.run(if n < 9 { 100 } else { 2000 });
        world.connect(node);
        world.beat(node);
    }
    world.run_with_beats(&TEN, 60);
    assert_eq!(world.told(), Vec::<String>::new());
}

#[test]
fn an_orderly_end_of_nats_is_not_the_end_of_its_clients() {
    let mut world = World::settled();
    let connections = TEN.map(|node| world.join(node));
    world.told();
    for connection in connections {
        world.disconnect(connection, "Server Shutdown");
    }
    world.run(100);
    world.nats_dies();
    world.run(400);
    world.nats_returns();
    for node in TEN {
        world.connect(node);
    }
    world.run_with_beats(&TEN, 20);
    assert_eq!(world.told(), Vec::<String>::new());
}

#[test]
fn who_does_not_come_back_after_a_restart_of_nats_is_lost_five_seconds_later() {
    let mut world = World::settled();
    world.join("a");
    world.join("b");
    world.run_with_beats(&["a", "b"], 3);
    world.told();
    world.nats_dies();
    world.run(1000);
    world.nats_returns();
    world.connect("b");
    world.run_with_beats(&["b"], 4);
    assert_eq!(world.told(), Vec::<String>::new());
    world.run_with_beats(&["b"], 2);
    assert_eq!(
        world.told().last().unwrap(),
        "a lost: its connection did not come back"
    );
    assert_eq!(world.state("b"), Some(Online));
}

#[test]
fn a_suspicion_that_our_own_reconnection_interrupts_begins_anew() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.disconnect(connection, "Client Closed");
    world.run(200);
    world.nats_dies();
    world.run(2000);
    world.nats_returns();
    world.run(4900);
    assert_eq!(world.state("a"), Some(Suspect));
    world.run(500);
    assert_eq!(world.state("a"), Some(Lost));
}

#[test]
fn a_live_disconnect_counts_right_after_our_own_reconnection() {
    let mut world = World::settled();
    world.join("a");
    world.nats_dies();
    world.nats_returns();
    let connection = world.connect("a");
    world.run(1000);
    world.disconnect(connection, "Client Closed");
    world.run(300);
    assert_eq!(world.state("a"), Some(Lost));
}

#[test]
fn a_registry_that_slept_judges_nobody() {
    let mut world = World::settled();
    for node in TEN {
        world.join(node);
    }
    world.run_with_beats(&TEN, 5);
    world.told();
    world.sleep(60_000);
    world.run(4900);
    assert_eq!(world.told(), Vec::<String>::new());
    world.run_with_beats(&TEN, 10);
    assert_eq!(world.told(), Vec::<String>::new());
}

#[test]
fn a_takeover_loses_no_living_node_and_finds_the_dead_one() {
    let mut world = World::settled();
    world.join("a");
    let dead = world.join("b");
    world.run_with_beats(&["a", "b"], 3);
    world.server.remove(&dead);
    let mut world = world.take_over();
    world.run_with_beats(&["a"], 4);
    assert_eq!(world.told(), Vec::<String>::new());
    world.run_with_beats(&["a"], 2);
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(Online), Some(Lost))
    );
}

#[test]
fn a_suspicion_on_record_is_judged_anew_by_the_next_registry() {
    let mut world = World::settled();
    let dead = world.join("a");
    let other = world.join("b");
    world.disconnect(dead, "Client Closed");
    world.disconnect(other, "Client Closed");
    world.connect("b");
    world.bucket.get_mut(&crate::world::id("b")).unwrap().state = Suspect;
    let mut world = world.take_over();
    world.run(0);
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(Suspect), Some(Online))
    );
    world.run(5301);
    assert_eq!(world.state("a"), Some(Lost));
}

#[test]
fn an_old_list_neither_revives_nor_hides_a_connection() {
    let mut world = World::settled();
    let old = world.join("a");
    world.lists = false;
    let asked = world.at().now;
    let listed_then = [("agent-a".to_owned(), ("s".to_owned(), old))];
    world.run(1);
    world.disconnect(old, "Client Closed");
    world.connect("b");
    world.register("b", "1");
    world.registry.listed(asked, listed_then, world.at());
    world.run(300);
    assert_eq!(
        (world.state("a"), world.state("b")),
        (Some(Lost), Some(Online))
    );
}

#[test]
fn an_event_that_was_missed_is_made_up_for_by_the_list() {
    let mut world = World::settled();
    let connection = world.join("a");
    world.server.remove(&connection);
    world.run_with_beats(&["a"], 1);
    world.run(10_301);
    assert_eq!(world.state("a"), Some(Lost));
}

#[test]
fn an_agent_with_an_unexpected_connection_name_lives_by_its_beats() {
    let mut world = World::settled();
    world.register("a", "1");
    world.run_with_beats(&["a"], 60);
    assert_eq!(world.told(), ["a registered: it registered"]);
}
