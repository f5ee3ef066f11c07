//! The registry on a real nats-server.

mod answers;
mod deaths;
mod world;
