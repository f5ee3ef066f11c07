//! Every payload has a sample that must still parse, and says the same when
//! it is written again.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use orchion_contract::job::*;
use orchion_contract::lease::Lease;
use orchion_contract::log::{LogPage, LogQuery, LogRecord};
use orchion_contract::node::*;
use orchion_contract::placement::Explanation;
use orchion_contract::progress::Progress;
use orchion_contract::transcript::Entry;
use orchion_contract::{ErrorBody, NodeId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("samples")
}

fn holds<T: Serialize + DeserializeOwned>(name: &str) {
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let sample: Value = serde_json::from_str(&text).unwrap();
    // From text, as it comes over the wire: raw parts cannot be read from a `Value`.
    let parsed: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let again: Value = serde_json::from_str(&serde_json::to_string(&parsed).unwrap()).unwrap();
    assert_eq!(again, sample, "{name} does not survive a round trip");
}

macro_rules! samples {
    ($($name:literal => $payload:ty),* $(,)?) => {
        #[test]
        fn every_sample_survives_a_round_trip() {
            $(holds::<$payload>($name);)*
        }

        #[test]
        fn every_sample_file_is_held() {
            let held: BTreeSet<String> = [$($name.to_owned()),*].into();
            let found: BTreeSet<String> = std::fs::read_dir(folder())
                .unwrap()
                .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
                .collect();
            assert_eq!(found, held);
        }
    };
}

samples! {
    "admission" => Admission,
    "attempt-end" => AttemptEnd,
    "cancel-job" => CancelJob,
    "cancel-order" => CancelOrder,
    "cancel-reply" => CancelReply,
    "ended-batch" => EndedBatch,
    "ended-jobs" => EndedJobs,
    "entry-final" => Entry,
    "entry-frame" => Entry,
    "entry-mark" => Entry,
    "entry-restart" => Entry,
    "error" => ErrorBody,
    "explanation" => Explanation,
    "follow-job" => FollowJob,
    "grants" => Grants,
    "heartbeat" => Heartbeat,
    "hello" => Hello,
    "job" => Job,
    "job-events" => JobEvents,
    "job-list" => JobList,
    "job-progress" => Progress,
    "job-summary" => JobSummary,
    "lease" => Lease,
    "list-jobs" => ListJobs,
    "list-nodes" => ListNodes,
    "log-page" => LogPage,
    "log-query" => LogQuery,
    "log-record" => LogRecord,
    "node" => Node,
    "node-event" => NodeEvent,
    "node-page" => NodePage,

    "register-again" => RegisterAgain,
    "registered" => Registered,
    "registration" => Registration,
    "run-order" => RunOrder,
    "run-reply" => RunReply,
    "submit" => Submit,
    "submit-large" => Submit,
    "submit-ordered" => Submit,
    "unregister" => Unregister,
}

#[test]
fn a_page_holds_what_a_message_holds_and_says_that_there_is_more() {
    let text = std::fs::read_to_string(folder().join("node.json")).unwrap();
    let node: Node = serde_json::from_str(&text).unwrap();
    let few = NodePage::of(std::iter::repeat_n(&node, 3));
    assert_eq!((few.nodes.len(), few.more), (3, false));
    let many = NodePage::of(std::iter::repeat_n(&node, 10_000));
    let bytes = serde_json::to_vec(&many).unwrap().len();
    assert!(
        many.more && bytes > MAX_PAGE_BYTES / 2 && bytes < 1_000_000,
        "{bytes}"
    );
    // One that is too large alone is a page of its own.
    let mut large = node.clone();
    large.hostname = "x".repeat(MAX_PAGE_BYTES);
    let page = NodePage::of([&large, &node].into_iter());
    assert_eq!((page.nodes.len(), page.more), (1, true));
}

#[test]
fn fields_and_words_of_a_newer_version_are_tolerated() {
    let text = std::fs::read_to_string(folder().join("node.json")).unwrap();
    let mut node: Value = serde_json::from_str(&text).unwrap();
    node["from_the_future"] = true.into();
    node["state"] = "hibernating".into();
    node["replicas"][0]["engine"]["kind"] = "warp".into();
    let node: Node = serde_json::from_value(node).unwrap();
    assert_eq!(
        (node.state, node.replicas[0].engine.kind),
        (NodeState::Unknown, EngineKind::Unknown)
    );
    assert_eq!(node.id, NodeId::new("pi-4").unwrap());
}
