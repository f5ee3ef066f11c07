//! A whole cluster in one process: the real cores of registry, scheduler, agents
//! and readers on a simulated bus, in virtual time, under faults.
//!
//! Everything is a function of a [`Scenario`]: who there is, how much work, what
//! befalls them; its seed decides delays and all the rest. [`live`] plays it to
//! its end and says which promise was not kept, if any. The shells are simulated
//! beside the cores: they do on the simulated bus what the product's shells do
//! on NATS, and a planted fault ([`Mutant`]) is a shell or a server that does not.
#![warn(missing_docs)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer of the wrong kind is the same as none"
)]

mod agent;
mod check;
mod client;
mod counts;
mod gateway;
mod look;
mod many;
mod mutant;
mod names;
mod net;
mod outcome;
mod purpose;
mod random;
mod registry;
mod scenario;
mod scheduler;
mod server;
mod wire;
mod world;

pub use check::{Property, Violation};
pub use counts::Counts;
pub use many::{Failure, Report, caught_within, seeds, shrink};
pub use mutant::{MUTANTS, Mutant};
pub use scenario::{Fault, Role, Scenario, What};
pub use world::{Lived, live, watch};
