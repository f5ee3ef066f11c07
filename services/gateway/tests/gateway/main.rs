//! The gateway over HTTP, on a real bus.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a helper that cannot do its work must fail its test on the spot"
)]

mod cancel;
mod chat;
mod cluster;
mod doors;
mod expired;
mod idempotency;
mod large;
mod life;
mod progress;
mod refusals;
mod slow;
mod tasks;
mod taxonomy;
mod views;
