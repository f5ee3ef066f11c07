//! The whole product from outside: separate binaries, a real nats-server, HTTP.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod continuation;
mod grants;
mod liveness;
mod openai_python;
mod privacy;
mod queue;
mod shutdown;
mod spread;
mod starter;
mod survival;
mod trouble;
