//! Ids of the product for places in the cluster, and back.

use crate::wire::Life;
use orchion_contract::{InstanceId, JobId, NodeId, ReaderId};

/// The node at a place.
#[expect(clippy::expect_used, reason = "the text is made of letters and digits")]
pub(crate) fn node(index: usize) -> NodeId {
    NodeId::new(format!("n{index}")).expect("a node id")
}

/// Back again.
pub(crate) fn index(node: &NodeId) -> usize {
    node.as_str()[1..].parse().unwrap_or(0)
}

/// The token of a process as a reader.
#[expect(clippy::expect_used, reason = "the text is made of letters and digits")]
pub(crate) fn reader(life: Life) -> ReaderId {
    ReaderId::new(format!("g{}-{}", life.process, life.number)).expect("a reader token")
}

/// Where the transcripts of tasks are.
pub(crate) const TASKS: Life = Life {
    process: usize::MAX,
    number: 0,
};

/// The process behind a reader's token.
pub(crate) fn life(reader: &ReaderId) -> Life {
    if *reader == ReaderId::tasks() {
        return TASKS;
    }
    parse(reader.as_str())
}

/// A process as an instance.
#[expect(clippy::expect_used, reason = "the text is made of letters and digits")]
pub(crate) fn instance(life: Life) -> InstanceId {
    InstanceId::new(format!("i{}-{}", life.process, life.number)).expect("an instance id")
}

/// The process behind an instance.
pub(crate) fn life_of(instance: &InstanceId) -> Life {
    parse(instance.as_str())
}

fn parse(text: &str) -> Life {
    let (process, number) = text[1..].split_once('-').unwrap_or(("0", "0"));
    Life {
        process: process.parse().unwrap_or(0),
        number: number.parse().unwrap_or(0),
    }
}

/// The id of the n-th job.
pub(crate) fn job(n: usize) -> JobId {
    JobId::from(uuid::Uuid::from_u64_pair(
        0x0190_0000_0000_7000,
        0x8000_0000_0000_0000 | (n as u64),
    ))
}

/// Which job this is.
pub(crate) fn number(job: JobId) -> usize {
    (job.uuid().as_u64_pair().1 & 0xffff_ffff) as usize
}
