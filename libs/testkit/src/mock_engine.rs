//! An OpenAI-compatible engine that computes nothing.
//!
//! It answers with the tokens of [`crate::wire`], as fast as a machine can write
//! them, and its timing, length, failures and slots are set by [`Options`] or,
//! per request, by the marker in the prompt. A prompt without a marker gets an
//! answer that depends on the prompt alone, so that probing twice compares.
//!
//! It is for tests, chaos runs and the bench; it never stands in for an engine
//! where the product is accepted.

mod answer;
mod chat;
mod options;
mod routes;
mod stats;
mod stream;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::background::Background;
use crate::clock::precise_timers;
use crate::wire::Fault;

pub use options::{Options, WhenFull};
pub use stats::Stats;

use stats::Counters;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;

/// A mock engine in this process, on a thread of its own. Dropping it breaks
/// every connection, as a killed engine does.
#[derive(Debug)]
pub struct MockEngine {
    addr: SocketAddr,
    engine: Arc<Engine>,
    _background: Background,
}

impl MockEngine {
    /// Starts an engine on `options.listen`; port 0, the default, is any free one.
    ///
    /// # Panics
    ///
    /// When it cannot listen there.
    pub fn start(options: Options) -> Self {
        let listen = options.listen;
        let engine = Arc::new(Engine::new(options));
        let (bound, addr) = std::sync::mpsc::channel();
        let serving = Arc::clone(&engine);
        let background = Background::start("mock-engine", move || async move {
            precise_timers();
            let listener = bind(listen).expect("listen for requests");
            let addr = listener.local_addr().expect("read the address");
            bound.send(addr).expect("tell the address");
            serve(listener, serving).await;
        });
        Self {
            addr: addr.recv().expect("learn the address"),
            engine,
            _background: background,
        }
    }

    /// Starts an engine of this name with the default options.
    ///
    /// # Panics
    ///
    /// As [`MockEngine::start`].
    pub fn named(name: &str) -> Self {
        Self::start(Options {
            name: name.to_owned(),
            ..Options::default()
        })
    }

    /// Its base address, without `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has done so far.
    pub fn stats(&self) -> Stats {
        self.engine.counters.read(&self.engine.options.name)
    }

    /// Lets every request fail that does not ask for a fault of its own, from now
    /// on; none ends that.
    ///
    /// # Panics
    ///
    /// Never, but for a bug.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self.engine.fault.lock().expect("no panic under the lock") = fault;
    }
}

/// Serves until it is stopped from outside.
///
/// # Errors
///
/// When it cannot listen on `options.listen`.
pub async fn run(options: Options) -> io::Result<()> {
    let listener = bind(options.listen)?;
    serve(listener, Arc::new(Engine::new(options))).await;
    Ok(())
}

#[derive(Debug)]
struct Engine {
    slots: Option<Arc<Semaphore>>,
    counters: Counters,
    /// For requests without a fault of their own.
    fault: Mutex<Option<Fault>>,
    /// How often a nonce with a limited fault has come.
    faulted: Mutex<HashMap<u32, u32>>,
    options: Options,
}

impl Engine {
    fn new(options: Options) -> Self {
        Self {
            slots: (options.slots > 0).then(|| Arc::new(Semaphore::new(options.slots))),
            counters: Counters::default(),
            fault: Mutex::default(),
            faulted: Mutex::default(),
            options,
        }
    }

    /// The fault of the request `serial`, if it is to fail.
    fn fault_of(&self, asked: Option<&Fault>, nonce: u32, serial: u64) -> Option<Fault> {
        let fault = match asked {
            Some(fault) => fault.clone(),
            None => self.own_fault(serial)?,
        };
        let is_mine = fault
            .engine
            .as_ref()
            .is_none_or(|name| *name == self.options.name);
        (is_mine && self.is_due(&fault, nonce)).then_some(fault)
    }

    fn own_fault(&self, serial: u64) -> Option<Fault> {
        let set = self.fault.lock().expect("no panic under the lock").clone();
        set.or_else(|| self.options.fault(serial))
    }

    fn is_due(&self, fault: &Fault, nonce: u32) -> bool {
        let Some(times) = fault.times else {
            return true;
        };
        let mut faulted = self.faulted.lock().expect("no panic under the lock");
        let seen = faulted.entry(nonce).or_default();
        *seen += 1;
        *seen <= times
    }
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let socket = match listen {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A killed engine comes back on its port at once.
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    socket.listen(BACKLOG)
}

async fn serve(listener: TcpListener, engine: Arc<Engine>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((tcp, _)) = listener.accept().await else {
            // Out of file handles: some come back when connections end.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        if tcp.set_nodelay(true).is_err() {
            continue;
        }
        let engine = Arc::clone(&engine);
        connections.spawn(async move {
            let service = hyper::service::service_fn(|r| routes::handle(Arc::clone(&engine), r));
            // A connection that breaks is the client's affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(tcp), service)
                .await;
        });
    }
}

/// The address that [`Options::default`] listens on: any free loopback port.
fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}
