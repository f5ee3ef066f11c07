//! An agent on a real nats-server with mock engines; the tests play registry
//! and scheduler.

mod cluster;
mod orders;
mod outages;
