//! The one binary people use: the command line over the gateway's HTTP API, and
//! `orchion up`, which runs everything on one machine.
//!
//! The command line knows HTTP only: what it does, a script with curl can do.

mod agent;
mod args;
mod commands;
mod exit;
mod follow;
mod gateway;
mod http;
mod join;
mod nats;
mod show;
mod sse;
mod task;
mod terminal;
mod up;

use std::process::ExitCode;

/// Runs the program from its command line to its exit code; see `orchion --help`.
#[must_use]
pub fn main() -> ExitCode {
    commands::run(std::env::args_os())
}
