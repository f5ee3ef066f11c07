//! Keeps log records and the history of jobs.

fn main() -> std::process::ExitCode {
    orchion_service::run(
        &orchion_log_sink::PROGRAM,
        orchion_log_sink::start,
        orchion_log_sink::healthcheck,
    )
}
