//! The greeting of a NATS server: what it says before anybody has logged in.
//!
//! The command line speaks no NATS; this one line is all it needs to tell a
//! server from another program, and a good one from a bare one.

use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where `nats-server` listens unless told otherwise.
pub(crate) const DEFAULT_PORT: u16 = 4222;

const TIMEOUT: Duration = Duration::from_secs(2);
const MAX_GREETING_BYTES: u64 = 64 * 1024;

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Greeting {
    /// Its version.
    pub(crate) version: String,
    /// Whether it can store.
    #[serde(default)]
    pub(crate) jetstream: bool,
    /// Whether it wants user and password.
    #[serde(default)]
    pub(crate) auth_required: bool,
}

/// Why there is no greeting.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Nobody listens.
    Nobody(String),
    /// Somebody listens who is no NATS server.
    Another,
}

/// `HOST:PORT` of a URL as NATS clients take it.
pub(crate) fn address(url: &str) -> String {
    let first = url.split(',').next().unwrap_or(url).trim();
    let bare = first.split_once("://").map_or(first, |(_, rest)| rest);
    let host = bare.rsplit_once('@').map_or(bare, |(_, host)| host);
    let host = host.trim_end_matches('/');
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(before, port)| port.parse::<u16>().is_ok() && !before.ends_with(':'));
    if has_port {
        host.to_owned()
    } else {
        format!("{host}:{DEFAULT_PORT}")
    }
}

/// Connects to `HOST:PORT` and reads the greeting.
pub(crate) async fn greeting(address: &str) -> Result<Greeting, Silence> {
    let connected = timeout(TIMEOUT, TcpStream::connect(address)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Silence::Nobody(error.to_string())),
        Err(_) => return Err(Silence::Nobody("no answer in time".to_owned())),
    };
    let mut line = String::new();
    let mut reader = BufReader::new(stream.take(MAX_GREETING_BYTES));
    match timeout(TIMEOUT, reader.read_line(&mut line)).await {
        Ok(Ok(_)) => parse(&line).ok_or(Silence::Another),
        Ok(Err(_)) | Err(_) => Err(Silence::Another),
    }
}

fn parse(line: &str) -> Option<Greeting> {
    serde_json::from_str(line.strip_prefix("INFO ")?.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_urls() {
        assert_eq!(address("nats://localhost:4222"), "localhost:4222");
        assert_eq!(address("nats://me:pw@host:1,nats://b:2"), "host:1");
        assert_eq!(address("host"), "host:4222");
        assert_eq!(address("nats://[::1]:4333/"), "[::1]:4333");
    }

    #[test]
    fn only_a_nats_server_greets_like_one() {
        let greeting =
            parse("INFO {\"version\":\"2.15.1\",\"jetstream\":true,\"x\":1}\r\n").unwrap();
        assert!(greeting.jetstream && !greeting.auth_required);
        assert_eq!(parse("HTTP/1.1 400 Bad Request\r\n"), None);
    }
}
