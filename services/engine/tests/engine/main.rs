//! The engine as its clients see it: a real server with a real model on a free port.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cancel;
mod chat;
mod continuation;
mod errors;
mod models;
#[cfg(unix)]
mod program;
mod server;
