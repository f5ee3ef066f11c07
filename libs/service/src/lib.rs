//! What every Orchion process does around its work.
//!
//! A service is a function `start(config, &Tasks)` that starts its parts and
//! returns. This crate gives it the rest: the command line and the
//! configuration, telemetry, supervision of its tasks, and an ordered shutdown.
//! A `main.rs` is three lines:
//!
//! ```ignore
//! fn main() -> std::process::ExitCode {
//!     orchion_service::run(&orchion_gateway::PROGRAM, orchion_gateway::start, orchion_gateway::healthcheck)
//! }
//! ```
//!
//! It knows neither the bus nor the contract, and it holds no global state but
//! the one tracing subscriber (and the panic hook that writes to it), so that
//! several services run in one process, each with its own [`Supervisor`].

pub mod config;
pub mod health;
mod program;
pub mod shutdown;
mod supervisor;
mod tasks;
pub mod telemetry;

/// Every program allocates with it: some 6 % less CPU for a request than with the
/// C library, for 5 % more memory. Its version 3 takes twice the memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub use config::{HumanDuration, Secret, Settings};
pub use health::Health;
pub use program::{Command, DEFAULT_GRACE, EXIT_USAGE, Flag, Program, Retired, VERSION, run};
pub use shutdown::Stop;
pub use supervisor::{Failure, Supervisor};
pub use tasks::Tasks;
