//! The log sink on a real nats-server, as a real process.

mod keeping;
mod querying;
mod world;
