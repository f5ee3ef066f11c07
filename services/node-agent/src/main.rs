//! The program `orchion-node-agent`.

fn main() -> std::process::ExitCode {
    orchion_service::run(
        &orchion_node_agent::PROGRAM,
        orchion_node_agent::start,
        orchion_node_agent::healthcheck,
    )
}
