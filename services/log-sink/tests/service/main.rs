//! The log sink on a real nats-server, as a real process.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

mod keeping;
mod querying;
mod world;
