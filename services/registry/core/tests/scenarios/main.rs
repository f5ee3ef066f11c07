//! Lives of nodes, told in milliseconds of no real time.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod membership;
mod presence;
mod world;
