//! Decides which job runs where and when.
//!
//! Everything here is a function of recorded state and of a time that the
//! shell read: no clock, no bus, no task. [`plan`] rereads the whole state each
//! time, so that the path after a crash is the path of every day; indexes keep
//! it from looking at more than what can change.

mod admit;
mod adopt;
mod attempt;
mod estimate;
mod filter;
mod ledger;
mod plan;
mod report;
mod state;

pub use admit::{Limits, check};
pub use adopt::{Adopted, adopt, job_end};
pub use attempt::{Next, after_end, after_reply};
pub use estimate::Durations;
pub use ledger::{Ledger, Write};
pub use plan::{Placement, Plan, Step, plan};
pub use report::{explain, explain_ended};
pub use state::{ClusterState, JobView, NodeView, Phase, ReplicaKey, ReplicaView};

/// Monotonic time since an arbitrary start.
pub type Now = std::time::Duration;
