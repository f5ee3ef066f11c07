//! The program `orchion-engine`; see the library for what it is.

use std::process::ExitCode;

#[expect(
    unsafe_code,
    reason = "candle takes its thread count from the environment only"
)]
fn main() -> ExitCode {
    // Matrices are cut into parts for our own pool, whose threads sleep when idle;
    // candle's pool would spin beside it.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    orchion_engine::cli::run(std::env::args_os())
}
