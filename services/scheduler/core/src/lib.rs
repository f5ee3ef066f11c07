//! Decides which job runs where and when.
//!
//! Everything here is a function of recorded state and of a time that the
//! shell read: no clock, no bus, no task. [`plan`] rereads the whole state each
//! time, so that the path after a crash is the path of every day; indexes keep
//! it from looking at more than what can change. [`Holder`] is the scheduler in
//! charge as a machine: inputs in, effects out.

mod admit;
mod adopt;
mod append;
mod attempt;
mod effect;
mod estimate;
mod filter;
mod gateways;
mod holder;
mod input;
mod ledger;
mod plan;
mod report;
mod state;
mod view;

pub use admit::{Limits, check};
pub use adopt::{Adopted, adopt, job_end};
pub use append::{Behind, behind};
pub use attempt::{Next, after_end, after_reply};
pub use effect::{Effect, Note};
pub use estimate::Durations;
pub use holder::Holder;
pub use input::{Input, Moment, Question, Reply, Token, WriteError};
pub use ledger::{Ledger, Write};
pub use plan::{Placement, Plan, Step, plan};
pub use report::{explain, explain_ended};
pub use state::{ClusterState, JobView, NodeView, Phase, ReplicaKey, ReplicaView};

/// Monotonic time since an arbitrary start.
pub type Now = std::time::Duration;
