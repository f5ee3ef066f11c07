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
mod breaker;
mod doubt;
mod effect;
mod experience;
mod filter;
mod forecast;
mod gateways;
mod grants;
mod holder;
mod input;
mod ledger;
mod num;
mod outlook;
mod place;
mod plan;
#[cfg(feature = "planted-faults")]
pub mod planted;
mod policy;
mod report;
mod score;
mod state;
mod view;

pub use admit::{Check, Entry, ORDER, admit};
pub use adopt::{Adopted, adopt, job_end};
pub use append::{Behind, behind};
pub use attempt::{Next, after_end, after_reply};
pub use breaker::Breaker;
pub use doubt::Denials;
pub use effect::{Effect, Note};
pub use experience::{Demand, Experience, Lesson};
pub use forecast::{Forecast, forecast, predicted_start_ms};
pub use holder::Holder;
pub use input::{Input, Moment, Question, Reply, Token, WriteError};
pub use ledger::{Ledger, Write};
pub use outlook::Outlook;
pub use plan::{Plan, Step, plan};
pub use policy::{FullPolicy, PoolPolicy, Settings};
pub use report::{Decided, explain, explain_ended};
pub use score::{
    LEAST_LOADED, LeastLoaded, Load, RoundRobin, STRATEGIES, Score, Strategy, strategy,
};
pub use state::{ClusterState, JobView, NodeView, Phase, ReplicaKey, ReplicaView};

/// Monotonic time since an arbitrary start.
pub type Now = std::time::Duration;
