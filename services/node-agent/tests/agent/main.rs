//! An agent on a real nats-server with mock engines; the tests play registry
//! and scheduler.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod brief;
mod cluster;
mod continuation;
mod engines;
mod granted;
mod large;
mod orders;
mod outages;
mod process;
mod seen;
mod watchdogs;
