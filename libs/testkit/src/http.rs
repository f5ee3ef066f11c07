//! A small HTTP/1.1 client: no hidden retries, so that every failure is seen.

mod client;
mod conn;

pub use client::{Answer, Error, EventStream, HttpClient};
pub use conn::{Conn, Target, TargetError};
