//! The registry on a real nats-server.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod answers;
mod deaths;
mod world;
