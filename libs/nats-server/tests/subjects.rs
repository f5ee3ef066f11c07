//! Every subject and every stream that the configuration names exists in the
//! contract: a permission for something that is gone would be a hole unseen.

use orchion_contract::{rpc, stores, streams, subjects};

const PERMISSIONS: &str = include_str!("../../../nats/permissions.conf");

#[test]
fn every_subject_exists_in_the_contract() {
    let known: Vec<&str> = subjects::ALL.iter().chain(rpc::ALL).copied().collect();
    let ours: Vec<_> = quoted()
        .into_iter()
        .filter(|subject| subject.starts_with("orchion."))
        .collect();
    assert!(ours.len() > 10, "{ours:?}");
    for subject in ours {
        assert!(
            known.iter().any(|pattern| overlap(subject, pattern)),
            "{subject} is in no contract"
        );
    }
}

#[test]
fn every_stream_exists_in_the_contract() {
    for subject in quoted() {
        let names = subject
            .split('.')
            .filter(|token| token.chars().all(|c| c.is_ascii_uppercase()) && token.ends_with('S'));
        for name in names.filter(|name| *name != "ACCOUNTS") {
            assert!(
                streams::ALL.iter().any(|stream| stream.name == name),
                "{subject} names no stream of ours"
            );
        }
    }
}

#[test]
fn every_object_store_exists_in_the_contract() {
    let tokens = quoted().into_iter().flat_map(|subject| subject.split('.'));
    let names: Vec<_> = tokens
        .filter_map(|token| token.strip_prefix("OBJ_"))
        .collect();
    assert!(!names.is_empty());
    for name in names {
        assert!(stores::ALL.iter().any(|store| store.name == name), "{name}");
    }
}

/// All strings of the file.
fn quoted() -> Vec<&'static str> {
    let lines = PERMISSIONS
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines
        .flat_map(|line| line.split('"').skip(1).step_by(2))
        .collect()
}

/// Whether some subject matches both a permission and a pattern with `{holes}`.
fn overlap(permission: &str, pattern: &str) -> bool {
    let mut pattern = pattern.split('.');
    for token in permission.split('.') {
        let Some(other) = pattern.next() else {
            return false;
        };
        if token == ">" {
            return true;
        }
        if token != "*" && !other.starts_with('{') && token != other {
            return false;
        }
    }
    pattern.next().is_none()
}

#[test]
fn overlap_tells_patterns_apart() {
    assert!(overlap("orchion.evt.>", "orchion.evt.job.ended"));
    assert!(overlap(
        "orchion.log.node-agent.*.*",
        "orchion.log.{service}.{instance}.{level}"
    ));
    assert!(!overlap("orchion.evt.job", "orchion.evt.job.ended"));
    assert!(!overlap("orchion.evt.job.ended.>", "orchion.evt.job.ended"));
    assert!(!overlap(
        "orchion.rpc.registry.drop",
        "orchion.rpc.registry.get"
    ));
}
