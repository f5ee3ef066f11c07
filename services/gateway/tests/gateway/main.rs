//! The gateway over HTTP, on a real bus.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper that cannot do its work must fail its test on the spot"
)]

mod agent;
mod cancel;
mod chat;
mod cluster;
mod doors;
mod expired;
mod grants;
mod http;
mod idempotency;
mod large;
mod life;
mod progress;
mod refusals;
mod running;
mod slow;
mod stand_in;
mod tasks;
mod taxonomy;
mod views;
