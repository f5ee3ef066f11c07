//! The floor: what the kernel and NATS cost on this machine with nothing on top.
//!
//! `tcp` and `nats` measure round trips; `gateway` and `agent` are the least
//! program that carries an HTTP chat request over NATS and streams the answer
//! back. They route, retry, log and check nothing: they are a yardstick, not a
//! product.

mod agent;
mod gateway;
mod nats;
mod tcp;
mod wire;

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use clap::{Parser, Subcommand};
use orchion_bench::Hist;
use orchion_testkit::clock;

/// Floors: loopback TCP, NATS, and the least HTTP-over-NATS gateway.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Loopback TCP round trip between two threads.
    Tcp {
        #[arg(long, default_value_t = 20_000)]
        count: u64,
        #[arg(long, default_value_t = 256)]
        bytes: usize,
    },
    /// NATS request/reply round trip and message rate (needs a running `echo`).
    Nats(nats::NatsOptions),
    /// Answers `floor.echo` until stopped.
    Echo {
        #[arg(long, default_value = "127.0.0.1:4222")]
        nats: String,
    },
    /// HTTP on one side, NATS on the other.
    Gateway {
        #[arg(long, default_value = "127.0.0.1:4222")]
        nats: String,
        #[arg(long, default_value = "127.0.0.1:8090")]
        listen: SocketAddr,
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
    /// NATS on one side, an engine's HTTP on the other.
    Agent {
        #[arg(long, default_value = "127.0.0.1:4222")]
        nats: String,
        #[arg(long, default_value = "http://127.0.0.1:9101")]
        engine: String,
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
}

fn main() -> Result<()> {
    clock::raise_open_files();
    clock::precise_timers();
    match Cli::parse().command {
        Command::Tcp { count, bytes } => tcp::measure(count, bytes),
        Command::Nats(options) => runtime(1)?.block_on(nats::measure(&options)),
        Command::Echo { nats } => runtime(1)?.block_on(nats::echo(&nats)),
        Command::Gateway {
            nats,
            listen,
            threads,
        } => runtime(threads)?.block_on(gateway::serve(&nats, listen)),
        Command::Agent {
            nats,
            engine,
            threads,
        } => runtime(threads)?.block_on(agent::serve(&nats, &engine)),
    }
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder
        .worker_threads(threads.max(1))
        .enable_all()
        .build()?)
}

fn show(name: &str, hist: &Hist) -> Result<()> {
    let s = hist.summary();
    say(&format!(
        "{name:<44} p50 {:>7.1}  p90 {:>7.1}  p99 {:>7.1}  p99.9 {:>7.1} us",
        s.p50, s.p90, s.p99, s.p999
    ))
}

fn say(line: &str) -> Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// What another thread left half done is still what there is.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
