//! Translates HTTP to the bus and back.

fn main() -> std::process::ExitCode {
    orchion_service::run(
        &orchion_gateway::PROGRAM,
        orchion_gateway::start,
        orchion_gateway::healthcheck,
    )
}
