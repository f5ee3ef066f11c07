//! Knows which nodes live and what they can do.

fn main() -> std::process::ExitCode {
    orchion_service::run(
        &orchion_registry::PROGRAM,
        orchion_registry::start,
        orchion_registry::healthcheck,
    )
}
