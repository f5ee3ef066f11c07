//! What was written to a subject is read back from it, for every address.

use orchion_contract::log::{Level, ServiceName};
use orchion_contract::subject::{Address, Subject};
use orchion_contract::subjects::{ALL, HEARTBEAT, JOB_PROGRESS, LOG, TRANSCRIPT};
use orchion_contract::{InstanceId, JobId, NodeId, ReaderId, rpc, streams};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fmt::Debug;

fn round_trip<A: Address + PartialEq + Debug, P>(subject: Subject<A, P>, address: &A) {
    assert_eq!(subject.parse(&subject.to(address)).as_ref(), Some(address));
}

fn matches(wildcard: &str, pattern: &str) -> bool {
    let (wildcard, pattern): (Vec<&str>, Vec<&str>) =
        (wildcard.split('.').collect(), pattern.split('.').collect());
    let token = |(wild, token): (&&str, &&str)| *wild == "*" || wild == token;
    wildcard.len() == pattern.len() && wildcard.iter().zip(&pattern).all(token)
}

#[test]
fn a_fresh_job_id_tells_when_it_was_made() {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let made = JobId::now().made_ms().unwrap();
    assert!(u128::from(made) >= now && u128::from(made) < now + 60_000);
    assert_eq!(JobId::from(uuid::Uuid::from_u128(1)).made_ms(), None);
}

proptest! {
    #[test]
    fn an_address_survives_its_subject(node in "[A-Za-z0-9_-]{1,64}", job: u128, level in 0usize..4) {
        let node = NodeId::new(&node).unwrap();
        let reader = ReaderId::new(node.as_str()).unwrap();
        let instance = InstanceId::new(node.as_str()).unwrap();
        let job = JobId::from(uuid::Uuid::from_u128(job));
        round_trip(HEARTBEAT, &node);
        round_trip(JOB_PROGRESS, &(reader.clone(), job));
        round_trip(TRANSCRIPT, &(reader, job));
        round_trip(LOG, &(ServiceName::new(node.as_str()).unwrap(), instance, Level::ALL[level]));
    }

    #[test]
    fn no_other_text_is_taken_for_an_address(text in "\\PC{0,80}") {
        if let Some(node) = HEARTBEAT.parse(&text) {
            prop_assert_eq!(HEARTBEAT.to(&node), text);
        }
    }
}

#[test]
fn a_wildcard_matches_its_own_subjects_and_no_others() {
    let reader = ReaderId::new("g1").unwrap();
    let job = JobId::now();
    assert!(matches(
        &TRANSCRIPT.any(),
        &TRANSCRIPT.to(&(reader.clone(), job))
    ));
    assert!(matches(
        &TRANSCRIPT.all_of(&reader),
        &TRANSCRIPT.to(&(reader.clone(), job))
    ));
    assert!(!matches(
        &TRANSCRIPT.all_of(&ReaderId::new("g2").unwrap()),
        &TRANSCRIPT.to(&(reader, job))
    ));
}

#[test]
fn no_two_subjects_share_a_message() {
    let all: Vec<&str> = ALL.iter().chain(rpc::ALL).copied().collect();
    let wild = |pattern: &str| {
        pattern
            .split('.')
            .map(|t| if t.starts_with('{') { "*" } else { t })
            .collect::<Vec<_>>()
            .join(".")
    };
    for (n, a) in all.iter().enumerate() {
        for b in &all[n + 1..] {
            assert!(
                !matches(&wild(a), &wild(b)) && !matches(&wild(b), &wild(a)),
                "{a} and {b} overlap"
            );
        }
    }
}

#[test]
fn a_stream_captures_only_subjects_that_exist_and_none_twice() {
    let mut seen = BTreeSet::new();
    for subject in streams::ALL.iter().flat_map(|stream| stream.subjects) {
        assert!(seen.insert(subject), "{subject} is captured twice");
        let exists = ALL.iter().any(|pattern| {
            let plain = pattern
                .split('.')
                .map(|t| if t.starts_with('{') { "*" } else { t })
                .collect::<Vec<_>>()
                .join(".");
            plain == **subject
        });
        assert!(exists, "{subject} is no subject of the contract");
    }
}

#[test]
fn what_people_wrote_and_got_is_on_no_subject_that_they_may_listen_to() {
    for open in ["orchion.log.", "orchion.evt."] {
        assert!(!TRANSCRIPT.pattern().starts_with(open));
        assert!(!rpc::SUBMIT.pattern().starts_with(open) && !rpc::RUN.pattern().starts_with(open));
    }
}
