//! What tests, chaos runs and the bench share.
//!
//! Nothing here is part of the product, and no crate but `orchion-bench` and
//! `xtask` may depend on it outside `dev-dependencies`. Everything is real: a
//! `nats-server` per test, processes with signals, sockets with a cable that can
//! be cut. The one stand-in is the mock engine, which answers with tokens that
//! can be checked one by one.
//!
//! Helpers fail the test that uses them: they panic with what was awaited and
//! what was seen instead.

#![expect(
    clippy::expect_used,
    reason = "a helper that cannot do its work must fail its test on the spot"
)]

mod background;
pub mod clock;
pub mod cluster;
mod eventually;
pub mod http;
pub mod judge;
pub mod mock_engine;
pub mod nats;
pub mod port;
pub mod process;
pub mod proxy;
pub mod sse;
pub mod wire;

pub use cluster::Cluster;
pub use eventually::{Outcome, eventually};
pub use http::HttpClient;
pub use mock_engine::MockEngine;
pub use nats::NatsServer;
pub use port::free_port;
pub use process::{Program, Running};
pub use proxy::Proxy;
