//! The gateway over HTTP, on a real bus.

mod chat;
mod cluster;
