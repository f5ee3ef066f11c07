//! The scheduler as a program.

fn main() -> std::process::ExitCode {
    orchion_service::run(
        &orchion_scheduler::PROGRAM,
        orchion_scheduler::start,
        orchion_scheduler::healthcheck,
    )
}
